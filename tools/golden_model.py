"""Golden numbers for crates/model: what PyTorch and transformers compute for three tiny models.

    python tools/golden_model.py [--out crates/model/tests/golden]

Needs PyPI torch and transformers (the committed fixtures: torch 2.15.0, transformers 5.23.0). `rope.json` has the
rotary frequencies of each scaling type. Each variant gives two files:

    NAME.json         config.json as transformers writes it, the batch, losses and gradient norms (float64)
    NAME.safetensors  weight.*    weights before the first step
                      gradient.*  gradient of the first step's loss, before clipping
                      final.*     weights after ten AdamW steps on the same batch
                      logits      (B, T, V) of the first step

The loss is the sum of token weight × negative log-likelihood over the sum of token weights. Attention is causal
within a document; positions are NOT reset at document starts: the position of a token is its index in the row.
Everything is computed in float64, also where transformers would use float32 (norms, softmax, the rotary table),
and stored as float32.
"""
import argparse
import contextlib
import json
import math
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

B, T, STEPS = 3, 19, 10
LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY, CLIP = 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0

COMMON = dict(
    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5,
    bos_token_id=1, eos_token_id=2, pad_token_id=0, attention_dropout=0.0,
)
VARIANTS = {
    "llama_tied": (modeling_llama, "Llama", dict(
        vocab_size=97, hidden_size=32, intermediate_size=48, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )),
    # head_dim is not hidden_size / num_attention_heads; an MLP width that no vector width divides.
    "qwen3_untied": (modeling_qwen3, "Qwen3", dict(
        vocab_size=61, hidden_size=24, intermediate_size=45, head_dim=10, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    )),
    # The four frequencies fall on all three branches of the llama3 rule: kept, blended, divided.
    "qwen2_llama3_rope": (modeling_qwen2, "Qwen2", dict(
        vocab_size=83, hidden_size=32, intermediate_size=44, tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 50.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    )),
}


class Float64Torch:
    """The torch module, but `float32` and `float` mean float64: transformers' upcasts then keep the precision."""

    float32 = float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def all_float64(module):
    tensor_float = torch.Tensor.float
    module.torch, torch.Tensor.float = Float64Torch(), torch.Tensor.double
    try:
        yield
    finally:
        module.torch, torch.Tensor.float = torch, tensor_float


def inverse_frequencies(config):
    """The rotary frequencies in float64, from the published formulas (Su et al. 2021; Llama 3.1's model code)."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    out = []
    for i in range(0, head_dim, 2):
        frequency = rope["rope_theta"] ** (-i / head_dim)
        if rope["rope_type"] == "llama3":
            wavelength, context = 2 * math.pi / frequency, rope["original_max_position_embeddings"]
            low, high = rope["low_freq_factor"], rope["high_freq_factor"]
            if wavelength > context / low:
                frequency /= rope["factor"]
            elif wavelength >= context / high:
                smooth = (context / wavelength - low) / (high - low)
                frequency = (1 - smooth) * frequency / rope["factor"] + smooth * frequency
        out.append(frequency)
    return torch.tensor(out, dtype=torch.float64)


ROPE_CASES = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 2.5},
    {"rope_type": "dynamic", "factor": 4.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 64, "attention_factor": 0.75, "beta_fast": 8.0, "beta_slow": 2.0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128},
]


def rope_cases():
    """transformers' float32 values for a head of 24, θ = 10,000, a context of 256; `dynamic` also at 1,000 tokens."""
    for parameters in ROPE_CASES:
        for length in (256, 1000) if parameters["rope_type"] == "dynamic" else (256,):
            rope = parameters | {"rope_theta": 10000.0}
            config = transformers.LlamaConfig(
                hidden_size=96, num_attention_heads=4, max_position_embeddings=256, rope_parameters=rope,
            )
            rotary = modeling_llama.LlamaRotaryEmbedding(config)
            rotary(torch.zeros(1), torch.arange(length)[None])
            yield {
                "head_dim": 24, "rope_theta": 10000.0, "max_position_embeddings": 256, "sequence_length": length,
                "rope_scaling": parameters, "attention_factor": rotary.attention_scaling,
                "inverse_frequencies": rotary.inv_freq.double().tolist(),
            }


def batch(vocab_size, generator):
    """Row 0: one document. Row 1: documents at 0, 7, 8 (one token), 15. Row 2: starts mid-document, next at 3; padded."""
    ids = torch.randint(3, vocab_size, (B, T + 1), generator=generator)
    starts = torch.zeros(B, T, dtype=torch.long)
    weights = torch.ones(B, T, dtype=torch.float64)
    for first, end in [(7, 8), (8, 15), (15, T)]:
        starts[1, first:end] = first
        weights[1, first - 1] = 0.0  # the target there is the next document's first token
    starts[2, 3:] = 3
    weights[2, 2] = 0.0
    weights[2, 9:13] = 0.25  # fractional weights
    ids[2, 17:] = 0
    weights[2, 16:] = 0.0
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), starts, weights


