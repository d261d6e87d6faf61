"""Real texts that Debian packages ship, in two splits that share no source.

    python -m training.data.corpus --out CORPUS.jsonl.xz [--root /]

Every row of SOURCES is one package: whole sources, never parts, belong to 'train' or 'test', so a held-out text cannot
share a document, an author's boilerplate or a page header with a training text. --root may be a folder into which
packages were unpacked (dpkg -x) instead of installed.
"""
from __future__ import annotations

import argparse
import glob
import gzip
import hashlib
import html.parser
import json
import lzma
import os
import random
import re
from dataclasses import dataclass

# package, files (';' between patterns), genre, split, licence, most characters taken
SOURCES = [
    ("debian-reference-en", "usr/share/debian-reference/ch*.en.html", "prose", "train", "GPL-2+", 900_000),
    ("git-doc", "usr/share/doc/git-doc/*.html", "prose", "train", "GPL-2", 1_600_000),
    ("postgresql-doc-15", "usr/share/doc/postgresql-doc-15/html/*.html", "prose", "train", "PostgreSQL", 2_400_000),
    ("rust-doc", "usr/share/doc/rust-doc/html/*book/**/*.html", "prose", "train", "MIT or Apache-2.0", 1_600_000),
    ("jargon-text", "usr/share/doc/jargon-text/jargon.txt.gz", "prose", "train", "public domain", 900_000),
    ("harden-doc", "usr/share/doc/harden-doc/html/en-US/**/*.html", "prose", "train", "GPL-2+", 600_000),
    ("installation-guide-amd64", "usr/share/doc/installation-guide-amd64/en/*.html", "prose", "train", "GPL-2", 500_000),
    ("perl-doc", "usr/share/perl/5.36.0/pod/*.pod", "prose", "train", "Artistic or GPL-1+", 1_500_000),
    ("base-files", "usr/share/common-licenses/*", "prose", "train", "the licences themselves", 300_000),
    ("python3.11-stdlib", "usr/lib/python3.11/**/*.py", "code", "train", "PSF-2", 4_000_000),
    ("perl-modules-5.36", "usr/share/perl/5.36.0/**/*.pm", "code", "train", "Artistic or GPL-1+", 1_200_000),
    ("linux-libc-dev", "usr/include/linux/*.h", "code", "train", "GPL-2 with syscall note", 1_000_000),

    ("python3.11-doc", "usr/share/doc/python3.11/html/[hltwr]*/*.html", "prose", "test", "PSF-2", 1_500_000),
    ("sqlite3-doc", "usr/share/doc/sqlite3/*.html", "prose", "test", "public domain", 1_200_000),
    ("debian-history", "usr/share/doc/debian-history/docs/*.en.*", "prose", "test", "GPL-2+", 300_000),
    ("developers-reference", "usr/share/developers-reference/*.html", "prose", "test", "GPL-2+", 500_000),
    ("maint-guide", "usr/share/doc/maint-guide/html/*.en.html", "prose", "test", "GPL-2+", 300_000),
    ("debian-policy", "usr/share/doc/debian-policy/policy.txt.gz", "prose", "test", "GPL-2+", 500_000),
    ("python3-packages", "usr/lib/python3/dist-packages/**/*.py", "code", "test", "MIT, BSD, Apache-2.0, LGPL", 1_500_000),
    ("libssl-dev", "usr/include/openssl/*.h", "code", "test", "Apache-2.0", 500_000),
    ("libuv1-dev, libcjson-dev", "usr/include/uv/*.h;usr/include/cjson/*.h", "code", "test", "MIT", 200_000),
]


