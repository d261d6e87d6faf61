#!/usr/bin/env python3
"""Makes kinds.json of tests/engine/test_kinds_golden.c from SmolLM2-135M-Instruct (needs torch, gguf, tokenizers; some minutes):
    python tests/goldens/make_kinds.py models/SmolLM2-135M-Instruct.Q4_1.gguf
Every kind of attention but full and streaming, each from its definition with dense masks in fp32: triangle, xattn and the full layers'
xattn at edges of length, and plans of kinds per layer (FlexPrefill's choice, HyLRA's reuse, LayerBoost's three ways, DuoAttention's
heads) in the words of --layer-plan."""
import math
import re
import sys

import torch

from make_reference import long_prompt, save, tokenizer
from reference import BLOCK, Model, Sequence, visible

STRIDE = 16
LENGTHS = (1, 15, 16, 17, 127, 128, 129, 255, 1000, 1281)
SINK, WINDOW, N_LAST = 128, 256, 128


def choose(score, threshold):
    """score [blocks, blocks] of one head -> set of kept blocks of each query block."""
    kept = []
    for qb in range(len(score)):
        row = score[qb, :qb + 1]
        total, got = row.sum(), {0, qb}
        have = sum(row[b] for b in sorted(got))
        for b in torch.sort(row, descending=True, stable=True).indices.tolist():
            if have >= threshold * total:
                break
            if b not in got:
                got.add(b)
                have = have + row[b]
        kept.append(got)
    return kept


