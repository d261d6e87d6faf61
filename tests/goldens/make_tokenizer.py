"""Writes tests/goldens/tokenizer.txt: what the `tokenizers` package makes of 1 MB of mixed text and of random strings, with
the vocabulary of a GGUF file. Texts are not stored: this script and tests/server/text/test_tokenizer_golden.c draw them from
the same fragments, ranges and random numbers, so the file holds fragments, ranges and hashes of ids.

    python tests/goldens/make_tokenizer.py models/SmolLM2-135M-Instruct.Q4_1.gguf > tests/goldens/tokenizer.txt

Needs: tokenizers, gguf.
"""
import sys

import gguf
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

FRAGMENTS = r'''
The quick brown fox jumps over the lazy dog.
It's what we've said: they'll come, I'd go, you're late, don't; THEY'LL SAY 'TIS HE'S.
Il n'est pas venu à l'école; où êtes-vous, garçon ? Ça coûte 3,50 €.
Der Fußgänger überquerte die Straße; größere Äpfel kosten 12,99 €.
El niño comió piñas mañana por la mañana. ¿Qué? ¡Nada!
Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy.
Съешь же ещё этих мягких французских булок, да выпей чаю.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.
דג סקרן שט בים מאוכזב ולפתע מצא חברה
صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت ١٢٣٤٥
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण १२३
আমি কাচ খেতে পারি। ৪৫৬
นายสังฆภัณฑ์ เฮงพิทักษ์ฝั่ง ผู้เฒ่าซึ่งมีอาชีพเป็นฅนขายฃวด ๑๒๓
天地玄黃,宇宙洪荒。日月盈昃,辰宿列張。
いろはにほへと ちりぬるを わかよたれそ つねならむ カタカナ
키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.
Tiếng Việt có nhiều dấu: ặ ệ ộ ữ.
ღმერთსი შემვედრე, Հայաստան, ᚠᛇᚻ, ꦲꦤꦕꦫꦏ, ᏣᎳᎩ
int main(int argc, char **argv)\n{\n\tfor (int i = 0; i < 10; i++) {\n\t\tprintf("%d\\n", i);\n\t}\n    return 0;\n}\n
def f(x: int = 0x1F, *args, **kw) -> float:\n    """doc"""\n    return x**2 if x != 3 else 1e-9\n
{"name":"fluxd","n":[1,22,333,4444.5,-6e+7],"ok":true,"nested":{"a":null,"b":"\\u00e9\\n"}}
<div class="a-b_c" id='x'>&nbsp;&lt;tag/&gt;</div><!-- note -->
SELECT COUNT(*) FROM t WHERE a_b >= 10 AND c LIKE '%x%';
https://www.example.com:8080/path/to?q=a%20b&r=1#frag
/usr/lib/x86_64-linux-gnu/libm.so.6 C:\\Windows\\System32\\
| a | b |\n|---|---|\n| 1 | 2 |\n
$E = mc^2$, \\frac{a}{b} \\sum_{i=0}^{n} x_i ≈ ∫ f(x) dx ≤ ∞ ± √2
👨‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ❤️ ☺︎ 🏴󠁧󠁢󠁳󠁣󠁴󠁿 🤷🏾‍♀️
<|im_start|>
<|im_end|>\n
<|endoftext|>
<|im_start|>user\n
<|im_
<repo_name><file_sep><reponame
's
'LL
'ſ
'RE
\t
\n
\r\n
\n\n\n
  
    
 \n 
\0
\0\0a
\u00a0
\u2028
\u200b
\u180e
\u0085
e\u0301
q\u0323\u0307
\u1112\u1161\u11ab
A\u030a
\U0001f468\u200d\U0001f469
\U00031350
\U000105c0
\U0001e4f0
\U00011de0
'''.strip("\n").split("\n")

RANGES = [
    (0x00, 0x7F), (0x00, 0x7F), (0x20, 0x7E), (0x20, 0x7E), (0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A), (0x61, 0x7A),
    (0x09, 0x0D), (0x1C, 0x20), (0x80, 0xBF), (0xC0, 0x24F), (0x250, 0x36F), (0x300, 0x36F), (0x370, 0x52F),
    (0x530, 0x5FF), (0x600, 0x6FF), (0x700, 0x8FF), (0x900, 0xDFF), (0xE00, 0xFFF), (0x1000, 0x17FF),
    (0x1100, 0x11FF), (0x1800, 0x1DFF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x218F), (0x2190, 0x27FF),
    (0x2460, 0x24FF), (0x2E00, 0x30FF), (0x3000, 0x303F), (0x4E00, 0x9FFF), (0xA000, 0xABFF), (0xAC00, 0xD7A3),
    (0xE000, 0xF8FF), (0xF900, 0xFFFF), (0x10000, 0x10FFF), (0x11000, 0x12FFF), (0x13000, 0x1AFFF),
    (0x1B000, 0x1EFFF), (0x1D7CE, 0x1D7FF), (0x1F000, 0x1FBFF), (0x20000, 0x2FFFF), (0x30000, 0x33FFF),
    (0x40000, 0xDFFFF), (0xE0000, 0xE01FF), (0xF0000, 0x10FFFF), (0x0, 0x10FFFF),
]

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
TEXT_BYTES = 1 << 20
IDS_PER_HASH = 512
SPECIAL = 1  # TOKENIZE_SPECIAL


