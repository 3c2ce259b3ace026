"""Trains the block classifier of crates/corpus/src/extract, and estimates its quality on unseen pages by
cross-validation.

    cargo build --release -p xtask
    python tools/train_extraction.py --data DATA --xtask target/release/xtask [--evaluate] \\
        [--out crates/corpus/assets/extraction]

DATA contains `truth.jsonl` (id, page_type, main_content) and `html/ID.html.gz`, as WCXB's pages do (CC-BY-4.0). A
block's label is the fraction of its words in a longest common subsequence with the truth. `--evaluate` scores folds
of pages, twice, with trees trained on the other folds. Tried without improvement: a second stage with the first
stage's output for neighboring blocks (nested folds), the average of three forests of other samples, more trees with
a lower learning rate. Needs PyPI lightgbm, numpy and rapidfuzz (used with 4.6, 2.3, 3.14). Deterministic for a given
version of these.
"""
import argparse
import collections
import json
import pathlib
import re
import struct
import subprocess
import tempfile

import lightgbm
import numpy as np
from rapidfuzz.distance import LCSseq

WORD = re.compile(r"\w+")
TREES = {"num_leaves": 12, "learning_rate": 0.06, "min_data_in_leaf": 40, "trees": 130}


def words_of(text):
    return WORD.findall(text.lower())


def labels(texts, truth):
    """For each block, the share of its words that the alignment with the truth uses."""
    page = [(word, block) for block, text in enumerate(texts) for word in words_of(text)]
    true = words_of(truth)
    hits, sizes = np.zeros(len(texts)), np.zeros(len(texts))
    for _, block in page:
        sizes[block] += 1
    ids = {}
    number = lambda word: ids.setdefault(word, len(ids))
    a, b = [number(word) for word, _ in page], [number(word) for word in true]
    for block in LCSseq.opcodes(a, b):
        if block.tag == "equal":
            for at in range(block.src_start, block.src_end):
                hits[page[at][1]] += 1
    share = hits / np.maximum(sizes, 1)
    # Order may differ between the page and its truth: a block whose words stand in the truth as they are
    # belongs to it.
    folded = " " + " ".join(true) + " "
    for index, text in enumerate(texts):
        own = words_of(text)
        if len(own) >= 6 and share[index] < 0.8 and " " + " ".join(own) + " " in folded:
            share[index] = 1.0
        # Single words strewn over the truth are no evidence.
        if share[index] < 0.5 and len(own) > 3:
            share[index] *= 0.5
    return share


class Pages:
    def __init__(self, data, xtask, work):
        self.data, self.xtask, self.work = data, xtask, work
        rows = [json.loads(line) for line in open(data / "truth.jsonl", encoding="utf-8")]
        self.ids = [row["id"] for row in rows]
        self.types = [row["page_type"] for row in rows]
        self.truth = [row["main_content"] for row in rows]
        self.rows, blocks = self.features()
        self.texts = [block["texts"] for block in blocks]
        self.words = [np.array([max(len(words_of(t)), 1) for t in texts], dtype=float) for texts in self.texts]
        self.share = [labels(texts, truth) for texts, truth in zip(self.texts, self.truth)]
        # Long pages count more, but not by their length.
        self.weights = [words**0.75 * 30 / max((words**0.75).sum(), 400) for words in self.words]

    def features(self):
        out = pathlib.Path(tempfile.mkdtemp(dir=self.work))
        subprocess.run([str(part) for part in (self.xtask, "extraction-features", self.data, out)], check=True)
        blocks = [json.loads(line) for line in open(out / "blocks.jsonl", encoding="utf-8")]
        rows = [np.frombuffer((out / f"{b['id']}.f32").read_bytes(), dtype="<f4").reshape(-1, max(b["width"], 1)) for b in blocks]
        return rows, blocks

    def train(self, pages, seed=0):
        rows, options = self.rows, TREES
        x = np.concatenate([rows[p] for p in pages if len(rows[p])])
        share = np.concatenate([self.share[p] for p in pages if len(rows[p])])
        weight = np.concatenate([self.weights[p] for p in pages if len(rows[p])])
        # A block that belongs in part is both, in part.
        share = np.where(share < 0.1, 0, np.where(share > 0.9, 1, share))
        yes, no = share > 0, share < 1
        x2 = np.concatenate([x[yes], x[no]])
        y2 = np.concatenate([np.ones(yes.sum()), np.zeros(no.sum())])
        w2 = np.concatenate([(weight * share)[yes], (weight * (1 - share))[no]])
        parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, "seed": seed, "feature_fraction": 0.3,
                      "bagging_fraction": 0.7, "bagging_freq": 1, "lambda_l2": 5.0, "max_bin": 63, "min_sum_hessian_in_leaf": 0.5,
                      **{k: v for k, v in options.items() if k != "trees"}}
        return lightgbm.train(parameters, lightgbm.Dataset(x2, y2, weight=w2), options["trees"])

    def score(self, page, said):
        kept = best(said, self.words[page])
        found = collections.Counter(word for text, keep in zip(self.texts[page], kept) if keep for word in words_of(text))
        truth = collections.Counter(words_of(self.truth[page]))
        common = (found & truth).total()
        return 2 * common / (found.total() + truth.total()) if common else 0.0


