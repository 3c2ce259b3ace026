"""The other side of `cargo xtask parity`: a model folder in transformers, compared with what text2llm computed from it.

    python parity.py --model DIR --ours DIR [--adapter DIR] [--tolerance 1e-3]

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
    args.add_argument("--adapter", help="an adapter of text2llm's, loaded by PEFT")
    args.add_argument("--ours", required=True, type=pathlib.Path)
    args.add_argument("--tolerance", type=float, default=1e-3)
    a = args.parse_args()
    transformers.logging.set_verbosity_error()  # it warns of sequences longer than the context, which are only tokenized here
    transformers.logging.disable_progress_bar()
    ours = json.loads((a.ours / "ours.json").read_text())
    logits = load_file(a.ours / "ours.safetensors")
    # AutoTokenizer goes by the model's family; a folder may name the general class.
    named = json.loads((pathlib.Path(a.model) / "tokenizer_config.json").read_text()).get("tokenizer_class")
    general = named in ("PreTrainedTokenizerFast", "TokenizersBackend")
    loader = transformers.PreTrainedTokenizerFast if general else transformers.AutoTokenizer
    tokenizer = loader.from_pretrained(a.model)
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32, output_loading_info=True)
    if a.adapter:
        import peft

        model = peft.PeftModel.from_pretrained(model, a.adapter)
    model.eval()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}: {type(model).__name__}, {type(tokenizer).__name__}")
    wrong = {key: names for key, names in loading.items() if names}
    check("every weight of the class is in the file, and no other", not wrong, str(wrong) if wrong else "")
    specials = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    check("special tokens", specials == (ours["bos"], ours["eos"]), f"{specials}")
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
        detail = f"largest difference {largest:.2e} (tolerance {a.tolerance:g}, largest logit {scale:.1f})"
        check("logits", largest <= a.tolerance, detail)
        check("greedy continuations", not wrong_greedy, repr(wrong_greedy) if wrong_greedy else "")

        wrong_commands = []
        for command in ours["commands"]:
            prompt = tokenizer(command["prompt"], return_tensors="pt")
            prompt.pop("token_type_ids", None)
            written = model.generate(
                **prompt, do_sample=False, max_new_tokens=ours["max_new_tokens"], pad_token_id=tokenizer.pad_token_id,
            )[0, prompt["input_ids"].shape[1]:]
            text = tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            if text != command["text"]:
                wrong_commands.append((command["prompt"], command["text"], text))
        name = "`text2llm generate` writes what transformers' generate writes"
        check(name, not wrong_commands, repr(wrong_commands) if wrong_commands else "")
    if FAILURES:
        sys.exit(f"{len(FAILURES)} of the comparisons failed: {', '.join(FAILURES)}")
    print("parity holds")


if __name__ == "__main__":
    main()
