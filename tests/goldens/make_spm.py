"""Sentencepiece vocabularies. Trains a small one with byte_fallback and writes tests/goldens/spm/: a GGUF with its scores, directories
with tokenizer.json as models of this kind have it (Prepend and Replace; Metaspace, first, always and with words), and golden.json, texts
with their ids by `sentencepiece` and `tokenizers`. tests/server/text/test_spm_golden.c reads them.

    python tests/goldens/make_spm.py

With arguments it compares instead: 1 MB of mixed text and 20,000 random strings for each of these, and vocabularies of others by their
scores, with texts and ids beside them where there are some (ggml-vocab-llama-spm.gguf of llama.cpp, .inp, .out):

    make build/tests/server/text/tokenizer_cli
    python tests/goldens/make_spm.py build/tests/server/text/tokenizer_cli [GGUF ...]

Needs: sentencepiece, tokenizers, gguf.
"""
import io
import json
import pathlib
import sys
import tempfile

import gguf
import sentencepiece
from tokenizers import Tokenizer

import make_tokenizer as small
import make_tokenizers as many

ROOT = pathlib.Path(__file__).parent / "spm"
MARK = "\u2581"
N_PIECE, N_GOLDEN, N_STRINGS = 700, 100, 20000
SPECIAL, ADD = many.SPECIAL, many.ADD
PREPEND = [{"type": "Prepend", "prepend": MARK}, {"type": "Replace", "pattern": {"String": " "}, "content": MARK}]


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": split}


FORMS = {  # normalizer, pre_tokenizer
    "prepend": ({"type": "Sequence", "normalizers": PREPEND}, None),
    "first": (None, metaspace("first", False)),
    "always": (None, metaspace("always", False)),
    "words": (None, metaspace("always", True)),
    "none": (PREPEND[1], None),
}


def corpus():
    root = pathlib.Path(__file__).parent.parent.parent
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md")), root / "tests/e2e/prose.txt"]:
        yield from path.read_text().splitlines()
    for _ in range(20):
        yield from ("".join(c for c in small.unescape(f) if c.isprintable()) for f in small.FRAGMENTS)


def train():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(), model_writer=model, model_type="bpe", vocab_size=N_PIECE, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        split_digits=True, character_coverage=0.995, num_threads=1, user_defined_symbols=["<|tool|>"], minloglevel=2)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def kind_of(sp, i):
    t = gguf.TokenType
    return t.UNKNOWN if sp.is_unknown(i) else t.CONTROL if sp.is_control(i) else t.BYTE if sp.is_byte(i) else \
        t.USER_DEFINED if sp.id_to_piece(i) == "<|tool|>" else t.NORMAL


def write_gguf(sp, path):
    n = sp.get_piece_size()
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model("llama")
    w.add_token_list([sp.id_to_piece(i) for i in range(n)])
    w.add_token_scores([sp.get_score(i) for i in range(n)])
    w.add_token_types([kind_of(sp, i) for i in range(n)])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def merges_of(sp):
    """As transformers makes them of such a model."""
    rank = {sp.id_to_piece(i): i for i in range(sp.get_piece_size()) if kind_of(sp, i) in (gguf.TokenType.NORMAL, gguf.TokenType.USER_DEFINED)}
    merges = []
    for piece, i in rank.items():
        pairs = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in rank and piece[k:] in rank]
        merges += [(*p, sp.get_score(i)) for p in sorted(pairs, key=lambda p: (rank[p[0]], rank[p[1]]))]
    return [[a, b] for a, b, _ in sorted(merges, key=lambda m: m[2], reverse=True)]


