#!/usr/bin/env python3
"""Short documents with near-duplicates of known similarity, and a check of which were found.

    near_duplicates.py make 10000000 documents.jsonl     # standard library only
    text2llm data prepare recipe.toml                    # with [data.near_duplicates], over documents.jsonl
    near_duplicates.py check documents.jsonl data/documents   # needs `zstandard`

A document is 38 words from a vocabulary so large that unrelated documents share no five consecutive words: 34
shingles. A copy with k more words has a Jaccard similarity of 34 / (34 + k) to it. Of ten lines, one is such a
copy at 0.85, one (every second time) at 0.97, and one (every second time) shares only the first third, at 0.19,
and is not a duplicate.
"""

import json
import random
import sys

WORDS, MORE, SHINGLE = 38, 6, 5


def vocabulary():
    letters = "bcdfghklmnprstvz"
    return [f"{a}{x}{b}{y}{c}" for a in letters for x in "aeiou" for b in letters for y in "aeiou" for c in letters[:8]]


def kinds(count):
    """For each line, what it is a copy of and at which similarity; a function of the number alone."""
    for line in range(count):
        if line % 10 == 7:
            yield line - 7, 0.85
        elif line % 20 == 8:
            yield line - 7, 0.97
        elif line % 20 == 18:
            yield line - 7, 0.19
        else:
            yield None, 0.0


def make(count, path):
    rng, words, last = random.Random(1), vocabulary(), {}
    with open(path, "w", encoding="ascii") as out:
        for line, (source, similarity) in enumerate(kinds(count)):
            if source is None:
                text = rng.choices(words, k=WORDS)
                last[line % 10] = text
            elif similarity == 0.85:
                text = last[source % 10] + rng.choices(words, k=MORE)
            elif similarity == 0.97:
                text = last[source % 10] + rng.choices(words, k=1)
            else:
                text = last[source % 10][: WORDS // 3 + 3] + rng.choices(words, k=WORDS - WORDS // 3 - 3)
            out.write(f'{{"text": "{" ".join(text)}."}}\n')


def check(path, folder):
    import io

    import zstandard

    with open(path, "rb") as file:
        count = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 24), b""))
    kept = bytearray(count)
    for split in ("train", "validation"):
        with open(f"{folder}/{split}.jsonl.zst", "rb") as packed:
            stream = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
            for line in io.TextIOWrapper(stream, encoding="utf-8"):
                kept[int(json.loads(line)["source"].rsplit(":", 1)[1]) - 1] = 1
    pairs, found, in_pairs = {0.85: 0, 0.97: 0, 0.19: 0}, {0.85: 0, 0.97: 0, 0.19: 0}, bytearray(count)
    for line, (source, similarity) in enumerate(kinds(count)):
        if source is None:
            continue
        pairs[similarity] += 1
        found[similarity] += not (kept[line] and kept[source])
        if similarity > 0.5:
            in_pairs[line] = in_pairs[source] = 1
    dropped = count - sum(kept)
    true = sum(1 for line in range(count) if not kept[line] and in_pairs[line])
    recall = {str(at): round(found[at] / max(pairs[at], 1), 4) for at in (0.85, 0.97)}
    precision = round(true / max(dropped, 1), 5)
    print(json.dumps({"documents": count, "dropped": dropped, "recall": recall, "precision": precision, "unlike_dropped": found[0.19]}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", count, path]:
            make(int(count), path)
        case ["check", path, folder]:
            check(path, folder)
        case _:
            sys.exit(__doc__)
