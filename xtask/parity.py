"""The other side of `cargo xtask parity`: an exported folder in transformers, compared with what text2llm computed from it.

    python parity.py --model DIR --ours DIR [--tolerance 1e-3]

DIR of --ours holds ours.json and ours.safetensors (see parity.rs). Compared: token ids and decoded text of each text, with and without
the special tokens that the tokenizer adds; all logits in float32; greedy continuations; the text of `text2llm generate`. A greedy
difference counts unless the two likeliest logits lie within the tolerance there. Exits 1 when anything differs.
"""
import argparse
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file

FAILURES = []


def check(name, good, detail=""):
    print(f"{'ok  ' if good else 'FAIL'} {name}{': ' + detail if detail else ''}")
    if not good:
        FAILURES.append(name)


def same_greedy(model, prompt, ours, theirs, tolerance):
    """Equal, or parted first where the model itself can hardly decide."""
    for position, (a, b) in enumerate(zip(ours, theirs)):
        if a != b:
            ids = torch.tensor([prompt + theirs[:position]])
            logits = model(input_ids=ids).logits[0, -1]
            return abs(float(logits[a] - logits[b])) <= tolerance
    return len(ours) == len(theirs)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--model", required=True)
    args.add_argument("--ours", required=True, type=pathlib.Path)
    args.add_argument("--tolerance", type=float, default=1e-3)
    a = args.parse_args()
    ours = json.loads((a.ours / "ours.json").read_text())
    logits = load_file(a.ours / "ours.safetensors")
    tokenizer = transformers.AutoTokenizer.from_pretrained(a.model)
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32, output_loading_info=True)
    model.eval()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}: {type(model).__name__}, {type(tokenizer).__name__}")
    check("every weight of the class is in the file, and no other", not any(loading.get(k) for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), str({k: v for k, v in loading.items() if v}) if any(loading.values()) else "")
    check("special tokens", (tokenizer.bos_token_id, tokenizer.eos_token_id) == (ours["bos"], ours["eos"]), f"{tokenizer.bos_token_id}, {tokenizer.eos_token_id}")
    check("vocabulary", len(tokenizer) <= ours["vocab_size"] == model.config.vocab_size, f"{len(tokenizer)} of {ours['vocab_size']}")

    wrong_ids, wrong_bos, wrong_text, wrong_greedy, largest, scale = [], [], [], [], 0.0, 0.0
    with torch.no_grad():
        for case in ours["cases"]:
            if tokenizer.encode(case["text"], add_special_tokens=False) != case["ids"]:
                wrong_ids.append(case["text"][:60])
            if tokenizer.encode(case["text"])[: len(case["sequence"])] != case["sequence"]:
                wrong_bos.append(case["text"][:60])
            if tokenizer.decode(case["ids"], clean_up_tokenization_spaces=False) != case["decoded"]:
                wrong_text.append(case["text"][:60])
            theirs = model(input_ids=torch.tensor([case["sequence"]])).logits[0]
            largest = max(largest, float((theirs - logits[case["name"]]).abs().max()))
            scale = max(scale, float(theirs.abs().max()))
            prompt = torch.tensor([case["prompt"]])
            written = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=len(case["greedy"]),
                eos_token_id=ours["eos"], pad_token_id=tokenizer.pad_token_id,
            )[0, prompt.shape[1]:].tolist()
            if not same_greedy(model, case["prompt"], case["greedy"], written, a.tolerance):
                wrong_greedy.append(case["text"][:60])
        count = len(ours["cases"])
        check(f"token ids of {count} texts", not wrong_ids, repr(wrong_ids) if wrong_ids else "")
        check("BOS is added as we add it", not wrong_bos, repr(wrong_bos) if wrong_bos else "")
        check("decoded text", not wrong_text, repr(wrong_text) if wrong_text else "")
        check("logits", largest <= a.tolerance, f"largest difference {largest:.2e} (tolerance {a.tolerance:g}, largest logit {scale:.1f})")
        check("greedy continuations", not wrong_greedy, repr(wrong_greedy) if wrong_greedy else "")

        command = ours["command"]
        prompt = tokenizer(command["prompt"], return_tensors="pt")
        prompt.pop("token_type_ids", None)
        written = model.generate(**prompt, do_sample=False, max_new_tokens=command["max_new_tokens"], pad_token_id=tokenizer.pad_token_id)[0]
        text = tokenizer.decode(written[prompt["input_ids"].shape[1]:], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        expected = command["text"].removeprefix(command["prompt"])
        check("`text2llm generate` and transformers' generate write the same", text == expected, repr(text[:60]) if text == expected else f"{expected!r} / {text!r}")
    if FAILURES:
        sys.exit(f"{len(FAILURES)} of the comparisons failed: {', '.join(FAILURES)}")
    print("parity holds")


if __name__ == "__main__":
    main()
