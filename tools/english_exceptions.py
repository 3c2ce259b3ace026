"""Writes crates/corpus/assets/words/exceptions.txt: spaCy's English tokenizer exceptions (MIT), one per line,
with its parts separated by tabs.

    python tools/english_exceptions.py crates/corpus/assets/words/exceptions.txt

Needs PyPI spacy (used with 3.8.18).
"""
import sys

import spacy
from spacy.attrs import ORTH

rules = spacy.blank("en").tokenizer.rules
with open(sys.argv[1], "w", encoding="utf-8") as out:
    for key, parts in sorted(rules.items()):
        if key.strip() == key and key and not any(c.isspace() for c in key):
            out.write("\t".join(part[ORTH] for part in parts) + "\n")