def attention_mask(starts, dtype):
    query, key = torch.arange(T)[:, None], torch.arange(T)[None, :]
    allowed = (key <= query) & (key >= starts[:, :, None])
    return torch.zeros(B, 1, T, T, dtype=dtype).masked_fill(~allowed[:, None], torch.finfo(dtype).min)


def forward(model, tokens, starts):
    positions = torch.arange(T).expand(B, T)
    mask = attention_mask(starts, model.dtype)
    return model(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False).logits


def weighted_loss(logits, targets, weights):
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return (nll * weights.flatten()).sum() / weights.sum()


def initialize(model, generator):
    """Values that float32 holds exactly; norms and biases away from their trivial 1 and 0."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                parameter.copy_(1.0 + 0.2 * noise)
            else:
                parameter.copy_((0.3 if name.endswith("bias") else 0.08) * noise)


def stored(prefix, tensors):
    return {f"{prefix}.{name}": tensor.detach().to(torch.float32).clone().contiguous() for name, tensor in tensors}


def make(name, out):
    module, family, options = VARIANTS[name]
    generator = torch.Generator().manual_seed(sum(name.encode()))
    config = getattr(transformers, f"{family}Config")(**COMMON, **options)
    model = getattr(transformers, f"{family}ForCausalLM")._from_config(config, attn_implementation="eager", dtype=torch.float32)
    initialize(model, generator)
    tokens, targets, starts, weights = batch(config.vocab_size, generator)
    model.eval()
    with torch.no_grad():
        plain_logits = forward(model, tokens, starts)

    model = model.to(torch.float64)
    rotary = model.model.rotary_emb
    frequencies = inverse_frequencies(config)
    assert torch.allclose(rotary.inv_freq.double(), frequencies, rtol=1e-6), "transformers' rotary table differs from the formula"
    rotary.inv_freq = frequencies
    tensors = stored("weight", model.named_parameters())

    with all_float64(module):
        with torch.no_grad():
            changed = tokens.clone()
            changed[1, :7] = (changed[1, :7] + 5) % config.vocab_size
            difference = (forward(model, tokens, starts) - forward(model, changed, starts)).abs().amax(-1)[1]
            assert (difference[:7] > 1e-6).all() and (difference[7:] == 0).all(), "attention crosses a document boundary"
        decay = [p for p in model.parameters() if p.dim() == 2]
        rest = [p for p in model.parameters() if p.dim() != 2]
        groups = [{"params": decay, "weight_decay": WEIGHT_DECAY}, {"params": rest, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, eps=EPSILON)
        losses, norms = [], []
        for step in range(STEPS):
            logits = forward(model, tokens, starts)
            assert logits.dtype == torch.float64
            loss = weighted_loss(logits, targets, weights)
            loss.backward()
            if step == 0:
                assert (logits - plain_logits).abs().max() < 1e-5, "float64 run differs from plain transformers"
                tensors |= stored("gradient", [(n, p.grad) for n, p in model.named_parameters()])
                tensors["logits"] = logits.detach().to(torch.float32)
            norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item())
            losses.append(loss.item())
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    tensors |= stored("final", model.named_parameters())

    save_file(tensors, out / f"{name}.safetensors", metadata={"format": "pt"})
    record = {
        "made_by": f"tools/golden_model.py, torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}",
        "config": json.loads(config.to_json_string(use_diff=False)) | {"architectures": [f"{family}ForCausalLM"]},
        "optimizer": {
            "learning_rate": LEARNING_RATE, "beta1": BETAS[0], "beta2": BETAS[1], "epsilon": EPSILON, "weight_decay": WEIGHT_DECAY,
            "max_gradient_norm": CLIP,
        },
        "batch_size": B, "sequence_length": T, "tokens": tokens.flatten().tolist(), "targets": targets.flatten().tolist(),
        "document_starts": starts.flatten().tolist(), "weights": weights.flatten().tolist(),
        "losses": losses, "gradient_norms": norms,
    }
    lines = ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in record.items())
    (out / f"{name}.json").write_text("{\n" + lines + "\n}\n")
    (out / f"{name}.safetensors").chmod(0o644)
    sizes = sum(t.numel() * 4 for t in tensors.values())
    print(f"{name}: loss {losses[0]:.6f} -> {losses[-1]:.6f}, gradient norm {norms[0]:.4f}, {len(tensors)} tensors, {sizes} bytes")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--out", default="crates/model/tests/golden", type=pathlib.Path)
    a = args.parse_args()
    torch.set_num_threads(1)
    a.out.mkdir(parents=True, exist_ok=True)
    for name in VARIANTS:
        make(name, a.out)
    (a.out / "rope.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in rope_cases()) + "\n]\n")


if __name__ == "__main__":
    main()