class _Text(html.parser.HTMLParser):
    BLOCK = {"p", "div", "li", "tr", "br", "dt", "dd", "h1", "h2", "h3", "h4", "h5", "section", "table", "ul", "ol"}
    SKIP = {"script", "style", "nav", "head", "footer", "select", "button"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.out, self.skip, self.pre = [], 0, 0

    def handle_starttag(self, tag, attrs):
        self.skip += tag in self.SKIP
        self.pre += tag == "pre"
        if tag in self.BLOCK or tag == "pre":
            self.out.append("\n")

    def handle_endtag(self, tag):
        self.skip -= tag in self.SKIP and self.skip > 0
        self.pre -= tag == "pre" and self.pre > 0
        if tag in self.BLOCK or tag == "pre":
            self.out.append("\n")

    def handle_data(self, data):
        if not self.skip:
            self.out.append(data if self.pre else re.sub(r"\s+", " ", data))


def read_text(path: str) -> str:
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as f:
        raw = f.read(4_000_000).decode("utf-8", "replace")
    if ".html" in path:
        parser = _Text()
        parser.feed(raw)
        raw = "".join(parser.out)
    lines = [line.rstrip() for line in raw.replace("\r", "").replace("\t", "    ").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def collect(roots: list[str], min_chars: int = 1200, max_doc: int = 120_000):
    """-> documents {source, licence, genre, split, text}. A source is taken from the first root that has it; exact duplicates
    are dropped across all sources and roots."""
    seen, docs = set(), []
    for root, row in ((root, row) for root in roots for row in SOURCES):
        source, pattern, genre, split, licence, budget = row
        if any(d["source"] == source and d["root"] != root for d in docs):
            continue
        files = sorted(f for p in pattern.split(";") for f in glob.glob(os.path.join(root, p), recursive=True)
                       if os.path.isfile(f) and not f.endswith((".pdf", ".png", ".epub")))
        random.Random(source).shuffle(files)     # a budget then takes a sample, the same on every machine
        for path in files:
            whole = read_text(path)
            for text in (whole[i:i + max_doc] for i in range(0, len(whole), max_doc)):
                key = hashlib.sha256(re.sub(r"\s+", " ", text).encode()).digest()
                if len(text) < min_chars or key in seen or budget <= 0 or text.count("\ufffd") > 20:
                    continue
                seen.add(key)
                budget -= len(text)
                docs.append(dict(root=root, source=source, licence=licence, genre=genre, split=split, text=text))
    return [{k: v for k, v in d.items() if k != "root"} for d in docs]


def write(docs, path: str):
    with lzma.open(path, "wt", preset=9) as f:
        for d in docs:
            f.write(json.dumps(d, ensure_ascii=False) + "\n")


@dataclass
class Corpus:
    """The documents of one split; regions are drawn by genre, longer documents more often."""
    split: str
    docs: dict[str, list[str]]

    @classmethod
    def read(cls, path: str, split: str) -> "Corpus":
        docs: dict[str, list[str]] = {}
        with lzma.open(path, "rt") as f:
            for line in f:
                d = json.loads(line)
                if d["split"] == split:
                    docs.setdefault(d["genre"], []).append(d["text"])
        if not docs:
            raise ValueError(f"{path} has no documents of split '{split}'")
        return cls(split, docs)

    def region(self, rng: random.Random, genre: str, n_chars: int) -> str:
        """At least n_chars of running text from a line start; short documents are followed by another one."""
        docs, parts, have = self.docs[genre], [], 0
        while have < n_chars:
            text = rng.choices(docs, [len(d) for d in docs])[0] if len(docs) > 1 else docs[0]
            room = len(text) - (n_chars - have)
            start = text.rfind("\n", 0, rng.randrange(room)) + 1 if room > 0 else 0
            parts.append(text[start:start + n_chars - have + 200])
            have += len(parts[-1]) + 2
        return "\n\n".join(parts)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--root", action="append", help="roots to look under, default /", default=None)
    a = ap.parse_args()
    docs = collect(a.root or ["/"])
    write(docs, a.out)
    for source, _, genre, split, licence, _ in SOURCES:
        size = sum(len(d["text"]) for d in docs if d["source"] == source)
        print(f"{split:5} {genre:5} {source:28} {licence:28} {size:>9} characters")


if __name__ == "__main__":
    main()
