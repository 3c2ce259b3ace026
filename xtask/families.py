"""Small random models of every family, as transformers writes them, for `cargo xtask parity --families`.

    python families.py --out DIR

Each folder has the family's keys set so that they matter: windows shorter than the texts, layers without rotary positions, scaled
rotary positions, biases, tied and separate output layers, weights in one file and in several.
"""
import argparse
import pathlib

import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEXTS = [pathlib.Path(__file__).read_text(), "Le cœur a ses raisons, l’été, déjà vu. Привет, мир! 中文字符 日本語 🙂 "] * 20
COMMON = dict(
    vocab_size=600, hidden_size=96, intermediate_size=160, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=2,
    max_position_embeddings=512, initializer_range=0.2, bos_token_id=0, eos_token_id=1, pad_token_id=1, tie_word_embeddings=False,
)
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}


def tokenizer():
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    bpe.train_from_iterator(TEXTS, trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return t.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def families():
    def config(kind, **more):
        return kind(**{**COMMON, **more})

    yield "llama2", t.LlamaForCausalLM, config(t.LlamaConfig, rope_theta=5000.0)
    yield "llama3", t.LlamaForCausalLM, config(t.LlamaConfig, rope_parameters=LLAMA3)
    yield "smollm2", t.LlamaForCausalLM, config(t.LlamaConfig, tie_word_embeddings=True)
    yield "tinyllama", t.LlamaForCausalLM, config(t.LlamaConfig, num_key_value_heads=1, head_dim=24)
    yield "mistral", t.MistralForCausalLM, config(t.MistralConfig, sliding_window=48)
    yield "mistral-full", t.MistralForCausalLM, config(t.MistralConfig, sliding_window=None, head_dim=32)
    yield "qwen2", t.Qwen2ForCausalLM, config(t.Qwen2Config, tie_word_embeddings=True)
    window = dict(use_sliding_window=True, sliding_window=40, max_window_layers=2)
    yield "qwen2-window", t.Qwen2ForCausalLM, config(t.Qwen2Config, **window)
    yield "qwen3", t.Qwen3ForCausalLM, config(t.Qwen3Config, head_dim=24)
    yield "smollm3", t.SmolLM3ForCausalLM, config(t.SmolLM3Config, no_rope_layer_interval=2)
    yield "smollm3-fourth", t.SmolLM3ForCausalLM, config(t.SmolLM3Config, head_dim=16)
    yield "linear", t.LlamaForCausalLM, config(t.LlamaConfig, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0})
    yield "yarn", t.Qwen2ForCausalLM, config(t.Qwen2Config, rope_parameters=YARN)
    yield "qwen3-bias", t.Qwen3ForCausalLM, config(t.Qwen3Config, head_dim=32, attention_bias=True)
    yield "phi3", t.Phi3ForCausalLM, config(t.Phi3Config, sliding_window=60, original_max_position_embeddings=512)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--out", required=True, type=pathlib.Path)
    a = args.parse_args()
    words = tokenizer()
    for index, (name, kind, config) in enumerate(families()):
        torch.manual_seed(index)
        model = kind(config)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                # Norms and biases, which would be ones and zeros; the output projection's must be zero.
                if parameter.dim() == 1 and not key.endswith("o_proj.bias"):
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        folder = a.out / name
        # Alternately in one file and in several.
        model.save_pretrained(folder, max_shard_size="50GB" if index % 2 else "300KB")
        words.save_pretrained(folder)


if __name__ == "__main__":
    main()
