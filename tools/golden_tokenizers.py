#!/usr/bin/env python3
"""Writes small tokenizers of other programs' forms, with what `transformers` gives for them.

Each folder of OUT has a tokenizer's files as their program writes them, `expected.json` (texts, their ids, the
ids with what the post-processor adds, decoded texts, special ids) and, where a GGUF file can describe the same
tokenizer, `gguf.json` with its metadata. The tests of the crate `tokenizer` read
crates/tokenizer/tests/golden/foreign, which was made by

    tools/golden_tokenizers.py crates/tokenizer/tests/golden/foreign [FOLDER…]

(further folders are copied there, with their `expected.json`: `qwen2_like` is one that transformers 5 wrote),
and run this script again, into a temporary folder, where TEXT2LLM_PYTHON names a Python with `transformers`.
Made with transformers 5.24 and tokenizers 0.23.3.
"""

import json
import random
import shutil
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordLevel
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import generate_merges

SENTENCES = [
    "The quick brown fox jumps over the lazy dog. It's the 1st of 25 days, isn't it?\n\n",
    "Le renard brun saute par-dessus le chien paresseux ; c'est l'été, n'est-ce pas ?\n",
    "Select the text that you want to format, and then choose Format - Character.\n",
    "def main():\n    x = 42\n\tprint(f\"{x}\")\n",
    "Straße, Ärger und Übermut kosten 1234567 Euro.\n",
]
TEXTS = [
    "", " ", "  ", "\n", "\n\n", "a", " a", "a ", "  two  spaces  ", "\ttab\t", "Hello world", "HELLO World don't",
    "It's the 1st of 25 days, isn't it?\n\n", "1234567 8½ ²", "l'ÉTÉ «oui»…", "x\u0301 e\u0301 café cafe\u0301",
    "日本語 🙂\u200b 한국어", "👩‍👩‍👧‍👦", "a\u0000b", "a  b\t\r\n  c   ", "\r\n\r\n", "   \n  x", "x   \n\n   y\n",
    "<s>text</s>", "<|im_start|>user\nHi<|im_end|>\n", "<|endoftext|>", "<think>why</think> <tool_call>{}</tool_call>",
    "[TOOL] x [TOOL]y  [TOOL]  z", "WORD words WORD, WORDWORD", "a▁b ▁ ▁▁c", "<0x41><0x0A>", "\ufeffbom\ufeff",
    "Ġa Ċ", "ſ'S 'ſ 'LL 'll", "\u0085\u00a0\u2028x\u3000y", "#include <stdio.h>\nint main() { return 0; }",
    "don't . stop , now ! n't 's ' x '", " " * 70 + "x", "ab" * 90, "…" * 40, "\u0f71\u0f72 q\u0307\u0323 \u212b",
    "The fox's l'été (été) \"quoted\" — dash–dash", "www.example.com/path?x=1&y=2#z", "🙂🙂 🙂",
]
QWEN2 = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK_V3 = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
]