def write_json(sp, path, normalizer, pre_tokenizer):
    added = [{"id": i, "content": sp.id_to_piece(i), "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": kind_of(sp, i) != gguf.TokenType.USER_DEFINED}
             for i in range(sp.get_piece_size()) if kind_of(sp, i) in (gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN, gguf.TokenType.USER_DEFINED)]
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    post = {"type": "TemplateProcessing", "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    decoder = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": MARK}, "content": " "}, {"type": "ByteFallback"},
                                                {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    path.mkdir(parents=True, exist_ok=True)
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
             "vocab": {sp.id_to_piece(i): i for i in range(sp.get_piece_size())}, "merges": merges_of(sp)}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
             "pre_tokenizer": pre_tokenizer, "post_processor": post, "decoder": decoder, "model": model}
    (path / "tokenizer.json").write_text(json.dumps(whole, ensure_ascii=False, separators=(",", ":")))


def fragments_of(special):
    """Without whole tokens for sentencepiece, which puts no space behind them: the first readers of the other formats do."""
    found = [small.unescape(f) for f in small.FRAGMENTS] + [MARK, MARK + " ", "  ", "<0x0A>", "aaaaaaa"]
    return found + ([" <|tool|>", "<|tool|> x", "<s>", "</s> ", " <unk>", "<s> <s>"] if special else [])


def strings_of(seed, n, special):
    rng = small.Random(seed)
    fragments = fragments_of(special)
    fixed = ["", " ", "  ", "a", " a", MARK, MARK + "a", "a ", "\n", "\n a", "\U0001f600", "e\u0301", "aaaaaaaaaaaaa", "<0x41>"]
    return (fixed + [small.random_string(rng, fragments) for _ in range(n)])[:n], small.mixed_text(rng, fragments)


def write():
    sp = train()
    write_gguf(sp, ROOT / "vocab.gguf") if ROOT.exists() else (ROOT.mkdir(), write_gguf(sp, ROOT / "vocab.gguf"))
    plain, marked = ([s.replace("\0", "") for s in strings_of(3 + special, N_GOLDEN, special)[0]] for special in (False, True))
    golden = {"plain": plain, "special": marked, "ids": {"vocab.gguf": {"plain": [sp.encode(s) for s in plain]}}, "text": {}}
    for name, (normalizer, pre) in FORMS.items():
        write_json(sp, ROOT / name, normalizer, pre)
        reference = Tokenizer.from_file(str(ROOT / name / "tokenizer.json"))
        golden["ids"][name] = {"plain": many.theirs(reference, 0, plain), "special": many.theirs(reference, SPECIAL, marked)}
        golden["text"][name] = [reference.decode(ids, skip_special_tokens=False) for ids in golden["ids"][name]["special"]]
    (ROOT / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    (ROOT / "vocab.model").write_bytes(sp.serialized_model_proto())
    print(sum(f.stat().st_size for f in ROOT.rglob("*") if f.is_file()), "bytes")


def check_ours(cli, work):
    sp = sentencepiece.SentencePieceProcessor(model_file=str(ROOT / "vocab.model"))
    wrong = 0
    for special in (False, True):
        strings, text = strings_of(11 + special, N_STRINGS, special)
        for what, texts in (("strings", strings), ("text", [text])):
            if not special:
                got, told = many.ours(cli, str(ROOT / "vocab.gguf"), 0, texts, work)
                wrong += many.compare(f"sentencepiece {what}", texts, got, [sp.encode(s) for s in texts], told)
            for name in FORMS:
                reference = Tokenizer.from_file(str(ROOT / name / "tokenizer.json"))
                flags = SPECIAL if special else 0
                got, told = many.ours(cli, str(ROOT / name), flags, texts, work)
                wrong += many.compare(f"tokenizers {name} {what} flags={flags}", texts, got, many.theirs(reference, flags, texts), told)
    return wrong


def check_shipped(cli, path, work):
    truth, ids = many.shipped_truths(path)
    got, told = many.ours(cli, path, SPECIAL, truth, work)
    return many.compare(f"{path} shipped truths", truth, got, ids, told)


def main():
    if len(sys.argv) == 1:
        return write()
    with tempfile.TemporaryDirectory() as work:
        wrong = check_ours(sys.argv[1], work) + sum(check_shipped(sys.argv[1], p, work) for p in sys.argv[2:])
    print("differences in all:", wrong)
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
