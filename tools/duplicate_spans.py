#!/usr/bin/env python3
"""Documents with repeated passages, and a check of what was removed from them against a plain search.

    zstd -dc medquad.jsonl.zst | duplicate_spans.py make 1000 documents.jsonl     # MB; standard library only
    text2llm data prepare recipe.toml --set data.validation_fraction=0.0 --output-dir before
    text2llm data prepare recipe.toml --set data.validation_fraction=0.0 \\
        --set data.duplicate_spans.minimum_bytes=200 --output-dir after
    duplicate_spans.py check before/data/documents after/data/documents 200   # needs `zstandard`; 100 bytes per byte

`make` shuffles the words of a given document three by three, so that nothing of it repeats, and inserts before
one in sixteen of its lines a passage of 200 to 2,000 bytes of a given document. `check` remembers every window
and removes spans by the rules of crates/corpus/src/dedup/spans, implemented a second time.
"""

import itertools
import json
import random
import sys
import unicodedata

CLAUSE_ENDS = "、。，！？；：」』）】》〉།။។"


def make(megabytes, path, lines):
    rng, texts = random.Random(1), [json.loads(line)["text"] for line in lines]
    passages = [text[at : at + rng.randint(200, 2000)] for text in texts if len(text) > 500 for at in [rng.randrange(len(text) - 250)]]
    left = megabytes * 1_000_000
    with open(path, "w", encoding="utf-8") as out:
        while left > 0:
            parts = []
            for line in rng.choice(texts).split("\n"):
                if rng.random() < 1 / 16:
                    parts.append(rng.choice(passages))
                words = line.split()
                threes = [" ".join(words[at : at + 3]) for at in range(0, len(words), 3)]
                rng.shuffle(threes)
                parts.append(" ".join(threes))
            document = json.dumps({"text": "\n".join(parts), "language": "en"}, ensure_ascii=False) + "\n"
            left -= len(document.encode())
            out.write(document)


def documents(folder):
    import io

    import zstandard

    with open(f"{folder}/train.jsonl.zst", "rb") as packed:
        stream = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        for line in io.TextIOWrapper(stream, encoding="utf-8", newline="\n"):
            document = json.loads(line)
            yield document["source"], document["text"]


def is_border(text, at):
    if at in (0, len(text)):
        return True
    before, after = text[at - 1], text[at]
    between = before.isspace() or after.isspace() or before in CLAUSE_ENDS
    return between and not unicodedata.category(after).startswith("M") and after not in CLAUSE_ENDS and before + after != "\r\n"


def cut(text, start, end):
    """The characters from `start` to `end` that are removed."""
    while start < end and not is_border(text, start):
        start += 1
    while end > start and not is_border(text, end):
        end -= 1
    words = text[start:end].strip()
    if not words:
        return None
    first = start + len(text[start:end]) - len(text[start:end].lstrip())
    last = first + len(words)
    rest_before, rest_after = text[:first].rstrip(), text[last:].lstrip()
    if not rest_before or not rest_after:
        return start, end
    lines = lambda separation: separation.count("\n") if separation else -1
    before, after = lines(text[len(rest_before) : first]), lines(text[last : len(text) - len(rest_after)])
    return (first, end) if before > after or before == after and end > last else (start, last)


def expected(texts, minimum, fraction):
    known, cut_texts = {}, []
    firsts, covered = ([bytearray(len(text.encode())) for _, text in texts] for _ in range(2))
    for number, (source, text) in enumerate(texts):
        data = text.encode()
        repeated = covered[number]
        for at in range(len(data) - minimum + 1):
            window = data[at : at + minimum]
            if window in known:
                repeated[at : at + minimum] = b"\1" * minimum
                holder, place = known[window]
                firsts[holder][place : place + minimum] = b"\1" * minimum
            else:
                known[window] = number, at
        # Characters of which every byte is repeated.
        flags, at = [], 0
        for character in text:
            size = len(character.encode())
            flags.append(all(repeated[at : at + size]))
            at += size
        pieces, stays, start = [], 0, 0
        for is_repeated, run in itertools.groupby(flags):
            end = start + sum(1 for _ in run)
            if is_repeated and (found := cut(text, start, end)):
                pieces.append(text[stays : found[0]])
                stays = found[1]
            start = end
        left = "".join(pieces) + text[stays:]
        cut_texts.append((source, left, len(left.encode()) >= fraction * len(data), left == text))
    # A first occurrence is kept, however small its part of the document.
    for number, (source, left, is_enough, is_whole) in enumerate(cut_texts):
        is_first = sum(first and not again for first, again in zip(firsts[number], covered[number])) >= minimum
        if is_whole or ((is_enough or is_first) and left.strip()):
            yield source, left


def check(before, after, minimum):
    cut_bytes = kept = total = 0
    wrong = []
    found = dict(documents(after))
    texts = list(documents(before))
    wanted = dict(expected(texts, minimum, 0.2))
    for source, text in texts:
        total += len(text.encode())
        kept += len(found.get(source, "").encode())
        if found.get(source) != wanted.get(source):
            wrong.append(source)
    print(json.dumps({"documents": len(texts), "bytes": total, "bytes_left": kept, "dropped": len(texts) - len(found), "different": len(wrong), "first": wrong[:5]}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", megabytes, path]:
            make(int(megabytes), path, sys.stdin)
        case ["check", before, after, minimum]:
            check(before, after, int(minimum))
        case _:
            sys.exit(__doc__)