def corpus():
    return [SENTENCES[i % 5] + SENTENCES[(i * 7 + i // 5) % 5] for i in range(60)]


def splits(*patterns):
    parts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level(pre_tokenizer, normalizer=None, size=380, first=()):
    """Byte-level BPE, trained."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=size,
        show_progress=False,
        special_tokens=list(first),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def changed(tokenizer, change):
    """The tokenizer after a change of its tokenizer.json."""
    content = json.loads(tokenizer.to_str())
    change(content)
    return Tokenizer.from_str(json.dumps(content))


def begins_with(token, tokenizer):
    return processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, tokenizer.token_to_id(token))]
    )


def sentence_pieces(size=420):
    """Vocabulary with scores as SentencePiece's BPE has it, and the merges that follow."""
    trained = Tokenizer(BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(corpus(), BpeTrainer(vocab_size=size - 259, show_progress=False))
    learned = sorted(trained.get_vocab(), key=trained.get_vocab().get)
    letters = [piece for piece in learned if len(piece) == 1]
    pieces = [piece for piece in learned if len(piece) > 1]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    types = [2, 3, 3] + [6] * 256 + [1] * (len(pieces) + len(letters))
    scores = [0.0] * 259 + [-float(i) for i in range(len(pieces) + len(letters))]
    text = {token: score for token, score, kind in zip(tokens, scores, types) if kind == 1}
    merges = generate_merges({token: i for i, token in enumerate(tokens)}, text)
    return tokens, types, scores, merges


def sentence_piece_bpe(tokens, merges, prefix):
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prefix else replace
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(parts + [decoders.Strip(" ", 1, 0)] * prefix)
    return tokenizer


def unigram(metaspace, normalizer, byte_fallback):
    trained = Tokenizer(Unigram())
    trained.normalizer = normalizer
    trained.pre_tokenizer = metaspace
    trained.train_from_iterator(
        corpus(), UnigramTrainer(vocab_size=250, show_progress=False, unk_token="<unk>", special_tokens=["<unk>", "</s>", "<pad>"])
    )
    vocab = [tuple(piece) for piece in json.loads(trained.to_str())["model"]["vocab"]]
    vocab = [(piece, round(score, 6)) for piece, score in vocab]
    if byte_fallback:
        vocab += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    tokenizer = Tokenizer(Unigram(vocab, 0, byte_fallback=byte_fallback))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = metaspace
    return tokenizer


def special(*tokens):
    return [AddedToken(token, special=True, normalized=False) for token in tokens]


def plain(*tokens, **flags):
    return [AddedToken(token, special=False, **{"normalized": False, **flags}) for token in tokens]


class Writer:
    def __init__(self, out):
        self.out = out

    def add(self, name, tokenizer, old=False, gguf=None, config=None, **roles):
        """Writes a tokenizer as transformers 5 does, or as transformers 4 did if `old`."""
        folder = self.out / name
        folder.mkdir(parents=True, exist_ok=True)
        wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)
        wrapped.save_pretrained(folder)
        if old:
            extra = roles.pop("extra_special_tokens", None)
            if extra:
                roles["additional_special_tokens"] = extra
            roles = {key: {"content": value, "lstrip": False} if key == "eos_token" else value for key, value in roles.items()}
            (folder / "special_tokens_map.json").write_text(json.dumps(roles, ensure_ascii=False))
            (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **(config or {})}))
        elif config is not None:
            path = folder / "tokenizer_config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **config}, ensure_ascii=False))
        if gguf is not None:
            (folder / "gguf.json").write_text(json.dumps(gguf, ensure_ascii=False))
        opened = AutoTokenizer.from_pretrained(folder)
        (folder / "expected.json").write_text(json.dumps(expected(opened, name), ensure_ascii=False))
        print(f"{name}: {type(opened).__name__}, {len(opened)} tokens")


    def copy(self, folder):
        to = self.out / folder.name
        to.mkdir(parents=True, exist_ok=True)
        for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            if (folder / file).exists():
                shutil.copy(folder / file, to / file)
        (to / "expected.json").write_text(json.dumps(expected(AutoTokenizer.from_pretrained(to), folder.name), ensure_ascii=False))


def expected(tokenizer, name):
    ids = [tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids for text in TEXTS]
    ids_of_all = sorted(tokenizer.get_vocab().values())
    chance = random.Random(name)
    drawn = [[chance.choice(ids_of_all) for _ in range(chance.randrange(12))] for _ in range(60)]
    return {
        "texts": TEXTS,
        "ids": ids,
        "processed": [tokenizer(text, split_special_tokens=True).input_ids for text in TEXTS],
        "decoded": [tokenizer.decode(row) for row in ids],
        "drawn": drawn,
        "drawn_decoded": [tokenizer.decode(row) for row in drawn],
        "drawn_skipped": [tokenizer.decode(row, skip_special_tokens=True) for row in drawn],
        "special": {role: getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad", "unk")},
        "special_ids": sorted(tokenizer.all_special_ids),
        "size": max(ids_of_all) + 1,
    }


def gguf_of(tokenizer, pre, **more):
    """Metadata that llama.cpp's converter would write for a byte-level tokenizer."""
    content = json.loads(tokenizer.to_str())
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    tokens = sorted(vocab, key=vocab.get)
    added = {token["content"]: token for token in content["added_tokens"]}
    types = [1 if token not in added else 3 if added[token]["special"] else 4 for token in tokens]
    merges = [" ".join(merge) for merge in content["model"]["merges"]]
    return {"model": "gpt2", "pre": pre, "tokens": tokens, "token_types": types, "merges": merges, **more}


def main():
    writer = Writer(Path(sys.argv[1]))

    tokenizer = byte_level(splits(QWEN2), normalizers.NFC())
    tokenizer.add_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    tokenizer.add_tokens(plain("<tool_call>", "</tool_call>", "<think>", "</think>"))
    gguf = gguf_of(tokenizer, "qwen2", eos=tokenizer.token_to_id("<|im_end|>"), add_bos=False)
    gguf["padding"] = tokenizer.token_to_id("<|endoftext|>")
    roles = {"eos_token": "<|im_end|>", "extra_special_tokens": ["<|im_start|>"]}
    writer.add("qwen2", tokenizer, gguf=gguf, pad_token="<|endoftext|>", **roles)

    tokenizer = byte_level(splits(LLAMA3))

    def unreachable(content):
        # Whole pieces that no merge makes: only `ignore_merges` finds them.
        for piece in ["Ġlazyfox", "ĠFormat", "Hello", "Ġworld"]:
            content["model"]["vocab"].setdefault(piece, len(content["model"]["vocab"]))
        content["model"]["ignore_merges"] = True

    tokenizer = changed(tokenizer, unreachable)
    tokenizer.add_tokens(special("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"))
    template = begins_with("<|begin_of_text|>", tokenizer)
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    bos, eos = map(tokenizer.token_to_id, ["<|begin_of_text|>", "<|eot_id|>"])
    gguf = gguf_of(tokenizer, "llama-bpe", bos=bos, eos=eos)
    writer.add("llama3", tokenizer, gguf=gguf, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")

    tokenizer = changed(byte_level(splits(TEKKEN), first=["<unk>", "<s>", "</s>", "[INST]"]), unreachable)
    tokenizer.post_processor = begins_with("<s>", tokenizer)
    gguf = gguf_of(tokenizer, "tekken", bos=1, eos=2, unknown=0, add_bos=True)
    writer.add("tekken", tokenizer, gguf=gguf, bos_token="<s>", eos_token="</s>", unk_token="<unk>")

    tokenizer = byte_level(splits(*DEEPSEEK_V3), first=["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"])
    tokenizer.post_processor = begins_with("<｜begin▁of▁sentence｜>", tokenizer)
    gguf = gguf_of(tokenizer, "deepseek-v3", bos=0, eos=1, padding=1, add_bos=True)
    roles = {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}
    writer.add("deepseek_v3", tokenizer, gguf=gguf, pad_token="<｜end▁of▁sentence｜>", **roles)

    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.add_tokens(special("<|endoftext|>"))
    everything = dict.fromkeys(["bos_token", "eos_token", "unk_token"], "<|endoftext|>")
    end = tokenizer.token_to_id("<|endoftext|>")
    gguf = gguf_of(tokenizer, "gpt-2", bos=end, eos=end, unknown=end)
    writer.add("gpt2_old", tokenizer, old=True, gguf=gguf, **everything)

    smollm = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer = byte_level(pre_tokenizers.Sequence(smollm), first=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    gguf = gguf_of(tokenizer, "smollm", bos=1, eos=2, unknown=0, padding=2, add_bos=False)
    roles = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"}
    config = {"clean_up_tokenization_spaces": True, "add_bos_token": True}
    writer.add("smollm", tokenizer, gguf=gguf, config=config, pad_token="<|im_end|>", **roles)

    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), first=["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=8, pad_id=1, pad_token="<pad>")
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    writer.add("roberta", tokenizer, pad_token="<pad>", **roles)

    # Added tokens that take spaces with them, that are whole words, and that are found after normalization.
    tokenizer = byte_level(splits(QWEN2), normalizers.Lowercase())
    tokenizer.add_tokens(plain("[TOOL]", lstrip=True, rstrip=True) + plain("WORD", single_word=True, normalized=True))
    tokenizer.add_tokens(special("<s>", "</s>") + plain("İx", "été", normalized=True))
    writer.add("added", tokenizer, eos_token="</s>")

    tokenizer = byte_level(splits(r"[\r\n]", r"\s?\p{L}+", r"\s+$", r"^\p{P}", r"[一-龥ࠀ-一가-퟿]+"))
    writer.add("anchors", tokenizer)

    content = json.loads(byte_level(splits(LLAMA3)).to_str())
    vocab = content["model"]["vocab"]
    moved = [token for token, _ in sorted(vocab.items(), key=lambda item: item[1])][-5:]
    for token in moved:
        vocab[token] += 40
    writer.add("holes", Tokenizer.from_str(json.dumps(content)))

    tokens, types, scores, merges = sentence_pieces()
    tokenizer = sentence_piece_bpe(tokens, merges, prefix=True)
    tokenizer.add_tokens(special("<unk>", "<s>", "</s>"))
    tokenizer.post_processor = begins_with("<s>", tokenizer)
    spm = {"model": "llama", "tokens": tokens, "scores": scores, "token_types": types}
    gguf = {**spm, "bos": 1, "eos": 2, "unknown": 0}
    writer.add("llama2", tokenizer, old=True, gguf=gguf, bos_token="<s>", eos_token="</s>", unk_token="<unk>")

    tokenizer = sentence_piece_bpe(tokens, merges, prefix=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.add_tokens(special("<unk>", "<s>", "</s>") + plain("\n\n", "<think>"))
    tokenizer.post_processor = begins_with("<s>", tokenizer)
    new = [tokenizer.id_to_token(i) for i in range(len(tokens), tokenizer.get_vocab_size())]
    more = {"tokens": tokens + new, "scores": scores + [-1000.0] * len(new), "token_types": types + [4] * len(new)}
    gguf = {**spm, **more, "add_space_prefix": False, "architecture": "gemma3"}
    writer.add("gemma", tokenizer, gguf=gguf, bos_token="<s>", eos_token="</s>", unk_token="<unk>")

    ends = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    roles = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    for name, scheme, fallback in [("t5", "always", True), ("unigram_first", "first", False), ("unigram_never", "never", True)]:
        metaspace = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        tokenizer = unigram(metaspace, normalizers.NFKC() if fallback else None, fallback)
        tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
        if fallback:
            tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme)])
        tokenizer.post_processor = ends
        tokenizer.add_tokens(special("</s>", "<pad>", "<unk>"))
        writer.add(name, tokenizer, config={"clean_up_tokenization_spaces": name == "t5"}, **roles)

    words = sorted({word for text in corpus() for word in text.split()})
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    writer.add("words", tokenizer, unk_token="[UNK]")

    for folder in sys.argv[2:]:
        writer.copy(Path(folder))


if __name__ == "__main__":
    main()