def xattn_scores(q, k):
    """q, k [S, K] of one head after RoPE: antidiagonal sums of groups of 16 rows, softmax, summed over blocks."""
    S, K = q.shape
    nb = math.ceil(S / BLOCK)
    pad = torch.zeros(nb * BLOCK - S, K)
    q, k = torch.cat([q, pad]), torch.cat([k, pad])
    ng = nb * BLOCK // STRIDE
    a = sum(q[STRIDE - 1 - i::STRIDE] @ k[i::STRIDE].T for i in range(STRIDE)) / (math.sqrt(K) * STRIDE)
    r = torch.arange(ng)
    a = a.masked_fill(r[None] > r[:, None], -math.inf).softmax(-1)
    a[math.ceil(S / STRIDE):] = 0
    return a.view(nb, BLOCK // STRIDE, nb, BLOCK // STRIDE).sum((1, 3))


def flex_scores(q, k):
    """Mean query of each block against mean key of each block, causal softmax (FlexPrefill's query-aware estimate)."""
    mean = lambda x: torch.stack([b.mean(0) for b in x.split(BLOCK)])
    a = mean(q) @ mean(k).T / math.sqrt(q.shape[1])
    r = torch.arange(len(a))
    return a.masked_fill(r[None] > r[:, None], -math.inf).softmax(-1)


CHOICE = {"xattn": (xattn_scores, 0.9), "flex": (flex_scores, 0.95)}


def block_mask(kept, S):
    m = torch.zeros(S, S, dtype=torch.bool)
    for qb, blocks in enumerate(kept):
        for b in blocks:
            m[qb * BLOCK:(qb + 1) * BLOCK, b * BLOCK:(b + 1) * BLOCK] = True
    return m & torch.ones(S, S, dtype=torch.bool).tril()


class Kinds(Sequence):
    """kind[l]: (what layer l does with the prompt, its argument)."""

    def __init__(self, model, ids, kinds):
        super().__init__(model, ids, [None] * model.L, sink=SINK, window=WINDOW)
        self.kinds, self.kept, self.prompt = kinds, {}, True
        self.lent = {arg for word, arg in kinds if word == "reuse"}  # full layers choose too where another reuses it

    def mask(self, l, q, h):
        """[queries, keys] of query head h; None: the layer has no attention."""
        (kind, arg), S, n = self.kinds[l], self.S, len(self.k[l])
        g = h * self.m.G // self.m.H
        stream, full = (visible(bit, self.pos, n, self.sink, self.local) for bit in (0, 1))
        if kind == "none":
            return None
        if kind == "window":
            return visible(0, self.pos, n, 0, self.local)
        if kind == "split":
            return full if g in arg else stream
        if not self.prompt:
            return full if kind in ("full", "flex", "reuse", "retrieval") else stream
        if kind == "triangle":
            last = self.pos[:, None] >= S - min(N_LAST, S - 1)
            return torch.where(last, full, stream)
        if kind == "reuse":
            return block_mask(self.kept[arg][h], S)
        if kind in ("xattn", "retrieval", "flex") or l in self.lent:
            score, threshold = CHOICE["flex" if kind == "flex" else "xattn"]
            self.kept.setdefault(l, []).append(choose(score(q[:, h], self.k[l][:, g]), threshold))
            if kind != "full":
                return block_mask(self.kept[l][h], S)
        return full if kind == "full" else stream

    def layer(self, l):
        m, w, n = self.m, self.m.w, len(self.pos)
        p = f"blk.{l}."
        h = m.norm(self.x, p + "attn_norm.weight")
        q = m.rope(self.queries(l), self.pos)
        k = m.rope((h @ w[p + "attn_k.weight"].T).view(n, m.G, m.K), self.pos)
        v = (h @ w[p + "attn_v.weight"].T).view(n, m.G, m.K)
        self.k[l] = k if self.k[l] is None else torch.cat([self.k[l], k])
        self.v[l] = v if self.v[l] is None else torch.cat([self.v[l], v])
        out = []
        for head in range(m.H):
            g = head * m.G // m.H
            mask = self.mask(l, q, head)
            if mask is None:
                out.append(torch.zeros(n, m.K))
                continue
            s = q[:, head] @ self.k[l][:, g].T / math.sqrt(m.K)
            out.append(s.masked_fill(~mask, -math.inf).softmax(-1) @ self.v[l][:, g])
        self.x = self.x + torch.cat(out, -1) @ w[p + "attn_output.weight"].T
        h = m.norm(self.x, p + "ffn_norm.weight")
        gate = torch.nn.functional.silu(h @ w[p + "ffn_gate.weight"].T)
        self.x = self.x + (gate * (h @ w[p + "ffn_up.weight"].T)) @ w[p + "ffn_down.weight"].T

    def run(self, n):
        self.prefill()
        self.prompt = False
        return self.greedy(n)


def numbers(text):
    """'0-1+4' -> {0, 1, 4}"""
    ends = [[int(x) for x in part.split("-")] for part in text.split("+")]
    return {n for e in ends for n in range(e[0], e[-1] + 1)}


def expand(plan, n_layer):
    kinds = [("full", None)] * n_layer
    for layers, word, arg in re.findall(r"([\d-]+):([a-z]+)(?:\(([^)]*)\))?", plan):
        for l in numbers(layers):
            kinds[l] = (word, int(arg) if word == "reuse" else numbers(arg) if word == "split" else None)
    return kinds


def density(s):
    """Share of the causal blocks that the choices kept."""
    have = sum(len(b) for heads in s.kept.values() for head in heads for b in head)
    return have / max(1, sum(len(head) * (len(head) + 1) / 2 for heads in s.kept.values() for head in heads))


PLANS = ("0-1:full,2-27:flex,28-29:full",
         "0-2:full,3-5:reuse(2),6:flex,7-9:reuse(6),10:retrieval,11-13:reuse(10),14:full,15-17:reuse(14),18:flex,19:xattn,20-22:reuse(18),"
         "23-25:reuse(19),26-29:full",
         "0-2:full,3:window,4:full,5:streaming,6:none,7:window,8:full,9:window,10:none,11:window,12:full,13:window,14:none,15:streaming,"
         "16:full,17:window,18:none,19:window,20:full,21:window,22:none,23:window,24:full,25:triangle,26:none,27-29:full",
         "0-8:split(0-1),9-17:split(0+2),18-24:split(1),25:full,26-29:split(1-2)")


def make(m, tok):
    long = long_prompt(tok, 1281, 1281)
    prompts = [long[:n] if n < 127 else long_prompt(tok, n, n) for n in LENGTHS] + [long_prompt(tok, 1601, 1601)]
    half = "".join(str(l % 2) for l in range(m.L))
    kinds, plans = [], []
    for plan in PLANS:
        for i in (LENGTHS.index(1000), len(LENGTHS)):
            s = Kinds(m, prompts[i], expand(plan, m.L))
            plans.append({"plan": plan, "prompt": i, "out": s.run(8)})
            print(plan, s.S, f"{density(s):.2f}", repr(tok.decode(s.ids[s.S:])), flush=True)
    for setting, route in (("triangle", half), ("xattn", half), ("retrieval", half)):
        for i in range(len(LENGTHS)):
            sparse, full = ("streaming", "retrieval") if setting == "retrieval" else (setting, "full")
            s = Kinds(m, prompts[i], [(full if b == "1" else sparse, None) for b in route])
            kinds.append({"setting": setting, "prompt": i, "route": route, "out": s.run(8)})
            print(setting, s.S, f"{density(s):.2f}", repr(tok.decode(s.ids[s.S:])), flush=True)
    save("kinds.json", {"sink": SINK, "window": WINDOW, "triangle_n_last": N_LAST, "prompts": prompts, "kinds": kinds, "plans": plans})


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    make(Model(sys.argv[1]), tokenizer(sys.argv[1]))
