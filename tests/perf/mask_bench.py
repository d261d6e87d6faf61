"""Mask and compile times beside llguidance and xgrammar (PyPI): python mask_bench.py SCHEMA_SUITE VOCAB.gguf FILE...

The same schemas, vocabulary, instances and core for all three. FILE is what schema_suite reads; its valid instances are fed token by
token, and each engine makes a mask before every token. Ours runs in schema_suite, which measures the same two things. Times are CPU
time of the thread; what an engine refuses or fails on is left out of its own averages and counted."""
import json
import struct
import subprocess
import sys
import time

import llguidance
import numpy as np
import xgrammar


def read_gguf(path):
    """Tokens and their kinds out of a GGUF file's header."""
    data = open(path, "rb").read()
    at = 24
    n_kv = struct.unpack_from("<Q", data, 16)[0]
    size = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}

    def string(at):
        n = struct.unpack_from("<Q", data, at)[0]
        return data[at + 8:at + 8 + n], at + 8 + n

    def value(kind, at):
        if kind == 8:
            return string(at)
        if kind != 9:
            return struct.unpack_from(size[kind], data, at)[0], at + struct.calcsize(size[kind])
        kind, n = struct.unpack_from("<IQ", data, at)
        at += 12
        out = []
        for _ in range(n):
            v, at = value(kind, at)
            out.append(v)
        return out, at

    kv = {}
    for _ in range(n_kv):
        key, at = string(at)
        kind = struct.unpack_from("<I", data, at)[0]
        kv[key.decode()], at = value(kind, at + 4)
    return kv


def byte_alphabet():
    """GPT-2's spelling of bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    back, n = {chr(b): b for b in plain}, 0
    for b in range(256):
        if b not in plain:
            back[chr(256 + n)] = b
            n += 1
    return back


class Vocab:
    def __init__(self, path):
        kv = read_gguf(path)
        back = byte_alphabet()
        kinds = kv["tokenizer.ggml.token_type"]
        self.eos = kv["tokenizer.ggml.eos_token_id"]
        self.bytes = []
        for piece, kind in zip(kv["tokenizer.ggml.tokens"], kinds):
            text = piece.decode("utf-8")
            plain = kind == 1 and all(c in back for c in text)
            self.bytes.append(bytes(back[c] for c in text) if plain else b"\xff" + piece if kind != 1 else piece)
        self.longest = max(len(b) for b, k in zip(self.bytes, kinds) if k == 1)
        self.ids = {b: i for i, b in reversed(list(enumerate(self.bytes))) if kinds[i] == 1}

    def cut(self, text):
        """The longest token that fits, again and again: one and the same cut for all engines."""
        out, at = [], 0
        while at < len(text):
            for n in range(min(self.longest, len(text) - at), 0, -1):
                if text[at:at + n] in self.ids:
                    out.append(self.ids[text[at:at + n]])
                    at += n
                    break
            else:
                raise SystemExit("a byte without a token")
        return out


class LLGuidance:
    name = "llguidance"

    def __init__(self, vocab):
        class Wrap:
            eos_token_id, bos_token_id = vocab.eos, None
            tokens = vocab.bytes
            special_token_ids = [i for i, b in enumerate(vocab.bytes) if b[:1] == b"\xff"]

            def __call__(self, text):
                return vocab.cut(text if isinstance(text, bytes) else text.encode())

        self.tok = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Wrap()), n_vocab=len(vocab.bytes))
        self.mask = np.zeros((len(vocab.bytes) + 31) // 32, dtype=np.int32)

    def compile(self, schema):
        options = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=options)
        m = llguidance.LLMatcher(self.tok, grammar, log_level=0)
        if m.is_error():
            raise ValueError(m.get_error())
        return m

    def start(self, m):
        m.reset()
        return m

    def fill(self, m):
        m.unsafe_compute_mask_ptr(self.mask.ctypes.data, self.mask.nbytes)

    def accept(self, m, token):
        return m.consume_token(token)


class XGrammar:
    name = "xgrammar"

    def __init__(self, vocab):
        info = xgrammar.TokenizerInfo(vocab.bytes, xgrammar.VocabType.RAW, vocab_size=len(vocab.bytes), stop_token_ids=[vocab.eos])
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.mask = xgrammar.allocate_token_bitmask(1, len(vocab.bytes))

    def compile(self, schema):
        return self.compiler.compile_json_schema(schema, any_whitespace=False, separators=(", ", ": "), strict_mode=False)

    def start(self, compiled):
        return xgrammar.GrammarMatcher(compiled)

    def fill(self, m):
        m.fill_next_token_bitmask(self.mask)

    def accept(self, m, token):
        return m.accept_token(token)


def percentile(v, p):
    return float(np.percentile(v, p)) if v else 0.0


def measure(engine, vocab, cases):
    masks, compiles, refused, stuck = [], [], 0, 0
    for case in cases:
        t0 = time.thread_time_ns()
        try:
            compiled = engine.compile(json.dumps(case["schema"]))
        except Exception:
            refused += 1
            continue
        compiles.append((time.thread_time_ns() - t0) / 1e3)
        for test in case["tests"]:
            if not test["valid"]:
                continue
            m = engine.start(compiled)
            for token in test["tokens"]:
                t0 = time.thread_time_ns()
                engine.fill(m)
                masks.append((time.thread_time_ns() - t0) / 1e3)
                if not engine.accept(m, token):
                    stuck += 1
                    break
    return {"engine": engine.name, "mask_us": round(float(np.mean(masks)), 1), "mask_p50": round(percentile(masks, 50), 1),
            "mask_p99": round(percentile(masks, 99), 1), "mask_most": round(max(masks), 1), "masks": len(masks),
            "compile_us": round(float(np.mean(compiles)), 1), "compile_most": round(max(compiles), 1), "refused": refused, "stuck": stuck}


def main():
    suite, gguf, files = sys.argv[1], sys.argv[2], sys.argv[3:]
    vocab = Vocab(gguf)
    cases = []
    for path in files:
        group = json.load(open(path))
        cases += group if isinstance(group, list) else [group]
    for case in cases:
        for test in case["tests"]:
            test["tokens"] = vocab.cut(json.dumps(test["data"], ensure_ascii=False).encode())
    ours = subprocess.run([suite, "--schema-format", "annotate", gguf, *files], capture_output=True, text=True).stdout.splitlines()[-1]
    print("ours", ours)
    for engine in (LLGuidance, XGrammar):
        print(json.dumps(measure(engine(vocab), vocab, cases)))


if __name__ == "__main__":
    main()
