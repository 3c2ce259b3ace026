"""TRL's SFTTrainer with PEFT's LoRA, on the tokens that `text2llm finetune` trains: conversations a second, memory, validation loss.

    python tools/finetune_peer.py --program target/release/text2llm --model SmolLM2-135M-Instruct --chat-template chatml \
        --data train.jsonl --validation val.jsonl --seq 1536 --batch 4 --epochs 1 --packing bfd --seed 1

`text2llm data show-mask --json` renders each record, so that both train the same tokens. Rank 16, alpha 32, dropout 0.05 on all linear
layers; AdamW, cosine to a tenth after 3 % of warm-up, clipping 1.0. `--packing none` pads batches of examples, grouped by length.
`bf16` is autocast over f32 weights, as the trainer does it, and adapters stay in f32. The validation loss is the mean over trained tokens,
one example at a time. Needs PyPI torch, transformers, peft, trl.
"""
import argparse
import json
import math
import resource
import subprocess
import time

import datasets
import peft
import torch
import transformers
import trl


def rendered(a, file):
    """Ids and masks of a file's records, as the program renders them."""
    with open(file, encoding="utf-8") as lines:
        count = sum(1 for line in lines if line.strip())
    examples = []
    for line in range(1, count + 1):
        command = [a.program, "data", "show-mask", file, "--line", str(line), "--init", a.model, "--json"]
        if a.chat_template:
            command += ["--chat-template", a.chat_template]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        event = next(e for e in map(json.loads, out.splitlines()) if e.get("event") == "mask")
        if len(event["ids"]) <= a.seq + 1:
            examples.append({"input_ids": event["ids"], "assistant_masks": [int(m) for m in event["mask"]]})
    return examples


@torch.no_grad()
def validation_loss(model, examples, bf16):
    """Mean loss over trained tokens, in nats."""
    model.eval()
    total, count = 0.0, 0
    for example in examples:
        ids = torch.tensor([example["input_ids"]])
        mask = torch.tensor(example["assistant_masks"][1:], dtype=torch.bool)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(input_ids=ids).logits
        losses = torch.nn.functional.cross_entropy(logits[0, :-1].float(), ids[0, 1:], reduction="none")
        total += losses[mask].double().sum().item()
        count += int(mask.sum())
    return total / count, count


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--program", required=True)
    args.add_argument("--model", required=True, help="a local Hugging Face folder")
    args.add_argument("--chat-template")
    args.add_argument("--data", required=True)
    args.add_argument("--validation")
    args.add_argument("--dtype", choices=["f32", "bf16"], default="bf16")
    args.add_argument("--packing", choices=["bfd", "wrapped", "none"], default="bfd")
    args.add_argument("--attention", default="sdpa")
    args.add_argument("--seq", type=int, default=1536)
    args.add_argument("--batch", type=int, default=4)
    args.add_argument("--accumulation", type=int, default=1, help="batches per optimizer step")
    args.add_argument("--epochs", type=float, default=1)
    args.add_argument("--steps", type=int, default=-1)
    args.add_argument("--learning-rate", type=float, default=1e-3)
    args.add_argument("--dropout", type=float, default=0.05)
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--threads", type=int, default=2)
    a = args.parse_args()
    torch.set_num_threads(a.threads)
    transformers.set_seed(a.seed)
    train = rendered(a, a.data)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        a.model, dtype=torch.float32, attn_implementation=a.attention, local_files_only=True)
    model.config.use_cache = False
    tokenizer = transformers.AutoTokenizer.from_pretrained(a.model, local_files_only=True)
    config = trl.SFTConfig(
        output_dir="/tmp/finetune_peer", max_length=a.seq, packing=a.packing != "none",
        packing_strategy=a.packing if a.packing != "none" else "bfd",
        train_sampling_strategy="group_by_length" if a.packing == "none" else "random",
        per_device_train_batch_size=a.batch, gradient_accumulation_steps=a.accumulation, num_train_epochs=a.epochs, max_steps=a.steps, learning_rate=a.learning_rate,
        lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": 0.1}, warmup_steps=0.03,
        weight_decay=0.0, max_grad_norm=1.0, seed=a.seed, bf16=a.dtype == "bf16", use_cpu=True, gradient_checkpointing=False,
        save_strategy="no", report_to="none", logging_steps=1, disable_tqdm=True, dataloader_num_workers=0)
    lora = peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=a.dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = trl.SFTTrainer(
        model=model, args=config, train_dataset=datasets.Dataset.from_list(train), processing_class=tokenizer, peft_config=lora)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    tokens = sum(len(e["input_ids"]) for e in train)
    epochs = trainer.state.epoch
    result = {
        "peer": f"trl {trl.__version__}, peft {peft.__version__}, torch {torch.__version__}", "dtype": a.dtype, "packing": a.packing,
        "attention": a.attention, "seq": a.seq, "batch": a.batch, "accumulation": a.accumulation, "seed": a.seed, "threads": a.threads, "steps": trainer.state.global_step,
        "epochs": round(epochs, 3), "conversations": len(train), "tokens": tokens, "seconds": round(seconds, 1),
        "conversations_per_s": round(len(train) * epochs / seconds, 3), "tokens_per_s": round(tokens * epochs / seconds, 1),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if a.validation:
        loss, count = validation_loss(trainer.model, rendered(a, a.validation), a.dtype == "bf16")
        assert math.isfinite(loss)
        result |= {"validation_loss": round(loss, 4), "validation_tokens": count}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
