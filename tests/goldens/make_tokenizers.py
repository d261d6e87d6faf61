"""Compares the tokenizer with the `tokenizers` package on whole vocabularies: 1 MB of mixed text and 20,000 random Unicode
strings each, with and without special tokens, read from GGUF and from the tokenizer.json that models of this kind have.
Vocabularies of other models than the small one are too large to be kept here; pass the files, for instance
ggml-vocab-{gpt-2,llama-bpe,qwen2}.gguf, which llama.cpp ships with texts and their ids (.inp, .out) beside them.

    make build/tests/server/text/tokenizer_cli
    python tests/goldens/make_tokenizers.py build/tests/server/text/tokenizer_cli models/SmolLM2-135M-Instruct.Q4_1.gguf [GGUF ...]

Needs: tokenizers, gguf. Prints a line for each comparison; fails where there is a difference.
"""
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import gguf
from tokenizers import Tokenizer

import make_tokenizer as small

N_STRINGS = 20000
SPECIAL, ADD = 1, 2  # enum tokenize_flags
WORDS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES = dict(WORDS, use_regex=False)


def cl100k(digits):
    split = {"type": "Split", "pattern": {"Regex": small.CL100K % digits}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, BYTES]}


# By tokenizer.ggml.pre: pre_tokenizer, normalizer, ignore_merges, special tokens stand in the model's vocabulary too.
KINDS = {
    "smollm": ({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, WORDS]}, None, False, True),
    "gpt-2": (WORDS, None, False, True),
    "llama-bpe": (cl100k(r"\p{N}{1,3}"), None, True, False),
    "qwen2": (cl100k(r"\p{N}"), {"type": "NFC"}, False, False),
}


# Patterns of further models, and what else they are made of; all run by the vocabulary at hand.
PATTERNS = [
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
    r" ?[^(\s|.,!?…。，、।۔،)]+",
    r"\p{Lo}+|\p{^L}\p{Lu}|(?<=\d)\p{P}(?=\d)|(?<!\p{L})\p{Lu}(?!\p{L})|(?>\d+)|\D++$|^ +",
    r".,|\S\x{301}?|\p{Sc}\d{2,}|[^\P{L}a-z]+",
]


def read_gguf(path):
    fields = gguf.GGUFReader(path).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    bos = get("bos_token_id") if "tokenizer.ggml.bos_token_id" in fields else None
    return get("tokens"), get("token_type"), get("merges"), get("pre"), bos


def tokenizer_json(tokens, kinds, merges, pre, bos, pairs, traits=None):
    """traits: changes to the added tokens by id. GGUF knows none: its tokens are looked for in raw text, as they stand."""
    pre_tokenizer, normalizer, ignore_merges, special_in_vocab = KINDS[pre]
    added, vocab = [], {}
    for i, (text, kind) in enumerate(zip(tokens, kinds)):
        whole = kind in (gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN, gguf.TokenType.USER_DEFINED)
        if whole:
            added.append({"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": kind != gguf.TokenType.USER_DEFINED})
            added[-1].update((traits or {}).get(i, {}))
        if kind == gguf.TokenType.NORMAL or (whole and special_in_vocab):
            vocab[text] = i
    post = None
    if bos is not None and pre == "llama-bpe":
        name = tokens[bos]
        part = {"SpecialToken": {"id": name, "type_id": 0}}
        text = lambda which: {"Sequence": {"id": which, "type_id": 0}}
        post = {"type": "Sequence", "processors": [dict(WORDS), {
            "type": "TemplateProcessing", "single": [part, text("A")], "pair": [part, text("A"), part, text("B")],
            "special_tokens": {name: {"id": name, "ids": [bos], "tokens": [name]}}}]}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": post, "decoder": dict(WORDS),
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore_merges,
                      "vocab": vocab, "merges": [m.split(" ") for m in merges] if pairs else merges}}


