"""llama.cpp's side of `cargo xtask parity --families`: a GGUF file that text2llm exported, compared with what text2llm computed.

    python parity_llama.py --gguf FILE --ours DIR [--lora FILE] [--tolerance 1e-3]

DIR of --ours holds ours.json and ours.safetensors (see parity.rs). Compared, within the context of the file: token ids of each text,
with and without the special tokens that the tokenizer adds; log-probabilities of all tokens after several prefixes of each text; greedy
continuations. A greedy difference counts unless the two likeliest tokens lie within the tolerance there. Also read by PyPI's `gguf`:
tensors, and their shapes. Exits 1 when anything differs.
"""
import argparse
import json
import math
import os
import pathlib
import sys
import urllib.request

import torch
import xllamacpp
from gguf import GGUFReader
from safetensors.torch import load_file

FAILURES = []


def check(name, good, detail=""):
    print(f"{'ok  ' if good else 'FAIL'} llama.cpp: {name}{': ' + detail if detail else ''}")
    if not good:
        FAILURES.append(name)


class Server:
    def __init__(self, gguf, lora, context):
        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.warmup, params.n_parallel = str(gguf), max(context, 256), False, 1
        params.cpuparams.n_threads, params.cpuparams_batch.n_threads = 2, 2
        # Exact sums: no half-precision cache.
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.verbosity = 0
        if lora:
            params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)]
        self.server = xllamacpp.Server(params)

    def post(self, route, **body):
        address = self.server.listening_address + route
        request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def tokenize(self, text, special):
        return self.post("/tokenize", content=text, add_special=special, parse_special=False)["tokens"]

    def complete(self, ids, **options):
        return self.post("/completion", prompt=ids, temperature=0.0, top_k=1, cache_prompt=False, return_tokens=True, **options)


def log_probabilities(server, ids, vocab_size):
    # The server leaves out the probabilities of a token that ends the text, or that is a part of a
    # character: so a letter is sampled, which does not change what is reported.
    letter = server.tokenize("a", False)[0]
    found = server.complete(ids, n_predict=1, n_probs=vocab_size, post_sampling_probs=False, logit_bias=[[letter, 1000.0]])
    values = torch.full((vocab_size,), math.nan)
    for entry in found["completion_probabilities"][0]["top_logprobs"]:
        values[entry["id"]] = entry["logprob"]
    return values


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--gguf", required=True, type=pathlib.Path)
    args.add_argument("--lora", type=pathlib.Path)
    args.add_argument("--ours", required=True, type=pathlib.Path)
    args.add_argument("--tolerance", type=float, default=1e-3)
    a = args.parse_args()
    ours = json.loads((a.ours / "ours.json").read_text())
    logits = load_file(a.ours / "ours.safetensors")
    for path in filter(None, [a.gguf, a.lora]):
        reader = GGUFReader(path)
        finite = all(torch.isfinite(torch.tensor(tensor.data)).all() for tensor in reader.tensors if tensor.tensor_type.name == "F32")
        check(f"PyPI's gguf reads {path.name}", bool(reader.tensors) and finite, f"{len(reader.tensors)} tensors")
    fields = GGUFReader(a.gguf).fields
    architecture = fields["general.architecture"].contents()
    context = fields[f"{architecture}.context_length"].contents()
    server = Server(a.gguf, a.lora, context)

    wrong_ids, wrong_bos, wrong_greedy, largest, compared, greedy = [], [], [], 0.0, 0, 0
    for case in ours["cases"]:
        # Servers take text as UTF-8 strings that end at a zero.
        if "\0" not in case["text"]:
            if server.tokenize(case["text"], False) != case["ids"]:
                wrong_ids.append(case["text"][:60])
            if server.tokenize(case["text"], True)[: len(case["sequence"])] != case["sequence"]:
                wrong_bos.append(case["text"][:60])
        sequence, values = case["sequence"], logits[case["name"]]
        longest = min(len(sequence), context - 1)
        for length in sorted({1, longest // 3, longest * 2 // 3, longest} - {0}):
            theirs = log_probabilities(server, sequence[:length], ours["vocab_size"])
            difference = theirs - values[length - 1].log_softmax(-1)
            largest = max(largest, float(difference.abs().max()))
            compared += 1
        prompt, written = case["prompt"], case["greedy"]
        if 0 < len(prompt) and len(prompt) + len(written) <= context - 1:
            answer = server.complete(prompt, n_predict=len(written), ignore_eos=False)
            theirs = answer["tokens"]
            # The server leaves out what ends the text.
            ours_shown = [id for id in written if id != ours["eos"]]
            theirs = [id for id in theirs if id != ours["eos"]]
            greedy += 1
            for position, (x, y) in enumerate(zip(ours_shown, theirs)):
                if x != y:
                    there = log_probabilities(server, prompt + theirs[:position], ours["vocab_size"])
                    if abs(float(there[x] - there[y])) > a.tolerance:
                        wrong_greedy.append(case["text"][:60])
                    break
            else:
                if len(ours_shown) != len(theirs):
                    wrong_greedy.append(case["text"][:60])
    check(f"token ids of {len(ours['cases'])} texts", not wrong_ids, repr(wrong_ids) if wrong_ids else "")
    check("BOS is added as we add it", not wrong_bos, repr(wrong_bos) if wrong_bos else "")
    detail = f"largest difference {largest:.2e} (tolerance {a.tolerance:g})"
    check(f"log-probabilities of all tokens after {compared} prefixes", largest <= a.tolerance, detail)
    check(f"{greedy} greedy continuations", not wrong_greedy, repr(wrong_greedy) if wrong_greedy else "")
    # The server's threads outlive it.
    sys.stdout.flush()
    if FAILURES:
        print(f"{len(FAILURES)} of the comparisons failed: {', '.join(FAILURES)}", file=sys.stderr, flush=True)
    os._exit(1 if FAILURES else 0)


if __name__ == "__main__":
    main()
