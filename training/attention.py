"""Full and streaming attention, exact to the block rule that fluxd serves.

Streaming: a query in block i (128 tokens) sees key j <= t when block(j) < sink_blocks or block(j) > i - local_blocks.
On a GPU FlexAttention runs it block-sparse; elsewhere a loop over query blocks gathers the few keys a block can see.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F

BLOCK = 128


def n_blocks(size: int) -> int:
    return -(-int(size) // BLOCK)


def streaming_mask(n_tok: int, sink_blocks: int, local_blocks: int) -> torch.Tensor:
    """Dense [T, T] mask, True where the query (row) sees the key: the rule itself, for tests and small sizes."""
    t = torch.arange(n_tok)
    qb, kb = t[:, None] // BLOCK, t[None, :] // BLOCK
    return (t[None, :] <= t[:, None]) & ((kb < sink_blocks) | (kb > qb - local_blocks))


class Attention:
    """q [B, H, T, K], k and v [B, G, T, K] -> [B, H, T, K]."""

    def __init__(self, sink_size: int, local_window_size: int, use_flex: bool = False):
        self.sink_blocks, self.local_blocks = n_blocks(sink_size), n_blocks(local_window_size)
        if self.local_blocks < 1:
            raise ValueError("local_window_size must be at least 1")
        self.use_flex = use_flex
        self._masks: dict = {}
        self._flex = None

    @staticmethod
    def _expand(q, k, v):
        n = q.shape[1] // k.shape[1]
        return (k, v) if n == 1 else (k.repeat_interleave(n, 1), v.repeat_interleave(n, 1))

    def full(self, q, k, v):
        if q.is_cuda:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        k, v = self._expand(q, k, v)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def streaming(self, q, k, v):
        if n_blocks(q.shape[2]) <= self.sink_blocks + self.local_blocks:
            return self.full(q, k, v)
        return self._streaming_flex(q, k, v) if self.use_flex else self._streaming_loop(q, k, v)

    def mix(self, q, k, v, z):
        """z = 1: full, 0: streaming, else per-sample weights [B] of full. A hard z without gradient only selects."""
        if not torch.is_tensor(z):
            return self.full(q, k, v) if z else self.streaming(q, k, v)
        if not z.requires_grad:
            n_full = int(z.sum().item())
            if n_full == 0 or n_full == z.numel():
                return self.full(q, k, v) if n_full else self.streaming(q, k, v)
            return torch.where((z > 0.5)[:, None, None, None], self.full(q, k, v), self.streaming(q, k, v))
        o_full, o_sparse = self.full(q, k, v), self.streaming(q, k, v)
        return torch.lerp(o_sparse, o_full, z.to(q.dtype)[:, None, None, None])

    def _streaming_loop(self, q, k, v):
        k, v = self._expand(q, k, v)
        n_tok, out = q.shape[2], []
        for i in range(n_blocks(n_tok)):
            lo, hi = i * BLOCK, min((i + 1) * BLOCK, n_tok)
            local = max(i - self.local_blocks + 1, 0) * BLOCK
            sink = min(self.sink_blocks * BLOCK, local)
            pos = torch.cat((torch.arange(sink), torch.arange(local, hi))).to(q.device)
            mask = pos[None, :] <= torch.arange(lo, hi, device=q.device)[:, None]
            out.append(F.scaled_dot_product_attention(q[:, :, lo:hi], k[:, :, pos], v[:, :, pos], attn_mask=mask))
        return torch.cat(out, 2)

    def _streaming_flex(self, q, k, v):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        n_tok, sink, local = q.shape[2], self.sink_blocks, self.local_blocks
        if n_tok not in self._masks:
            def rule(b, h, t, j):
                return (j <= t) & ((j // BLOCK < sink) | (j // BLOCK > t // BLOCK - local))
            self._masks[n_tok] = create_block_mask(rule, None, None, n_tok, n_tok, device=q.device, BLOCK_SIZE=BLOCK)
        if self._flex is None:
            self._flex = torch.compile(flex_attention, dynamic=False)
        return self._flex(q, k, v, block_mask=self._masks[n_tok], enable_gqa=q.shape[1] != k.shape[1])
