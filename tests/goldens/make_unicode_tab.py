"""Writes server/text/unicode_tab.h: asks the `tokenizers` package what it takes each code point for, and notes where that
differs from Unicode 14, which this Python (3.11), PCRE2 10.42 and utf8proc 2.8 know.

    python tests/goldens/make_unicode_tab.py > server/text/unicode_tab.h
"""
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co").split()
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges(points):
    out = []
    for c, name in points:
        if out and out[-1][1] == c - 1 and out[-1][2] == name:
            out[-1][1] = c
        else:
            out.append([c, c, name])
    return out


def members(pattern):
    text = "".join(map(chr, POINTS))
    left = set()
    for piece, _ in pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(text):
        left.update(map(ord, piece))
    return [c for c in POINTS if c not in left]


def alias_rows():
    """Characters that are new to Unicode 14: their category, with the ideographs apart."""
    assert unicodedata.unidata_version.startswith("14."), "run this with Python 3.11"
    new = []
    for name in CATEGORIES:
        new += [(c, name.upper()) for c in members(r"\p{%s}" % name) if unicodedata.category(chr(c)) == "Cn"]
    han = set(members(r"\p{Han}"))
    new = [(c, "HAN" if c in han else name) for c, name in new]
    # PCRE2's \s takes in \h, and so U+180E, which is no white space since Unicode 6.3.
    return ranges(sorted(new + [(0x180E, "CF")]))


def late_rows():
    """Characters whose combining class or composition the normaliser does not know. As it takes them for plain
    starters, text may be cut before and after each of them."""
    nfc = normalizers.NFC().normalize_str
    late = []
    for c in POINTS:
        tests = ["x\u0315" + chr(c), "x" + chr(c) + "\u0334"]
        pair = unicodedata.decomposition(chr(c))
        if pair and not pair.startswith("<"):
            full = unicodedata.normalize("NFD", chr(c))
            if nfc(full) != unicodedata.normalize("NFC", full):
                late += [(ord(x), "") for x in full[1:]]
        if any(nfc(t) != unicodedata.normalize("NFC", t) for t in tests):
            late.append((c, ""))
    return ranges(sorted(set(late)))


def table(rows, per_line, fmt):
    cells = [fmt(*r) for r in rows]
    return "".join("    " + " ".join(cells[i : i + per_line]) + "\n" for i in range(0, len(cells), per_line))


ALIAS = alias_rows()
LATE = late_rows()
print(f"""/* unicode_tab: made by tests/goldens/make_unicode_tab.py from tokenizers {tokenizers.__version__},
 * against Unicode {unicodedata.unidata_version}. Included by unicode.c alone. */

/* Newer than Unicode 14: first, last, class. In rising order. */
static const struct range alias_range[] = {{
{table(ALIAS, 4, lambda a, b, n: f"{{0x{a:X}, 0x{b:X}, AS_{n}}},")}}};

/* Newer than the normaliser's Unicode 9: first, last. In rising order. */
static const struct range late_range[] = {{
{table(LATE, 4, lambda a, b, n: f"{{0x{a:X}, 0x{b:X}, 0}},")}}};""")