def predict(model, rows):
    return model.predict(rows) if len(rows) else np.zeros(0)


def best(said, words):
    order = np.argsort(-said, kind="stable")
    hits, taken = np.cumsum((said * words)[order]), np.cumsum(words[order])
    kept = np.zeros(len(said), dtype=bool)
    if len(said):
        kept[order[: int(np.argmax(hits / (taken + (said * words).sum()))) + 1]] = True
    return kept


def write(model, path):
    trees = model.dump_model()["tree_info"]
    nodes, roots = [], []

    def place(tree):
        index = len(nodes)
        nodes.append(None)
        if "leaf_value" in tree:
            nodes[index] = (0xFFFF, 0, 0, tree["leaf_value"])
        else:
            left = place(tree["left_child"])
            right = place(tree["right_child"])
            threshold = np.float32(tree["threshold"])
            # Features are f32: the largest one that is not above the threshold.
            if float(threshold) > tree["threshold"]:
                threshold = np.nextafter(threshold, np.float32(-np.inf))
            nodes[index] = (tree["split_feature"], left, right, float(threshold))
        return index

    for tree in trees:
        roots.append(place(tree["tree_structure"]))
    out = struct.pack("<II", model.num_feature(), len(roots)) + struct.pack(f"<{len(roots)}I", *roots) + struct.pack("<I", len(nodes))
    path.write_bytes(out + b"".join(struct.pack("<HIIf", *node) for node in nodes))


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--data", type=pathlib.Path, required=True)
    args.add_argument("--xtask", type=pathlib.Path, required=True)
    args.add_argument("--out", type=pathlib.Path)
    args.add_argument("--evaluate", action="store_true")
    args.add_argument("--folds", type=int, default=5)
    a = args.parse_args()
    with tempfile.TemporaryDirectory() as work:
        pages = Pages(a.data, a.xtask, work)
        count = len(pages.ids)
        ceiling = np.mean([pages.score(p, pages.share[p]) for p in range(count)])
        print(f"{count} pages, {sum(map(len, pages.texts))} blocks, {pages.rows[0].shape[1]} features; F1 with the labels {ceiling:.4f}")
        if a.evaluate:
            scores = collections.defaultdict(list)
            for seed in (1, 2):
                order = np.random.default_rng(seed).permutation(count)
                for fold in range(a.folds):
                    model = pages.train([p for n, p in enumerate(order) if n % a.folds != fold], seed)
                    for p in order[fold :: a.folds]:
                        scores[p].append(pages.score(p, predict(model, pages.rows[p])))
            print(f"held-out F1: {[round(float(np.mean([scores[p][n] for p in scores])), 4) for n in (0, 1)]}")
            by_type = collections.defaultdict(list)
            for p in range(count):
                by_type[pages.types[p]].append(np.mean(scores[p]))
            print({kind: (round(float(np.mean(v)), 3), len(v)) for kind, v in by_type.items()})
        if a.out:
            a.out.mkdir(parents=True, exist_ok=True)
            write(pages.train(list(range(count))), a.out / "blocks.forest")


if __name__ == "__main__":
    main()
