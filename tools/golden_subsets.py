#!/usr/bin/env python3
"""Cuts the small test sets of crates/corpus/tests/data out of the whole ones: MedQuAD with datatrove's
decisions, and labeled pages.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install zstandard
    /tmp/venv/bin/python tools/golden_subsets.py DATA

DATA holds medquad.jsonl.zst (id, text), datatrove_golden/filters.jsonl.zst (id, step, reason) and extraction/
(truth.jsonl, html/*.html.gz).
"""

import collections
import json
import pathlib
import shutil
import sys

import zstandard

source = pathlib.Path(sys.argv[1])
target = pathlib.Path(__file__).resolve().parent.parent / "crates/corpus/tests/data"


def lines(name):
    with open(source / name, "rb") as packed:
        text = zstandard.ZstdDecompressor().stream_reader(packed).read().decode()
    return [json.loads(line) for line in text.splitlines()]


# Every 16th document, and up to ten of each reason.
rows = []
seen = collections.Counter()
for index, (document, decision) in enumerate(zip(lines("medquad.jsonl.zst"), lines("datatrove_golden/filters.jsonl.zst"))):
    assert document["id"] == decision["id"]
    reason = decision["reason"]
    if index % 16 == 0 or (reason and seen[reason] < 10):
        seen[reason] += 1
        row = {"id": document["id"], "step": decision["step"], "reason": reason, "text": document["text"]}
        rows.append(json.dumps(row, ensure_ascii=False))
packed = zstandard.ZstdCompressor(level=19).compress(("\n".join(rows) + "\n").encode())
(target / "datatrove_filters.jsonl.zst").write_bytes(packed)
print(len(rows), "documents", len(packed), "bytes", dict(seen))

# The smallest pages of each type.
pages = [json.loads(line) for line in (source / "extraction/truth.jsonl").read_text().splitlines()]
html = {page["id"]: source / f"extraction/html/{page['id']}.html.gz" for page in pages}
pages.sort(key=lambda page: html[page["id"]].stat().st_size)
folder = target / "pages"
shutil.rmtree(folder, ignore_errors=True)
folder.mkdir()
taken = collections.Counter()
chosen = []
for page in pages:
    if taken[page["page_type"]] < 4:
        taken[page["page_type"]] += 1
        chosen.append({key: page[key] for key in ("id", "url", "page_type", "main_content")})
        shutil.copy(html[page["id"]], folder)
chosen.sort(key=lambda page: page["id"])
(folder / "truth.jsonl").write_text("".join(json.dumps(page, ensure_ascii=False) + "\n" for page in chosen))
print(dict(taken))
