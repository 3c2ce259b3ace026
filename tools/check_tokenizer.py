#!/usr/bin/env python3
"""Checks that tokenizer folders load in `transformers` unchanged and give the same ids and texts as text2llm.

Each folder contains the tokenizer's three files and `expected.json`: texts, their ids without BOS, what these
decode to, and the special ids. The test `transformers` of the crate `tokenizer` writes such folders and runs this script if
TEXT2LLM_PYTHON names a Python that has `transformers`:

    TEXT2LLM_PYTHON=…/venv/bin/python cargo test --release -p tokenizer transformers
"""

import json
import sys
import tempfile
from pathlib import Path

from transformers import AutoTokenizer


def check(tokenizer, expected, where):
    assert tokenizer.is_fast, where
    assert len(tokenizer) == expected["vocab_size"], f"{where}: {len(tokenizer)} tokens"
    special = {role: getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad", "unk")}
    assert special == expected["special"], f"{where}: {special}"
    for text, ids, decoded in zip(expected["texts"], expected["ids"], expected["decoded"], strict=True):
        theirs = tokenizer(text, add_special_tokens=False).input_ids
        assert theirs == ids, f"{where}: {text!r} gives {theirs}, not {ids}"
        with_bos = tokenizer(text).input_ids
        assert with_bos == [special["bos"], *ids], f"{where}: {text!r} with BOS gives {with_bos}"
        theirs = tokenizer.decode(with_bos, skip_special_tokens=True)
        assert theirs == decoded, f"{where}: {text!r} decodes to {theirs!r}, not {decoded!r}"
    spelled = tokenizer(expected["spelled"], add_special_tokens=False, split_special_tokens=True).input_ids
    assert spelled == expected["spelled_ids"], f"{where}: special tokens spelled in text give {spelled}"
    batch = tokenizer(expected["texts"], padding=True)
    rows = {len(row) for row in batch.input_ids}
    assert len(rows) == 1, f"{where}: padding does not work"


def main():
    for folder in map(Path, sys.argv[1:]):
        expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        check(tokenizer, expected, folder.name)
        with tempfile.TemporaryDirectory() as again:
            tokenizer.save_pretrained(again)
            check(AutoTokenizer.from_pretrained(again), expected, f"{folder.name}, saved again")
        print(f"{folder.name}: {type(tokenizer).__name__}, {len(expected['texts'])} texts agree")


if __name__ == "__main__":
    main()