class Random:
    """splitmix64."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return (z ^ z >> 31) % n


def character(rng):
    lo, hi = RANGES[rng.below(len(RANGES))]
    c = lo + rng.below(hi - lo + 1)
    return " " if 0xD800 <= c <= 0xDFFF else chr(c)


def fragment(rng, fragments):
    return fragments[rng.below(len(fragments))]


def random_string(rng, fragments):
    out = []
    for _ in range(1 + rng.below(24)):
        kind = rng.below(16)
        if kind == 0:
            out.append(fragment(rng, fragments))
        elif kind == 1:
            c = character(rng)
            out.append(c * (2 + rng.below(8)))
        else:
            out.append(character(rng))
    return "".join(out)


def run_of(rng, alphabet, longest):
    return "".join(alphabet[rng.below(len(alphabet))] for _ in range(1 + rng.below(1 + rng.below(longest))))


def mixed_text(rng, fragments):
    out, n = [], 0
    while n < TEXT_BYTES:
        kind = rng.below(16)
        if kind < 10:
            s = fragment(rng, fragments)
        elif kind == 10:
            s = run_of(rng, "0123456789", 40)
        elif kind == 11:
            s = run_of(rng, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", 3000)
        elif kind == 12:
            s = run_of(rng, " \t\n\r", 60)
        elif kind == 13:
            s = run_of(rng, "eatonrish ", 300)
        else:
            s = random_string(rng, fragments)
        s += ["", " ", " ", "\n"][rng.below(4)]
        out.append(s)
        n += len(s.encode())
    return "".join(out)


def hash_ids(ids):
    """FNV-1a over the ids' bytes, least first; 32 bits of it."""
    h = 0xCBF29CE484222325
    for i in ids:
        for b in i.to_bytes(4, "little"):
            h = (h ^ b) * 0x100000001B3 % 2**64
    return "%08x" % ((h ^ h >> 32) & 0xFFFFFFFF)


def build(tokens, special, merges, pre, flags):
    llama = pre == "llama-bpe"
    vocab = {t: i for i, t in enumerate(tokens)}
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=llama))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if pre == "smollm":
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    elif pre == "gpt-2":
        t.pre_tokenizer = byte_level
    else:
        digits = r"\p{N}{1,3}" if llama else r"\p{N}"
        split = pre_tokenizers.Split(Regex(CL100K % digits), "isolated")
        t.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if pre == "qwen2":
        t.normalizer = normalizers.NFC()
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in special])
    t.encode_special_tokens = not flags & SPECIAL
    return t


def main():
    fields = gguf.GGUFReader(sys.argv[1]).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    special = [t for t, k in zip(tokens, kinds) if k == gguf.TokenType.CONTROL]
    fragments = [unescape(f) for f in FRAGMENTS]

    print(f"# made by tests/goldens/make_tokenizer.py with tokenizers {tokenizers.__version__}")
    for f in fragments:
        print("fragment", f.encode().hex())
    for lo, hi in RANGES:
        print(f"range {lo:x} {hi:x}")
    cases = [("text", "smollm", SPECIAL, 1), ("text", "smollm", 0, 2), ("text", "llama-bpe", SPECIAL, 3),
             ("text", "qwen2", SPECIAL, 4), ("text", "gpt-2", 0, 5),
             ("strings", "smollm", SPECIAL, 11, 10000), ("strings", "smollm", 0, 12, 2000),
             ("strings", "gpt-2", SPECIAL, 13, 2000), ("strings", "llama-bpe", SPECIAL, 14, 2000),
             ("strings", "qwen2", SPECIAL, 15, 4000)]
    for what, pre, flags, seed, *count in cases:
        t = build(tokens, special, merges, pre, flags)
        rng = Random(seed)
        if what == "text":
            ids = t.encode(mixed_text(rng, fragments), add_special_tokens=False).ids
            lists = [ids[i:i + IDS_PER_HASH] for i in range(0, len(ids), IDS_PER_HASH)]
        else:
            strings = [random_string(rng, fragments) for _ in range(count[0])]
            lists = [e.ids for e in t.encode_batch(strings, add_special_tokens=False)]
        print(what, pre, flags, seed, len(lists))
        hashes = [hash_ids(x) for x in lists]
        for i in range(0, len(hashes), 14):
            print(" ".join(hashes[i:i + 14]))


def unescape(text):
    """\\n \\t \\r \\0 \\\\ \\uXXXX \\UXXXXXXXX; everything else stands for itself."""
    simple = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}
    out, i = [], 0
    while i < len(text):
        if text[i] != "\\":
            out.append(text[i])
            i += 1
            continue
        c = text[i + 1]
        width = {"u": 4, "U": 8}.get(c, 0)
        out.append(chr(int(text[i + 2:i + 2 + width], 16)) if width else simple[c])
        i += 2 + width
    return "".join(out)


if __name__ == "__main__":
    main()
