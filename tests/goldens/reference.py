"""The reference that the engine is measured against: the same transformer in fp32 PyTorch on the dequantised weights of a
GGUF file, with dense masks and nothing clever. Written from the definitions (RMSNorm, RoPE, grouped attention, gated MLP,
Flux Attention's layer routes), not from the engine's code."""
import math

import gguf
import numpy as np
import torch

BLOCK = 128


class Model:
    def __init__(self, path):
        r = gguf.GGUFReader(path)
        key = lambda k: r.fields["llama." + k].contents()
        self.L, self.D = key("block_count"), key("embedding_length")
        self.H, self.G = key("attention.head_count"), key("attention.head_count_kv")
        self.K = self.D // self.H
        self.eps = float(key("attention.layer_norm_rms_epsilon"))
        w = {}
        for t in r.tensors:
            a = gguf.dequantize(t.data, t.tensor_type).astype(np.float32)
            w[t.name] = torch.from_numpy(a.reshape([int(x) for x in reversed(t.shape)]).copy())
        for l in range(self.L):  # GGUF keeps the rows of q and k in pairs (i, i + K/2)
            for name, heads in (("attn_q", self.H), ("attn_k", self.G)):
                m = w[f"blk.{l}.{name}.weight"]
                w[f"blk.{l}.{name}.weight"] = m.view(heads, self.K // 2, 2, -1).transpose(1, 2).reshape(m.shape)
        self.w = w
        self.head = w.get("output.weight", w["token_embd.weight"])
        self.rope_base = float(key("rope.freq_base"))
        self.inv = self.rope_base ** (-torch.arange(0, self.K, 2, dtype=torch.float64) / self.K)

    def norm(self, x, name):
        return self.w[name] * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))

    def rope(self, x, pos):
        a = pos.double()[:, None] * self.inv
        c, s = a.cos().float()[:, None], a.sin().float()[:, None]
        x1, x2 = x.chunk(2, -1)
        return torch.cat([x1 * c - x2 * s, x2 * c + x1 * s], -1)

    def logits(self, x):
        return self.norm(x, "output_norm.weight") @ self.head.T


def visible(kind, q_pos, n_key, sink_blocks, local_blocks):
    """Mask [queries, keys] of a layer's kind (1 full, 0 streaming)."""
    q, k = q_pos[:, None], torch.arange(n_key)[None]
    causal = k <= q
    if kind == 1:
        return causal
    qb, kb = q // BLOCK, k // BLOCK
    return causal & ((kb < sink_blocks) | (kb > qb - local_blocks))


class Sequence:
    """One prompt and its answer. sink and window in tokens; route[l] is 1 (full), 0 (streaming) or None (not known yet)."""

    def __init__(self, model, ids, route, sink=128, window=1024):
        self.m, self.ids, self.route = model, list(ids), list(route)
        self.S = len(ids)
        self.sink, self.local = math.ceil(sink / BLOCK), math.ceil(window / BLOCK)
        self.k, self.v = [None] * model.L, [None] * model.L
        self.begin(0)

    def begin(self, pos0):
        """Rows from pos0 on, at the first layer."""
        self.pos = torch.arange(pos0, len(self.ids))
        self.x = self.m.w["token_embd.weight"][self.ids[pos0:]]

    def queries(self, l):
        """q of this layer before RoPE, [rows, H, K]: what the Layer Router pools."""
        m = self.m
        h = m.norm(self.x, f"blk.{l}.attn_norm.weight")
        return (h @ m.w[f"blk.{l}.attn_q.weight"].T).view(-1, m.H, m.K)

    def layer(self, l):
        m, w, n = self.m, self.m.w, len(self.pos)
        p = f"blk.{l}."
        h = m.norm(self.x, p + "attn_norm.weight")
        q = m.rope(self.queries(l), self.pos)
        k = m.rope((h @ w[p + "attn_k.weight"].T).view(n, m.G, m.K), self.pos)
        v = (h @ w[p + "attn_v.weight"].T).view(n, m.G, m.K)
        self.k[l] = k if self.k[l] is None else torch.cat([self.k[l], k])
        self.v[l] = v if self.v[l] is None else torch.cat([self.v[l], v])
        mask = visible(self.route[l], self.pos, len(self.k[l]), self.sink, self.local)
        out = []
        for head in range(m.H):
            g = head * m.G // m.H
            s = q[:, head] @ self.k[l][:, g].T / math.sqrt(m.K)
            out.append(s.masked_fill(~mask, -math.inf).softmax(-1) @ self.v[l][:, g])
        self.x = self.x + torch.cat(out, -1) @ w[p + "attn_output.weight"].T
        h = m.norm(self.x, p + "ffn_norm.weight")
        gate = torch.nn.functional.silu(h @ w[p + "ffn_gate.weight"].T)
        self.x = self.x + (gate * (h @ w[p + "ffn_up.weight"].T)) @ w[p + "ffn_down.weight"].T

    def prefill(self):
        for l in range(self.m.L):
            self.layer(l)

    def step(self):
        """The next token's logprobs from the last row; greedy choice appended and its row computed."""
        lp = self.m.logits(self.x[-1]).log_softmax(-1)
        self.ids.append(int(lp.argmax()))
        self.begin(len(self.ids) - 1)
        return lp

    def greedy(self, n):
        """n greedy tokens after prefill: [{id, top: [[id, logprob] x 5]}]."""
        out = []
        for i in range(n):
            lp = self.step()
            top = lp.topk(5)
            out.append({"id": self.ids[-1], "top": [[int(a), round(float(b), 6)] for a, b in zip(top.indices, top.values)]})
            if i + 1 < n:
                self.prefill()
        return out


# --- Layer Router with weights from a hash of their place, so that a test can make the same file without storing it

LINEAR = [("cls_feat_extractor.0", 8, 1), ("cls_feat_extractor.2", 2, 8), ("cls_router_head_agnostic.0", 4, 2),
          ("cls_router_head_agnostic.2", 1, 4), ("cls_router_head_agnostic.4", 0, 1)]


def hash_floats(seed, tensor, n, scale):
    """n floats in [-scale, scale): a 32-bit mix (Wang-style multiply and shift) of seed, tensor number and index, its upper 24
    bits as a fraction. Every step is exact in uint32 and fp32."""
    x = np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B1) ^ np.uint32((seed * 0x85EBCA6B + tensor * 0xC2B2AE35) & 0xFFFFFFFF)
    for _ in range(2):
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x7FEB352D)
        x ^= x >> np.uint32(15)
        x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    u = (x >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return u * np.float32(scale)


class Router:
    def __init__(self, seed, layer, head, n_out, last_bias=0.0):
        self.w = []
        for i, (_, out, inp) in enumerate(LINEAR):
            rows, cols = (out * head if out else n_out), inp * head
            w = hash_floats(seed, layer * 16 + 2 * i, rows * cols, 2.0 / math.sqrt(cols)).reshape(rows, cols)
            b = hash_floats(seed, layer * 16 + 2 * i + 1, rows, 0.125)
            if i == 4:
                b = np.zeros(rows, np.float32)
                b[-1] = last_bias
            self.w.append((torch.from_numpy(w), torch.from_numpy(b)))

    def margin(self, q, pool):
        """q [S, H, K] before RoPE -> logit of full against sparse."""
        x = torch.cat([q[:pool], q[max(len(q) - pool, 0):]]).mean(0).mean(0)
        for i, (w, b) in enumerate(self.w):
            x = w @ x + b
            if i in (0, 2, 3):
                x = torch.nn.functional.silu(x)
        return float(x[1] - x[0] if len(x) == 2 else x[0])
