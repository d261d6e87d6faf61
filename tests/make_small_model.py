"""Writes a small model for the end-to-end tests: make_small_model.py MODEL.gguf SMALL.gguf

Tokenizer, chat template, layers, heads and so the KV pages are those of MODEL (a llama GGUF); the width is 64 and the weights are
random, always the same. A token costs a twentieth of the real model's, and what tests ask of a server other than sense holds alike.
"""
import random
import struct
import sys

WIDTH, FEED_FORWARD = 64, 128
Q8_0, F32, BLOCK = 8, 0, 32
ALIGN = 32
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a GGUF value by its type
STRING, ARRAY, U32 = 8, 9, 4


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def string(self):
        return self.take(self.u64()).decode()

    def skip(self, kind):
        if kind == STRING:
            self.take(self.u64())
        elif kind == ARRAY:
            of, n = self.u32(), self.u64()
            if of in SIZES:
                self.take(n * SIZES[of])
            else:
                for _ in range(n):
                    self.skip(of)
        else:
            self.take(SIZES[kind])


def string(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def pair(key, value):
    return string(key) + struct.pack("<II", U32, value)


def read(data):
    """The pairs as they stand ({key: bytes of type and value}) and the names of the tensors with their shapes."""
    r = Reader(data)
    assert r.take(4) == b"GGUF" and r.u32() == 3
    n_tensor, n_pair = r.u64(), r.u64()
    pairs, tensors = {}, {}
    for _ in range(n_pair):
        key = r.string()
        start = r.at
        r.skip(r.u32())
        pairs[key] = r.data[start:r.at]
    for _ in range(n_tensor):
        name = r.string()
        tensors[name] = [r.u64() for _ in range(r.u32())]
        r.take(12)
    return pairs, tensors


def number(value):
    return struct.unpack("<I", value[4:8])[0]


def quantized(rng, n, deviation):
    """Q8_0 blocks: a half-precision scale and 32 signed bytes each, uniform, so their deviation is 73.9 scales."""
    scale, raw = struct.pack("<e", deviation / 73.9), rng.randbytes(n)
    return b"".join(scale + raw[i:i + BLOCK] for i in range(0, n, BLOCK))


def main(source, target):
    with open(source, "rb") as f:
        pairs, tensors = read(f.read())
    heads, kv_heads = number(pairs["llama.attention.head_count"]), number(pairs["llama.attention.head_count_kv"])
    head = number(pairs["llama.embedding_length"]) // heads
    shape_of = {"token_embd": (WIDTH, tensors["token_embd.weight"][1]), "attn_q": (WIDTH, heads * head), "attn_k": (WIDTH, kv_heads * head),
                "attn_v": (WIDTH, kv_heads * head), "attn_output": (heads * head, WIDTH), "ffn_gate": (WIDTH, FEED_FORWARD),
                "ffn_up": (WIDTH, FEED_FORWARD), "ffn_down": (FEED_FORWARD, WIDTH)}
    own = {"llama.embedding_length": WIDTH, "llama.feed_forward_length": FEED_FORWARD, "llama.attention.key_length": head,
           "llama.attention.value_length": head, "llama.rope.dimension_count": head}
    head_of_file = b"".join(string(k) + v for k, v in pairs.items() if k not in own) + b"".join(pair(k, v) for k, v in own.items())
    rng, infos, body = random.Random(11), b"", bytearray()
    for name in tensors:
        part = name.removesuffix(".weight").split(".")[-1]
        shape = shape_of.get(part, (WIDTH,))
        body += bytes(-len(body) % ALIGN)
        infos += string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", Q8_0 if part in shape_of else F32, len(body))
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        body += quantized(rng, n, 0.5 if part == "token_embd" else 2 * shape[0] ** -0.5) if part in shape_of else struct.pack("<f", 1) * n
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len([k for k in pairs if k not in own]) + len(own)) + head_of_file + infos
    with open(target, "wb") as f:
        f.write(out + bytes(-len(out) % ALIGN) + body)


if __name__ == "__main__":
    main(*sys.argv[1:])
