#!/usr/bin/env python3
"""Makes assets/sample-corpus/sample.jsonl.zst from LibreOffice's help pages (MPL-2.0).

Input: two folders of help pages, as installed by the Debian packages `libreoffice-help-en-us` and
`libreoffice-help-fr`:

    apt-get download libreoffice-help-en-us libreoffice-help-fr
    for deb in *.deb; do dpkg-deb -x "$deb" extracted; done
    tools/make_sample_corpus.py --english extracted/usr/share/libreoffice/help/en-US \
        --french extracted/usr/share/libreoffice/help/fr

Keeps pages that read as prose in both languages (title, headings, paragraphs, list items, notes). Drops menus,
"how to get here" boxes, lists of related topics, code, icon tables, alternatives for other systems, pages that
are mostly fragments, pages mostly repeated from others, and pages whose French text is still English. Writes one
JSON line per page: text, language, source, license.

The same packages give the same bytes: pages are read in a fixed order, and the `zstd` command (level 19, one
thread) compresses them.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

BYTES_PER_LANGUAGE = 1_500_000
BLOCKS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "td", "th", "li", "br", "div", "tr"}
HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
VOID = {"br", "img", "meta", "link", "input", "hr", "wbr", "col"}
SKIPPED_CLASSES = {
    "howtoget", "howtogetheader", "howtogetbody", "relatedtopics", "related", "relatedbody", "icontable", "iconcell", "noteicon",
    "bascode", "pycode", "sqlcode", "code", "codeintable", "smathcode", "tableheadintable",
}  # fmt: skip
SKIPPED_TAGS = {"script", "style", "nav", "aside", "header", "footer", "pre", "code", "noscript", "button", "svg"}
# Not prose: the programming reference, lists of icons and shortcuts, and the index pages.
SKIPPED_FOLDERS = ("text/sbasic/", "text/shared/menu/", "text/shared/07/", "text/shared/help/")
SENTENCE_END = re.compile(r"[.!?…:;»”\")]$")


class Page(HTMLParser):
    """Collects the paragraphs of one help page as (is_heading, in_table, text)."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.stack = []  # (tag, opened_area, skipped)
        self.in_area = False
        self.skipping = 0
        self.heading = False
        self.tables = 0
        self.paragraphs = []
        self.pieces = []

    def flush(self):
        text = re.sub(r"\s+", " ", "".join(self.pieces)).strip()
        # French sets a narrow or plain no-break space before ; : ? ! and inside « »; \s has made them plain
        # spaces already.
        if text:
            self.paragraphs.append((self.heading, self.tables > 0, unicodedata.normalize("NFC", text)))
        self.pieces = []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        classes = set((attributes.get("class") or "").split())
        if tag in BLOCKS:
            self.flush()
        if tag in VOID:
            return
        opened = tag == "div" and attributes.get("id") == "DisplayArea"
        # Alternatives for one program or system are hidden spans; only the default one is shown to everybody.
        other = "hidden" in attributes and not (attributes.get("id") or "").startswith("default")
        skipped = tag in SKIPPED_TAGS or bool(classes & SKIPPED_CLASSES) or other
        if opened:
            self.in_area = True
        if skipped:
            self.skipping += 1
        if tag in HEADINGS:
            self.heading = True
        if tag == "table":
            self.tables += 1
        self.stack.append((tag, opened, skipped))

    def handle_endtag(self, tag):
        if tag in BLOCKS:
            self.flush()
        if tag not in [entry[0] for entry in self.stack]:
            return
        while self.stack:
            name, opened, skipped = self.stack.pop()
            if opened:
                self.flush()
                self.in_area = False
            if skipped:
                self.skipping -= 1
            if name in HEADINGS:
                self.heading = False
            if name == "table":
                self.tables -= 1
            if name == tag:
                break

    def handle_data(self, data):
        if self.in_area and not self.skipping:
            self.pieces.append(data)