def ours(cli, model, flags, texts, work):
    source, result = os.path.join(work, "in"), os.path.join(work, "out")
    with open(source, "wb") as f:
        for s in texts:
            raw = s.encode()
            f.write(struct.pack("<I", len(raw)) + raw)
    done = subprocess.run([cli, model, str(flags), source, result], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    data, at, out = open(result, "rb").read(), 0, []
    while at < len(data):
        code, n = struct.unpack_from("<iI", data, at)
        ids = list(struct.unpack_from(f"<{n}i", data, at + 8))
        out.append(ids if code == 0 else f"error {code}")
        at += 8 + 4 * n
    return out, done.stderr.strip()


def theirs(tokenizer, flags, texts):
    tokenizer.encode_special_tokens = not flags & SPECIAL
    out = []
    for i in range(0, len(texts), 2000):
        out += [e.ids for e in tokenizer.encode_batch(texts[i:i + 2000], add_special_tokens=bool(flags & ADD))]
    return out


def compare(label, texts, got, want, told):
    wrong = [i for i in range(len(texts)) if got[i] != want[i]]
    n_bytes = sum(len(s.encode()) for s in texts)
    print(f"{label}: {len(texts)} texts, {n_bytes} bytes, {sum(map(len, want))} ids: {len(wrong)} differences ({told})", flush=True)
    for i in wrong[:3]:
        print("   ", repr(texts[i][:100]), got[i][:20], want[i][:20])
    return len(wrong)


def shipped_truths(path):
    """Texts and ids beside a vocabulary of llama.cpp."""
    if not os.path.exists(path + ".inp"):
        return [], []
    texts = open(path + ".inp", encoding="utf8", newline="").read().split("\n__ggml_vocab_test__\n")
    ids = [[int(x) for x in line.split()] for line in open(path + ".out").read().split("\n")]
    return texts, ids[:len(texts)]


def check(cli, path, work):
    tokens, kinds, merges, pre, bos = read_gguf(path)
    whole = [i for i, k in enumerate(kinds) if k in (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED)]
    fragments = [small.unescape(f) for f in small.FRAGMENTS] + [tokens[i] for i in whole[:40]] + [f" {tokens[i]}\n " for i in whole[:10]]
    rng = small.Random(sum(pre.encode()))
    text = [small.mixed_text(rng, fragments)]
    strings = [small.random_string(rng, fragments) for _ in range(N_STRINGS)]
    wrong = 0
    for pairs in (False, True):
        file = os.path.join(work, "tokenizer.json")
        json.dump(tokenizer_json(tokens, kinds, merges, pre, bos, pairs), open(file, "w"), ensure_ascii=pairs, indent=2 if pairs else None)
        reference = Tokenizer.from_file(file)
        if pairs:
            reference.save(file, pretty=False)  # the package's own hand
        for flags in (0, SPECIAL):
            for name, texts in (("text", text), ("strings", strings)):
                want = theirs(reference, flags, texts)
                for model in (work,) if pairs else (path, work):
                    kind = "GGUF" if model == path else "json, pairs" if pairs else "json"
                    got, told = ours(cli, model, flags, texts, work)
                    wrong += compare(f"{pre} {kind} {name} flags={flags}", texts, got, want, told)
        got, told = ours(cli, work, SPECIAL | ADD, strings[:1000], work)
        wrong += compare(f"{pre} json bos", strings[:1000], got, theirs(reference, SPECIAL | ADD, strings[:1000]), told)
    truth, ids = shipped_truths(path)
    if truth:
        got, told = ours(cli, path, SPECIAL, truth, work)
        wrong += compare(f"{pre} GGUF shipped truths", truth, got, ids, told)
    draw = random.Random(7)  # added tokens of every sort
    traits = {i: {k: draw.random() < 0.5 for k in ("lstrip", "rstrip", "normalized", "special")} for i in whole}
    for t in traits.values():  # a special one is never looked for in normalised text here, see server/text/tokenizer.c
        t["normalized"] &= not (KINDS[pre][1] and t["special"])
    json.dump(tokenizer_json(tokens, kinds, merges, pre, bos, False, traits), open(file, "w"), ensure_ascii=False)
    reference = Tokenizer.from_file(file)
    strings = [small.random_string(rng, fragments[-50:] + [" ", "\n", "\u00a0", "\u3000 "]) for _ in range(5000)]
    strings += [s + tokens[draw.choice(whole)] + draw.choice(["", " ", "\u2028\t", "\u0338"]) + tokens[draw.choice(whole)] for s in strings]
    for flags in (0, SPECIAL):
        got, told = ours(cli, work, flags, strings, work)
        wrong += compare(f"{pre} json traits flags={flags}", strings, got, theirs(reference, flags, strings), told)
    return wrong + check_patterns(cli, (tokens, kinds, merges, pre, None), fragments, work)


def check_patterns(cli, source, fragments, work):
    file, wrong, rng = os.path.join(work, "tokenizer.json"), 0, small.Random(99)
    strings = [small.random_string(rng, fragments) for _ in range(5000)] + [small.mixed_text(rng, fragments)]
    for i, pattern in enumerate(PATTERNS):
        content = tokenizer_json(*source, False)
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, BYTES]}
        json.dump(content, open(file, "w"))
        got, told = ours(cli, work, SPECIAL, strings, work)
        want = theirs(Tokenizer.from_file(file), SPECIAL, strings)
        wrong += compare(f"{source[3]} json pattern {i}", strings, got, want, told)
    return wrong


def main():
    cli, *paths = sys.argv[1:]
    with tempfile.TemporaryDirectory() as work:
        wrong = sum(check(cli, p, work) for p in paths)
    print("differences in all:", wrong)
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