def is_prose(text):
    return len(text) >= 40 and bool(SENTENCE_END.search(text))


def read_page(path):
    """The page's paragraphs, without table cells that are not sentences, empty headings and repeated lines."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.flush()
    kept, seen = [], set()
    for heading, in_table, text in page.paragraphs:
        if text in seen or (in_table and not is_prose(text)) or not re.search(r"\w", text):
            continue
        seen.add(text)
        kept.append((heading, text))
    # A heading with nothing below it says nothing; the title stays.
    return [
        item for i, item in enumerate(kept) if i == 0 or not item[0] or (i + 1 < len(kept) and not kept[i + 1][0])
    ]


def prose_share(paragraphs):
    total = sum(len(text) for _, text in paragraphs)
    return sum(len(text) for heading, text in paragraphs if not heading and is_prose(text)) / max(total, 1)


def readable(paragraphs):
    characters = sum(len(text) for _, text in paragraphs)
    letters = sum(character.isalpha() or character == " " for _, text in paragraphs for character in text)
    return 500 <= characters <= 30_000 and letters >= 0.92 * characters and prose_share(paragraphs) >= 0.75


def translated(english, french):
    """False when sentences of the French page are still the English ones."""
    originals = {text for _, text in english if len(text) >= 40}
    same = sum(len(text) for _, text in french if text in originals)
    return same <= 0.02 * sum(len(text) for _, text in french)


def repeated_share(paragraphs, seen):
    body = [text for _, text in paragraphs if len(text) >= 40]
    return sum(len(text) for text in body if text in seen) / max(sum(map(len, body)), 1)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--english", type=Path, required=True)
    arguments.add_argument("--french", type=Path, required=True)
    arguments.add_argument(
        "--out", type=Path, default=Path(__file__).parent.parent / "assets/sample-corpus/sample.jsonl.zst"
    )
    arguments = arguments.parse_args()

    folders = {"en": arguments.english, "fr": arguments.french}
    pages = []
    for path in sorted(folders["en"].glob("text/**/*.html")):
        name = path.relative_to(folders["en"]).as_posix()
        if name.startswith(SKIPPED_FOLDERS) or not (folders["fr"] / name).is_file():
            continue
        page = {language: read_page(folder / name) for language, folder in folders.items()}
        if all(map(readable, page.values())) and translated(page["en"], page["fr"]):
            pages.append((name, page))
    if not pages:
        sys.exit(f"no help pages under {folders['en']} and {folders['fr']}: give the folders that hold text/")

    # Guides tell a task from start to end and come first; then the rest, best prose first.
    pages.sort(key=lambda item: ("/guide/" not in item[0], -round(prose_share(item[1]["en"]), 2), item[0]))
    chosen, totals, seen = [], {"en": 0, "fr": 0}, {"en": set(), "fr": set()}
    for name, page in pages:
        for language, paragraphs in page.items():
            text = "\n\n".join(text for _, text in paragraphs)
            size = len(text.encode())
            if totals[language] + size > BYTES_PER_LANGUAGE or repeated_share(paragraphs, seen[language]) > 0.3:
                continue
            totals[language] += size
            seen[language].update(text for _, text in paragraphs)
            chosen.append(
                {"text": text, "language": language, "source": f"libreoffice-help/{language}/{name}", "license": "MPL-2.0"}
            )
    chosen.sort(key=lambda document: (document["source"].split("/", 2)[2], document["language"]))
    lines = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in chosen).encode()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    packed = subprocess.run(["zstd", "-19", "--single-thread", "-c"], input=lines, stdout=subprocess.PIPE, check=True).stdout
    arguments.out.write_bytes(packed)
    for language in totals:
        count = sum(document["language"] == language for document in chosen)
        print(f"{language}: {count} documents, {totals[language]} bytes of text")
    print(f"{arguments.out}: {len(packed)} bytes, sha256 {hashlib.sha256(packed).hexdigest()}")


if __name__ == "__main__":
    main()
