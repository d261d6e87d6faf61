"""The frozen transformer (Llama, Qwen2 and Qwen3 families), written once for training and evaluation.

One idea: a layer asks a `gate` which attention it gets. The gate sees the layer's queries before RoPE and answers per
sample, so a static route, a trained router and a noisy training gate are the same forward pass with another gate.
Shapes: B samples, T tokens (right padded), D width, H query heads, G key/value heads, K head size. Hidden states are
kept flat, [B*T, D].
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from training.attention import Attention


@dataclass(frozen=True)
class Spec:
    """What a checkpoint's configuration says; names as in the shapes above."""
    n_layer: int
    d: int
    n_head: int
    n_kv: int
    head: int
    d_ffn: int
    vocab: int
    eps: float
    rope_theta: float
    rope_scaling: dict | None = None
    family: str = "llama"          # llama | qwen2 | qwen3: the model_type of the base model
    raw: dict = field(default_factory=dict, compare=False)   # the checkpoint's config.json, for whole exports


def rope_inv_freq(spec: Spec) -> torch.Tensor:
    """Inverse frequencies [K/2], fp64, with the llama3 and linear rescalings of Hugging Face configurations."""
    inv = 1.0 / spec.rope_theta ** (torch.arange(0, spec.head, 2, dtype=torch.float64) / spec.head)
    sc = spec.rope_scaling or {}
    kind = sc.get("rope_type", sc.get("type", "default"))
    if kind == "default":
        return inv
    if kind == "linear":
        return inv / float(sc["factor"])
    if kind != "llama3":
        raise ValueError(f"rope scaling '{kind}' is not supported")
    low, high = float(sc["low_freq_factor"]), float(sc["high_freq_factor"])
    old = float(sc["original_max_position_embeddings"])
    wavelen = 2 * math.pi / inv
    blend = ((old / wavelen - low) / (high - low)).clamp(0, 1)   # 0: slowed by factor, 1: unchanged
    return inv * (blend + (1 - blend) / float(sc["factor"]))


def rms_norm(x: torch.Tensor, w: torch.Tensor, eps: float) -> torch.Tensor:
    xf = x.float()
    return (xf * torch.rsqrt(xf.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * w


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x [N, heads, K]; cos, sin [N, K/2] fp32. Halves are paired (Hugging Face order)."""
    a, b = x.float().chunk(2, -1)
    c, s = cos[:, None], sin[:, None]
    return torch.cat((a * c - b * s, b * c + a * s), -1).to(x.dtype)


def before_attention(h, norm, wq, wk, wv, bq, bk, bv, qn, kn, cos, sin, head: int, eps: float):
    """-> q before RoPE (after q_norm), then q, k after RoPE and v, each [N, heads, K]."""
    n = h.shape[0]
    x = rms_norm(h, norm, eps)
    q = F.linear(x, wq, bq).view(n, -1, head)
    k = F.linear(x, wk, bk).view(n, -1, head)
    v = F.linear(x, wv, bv).view(n, -1, head)
    if qn is not None:
        q, k = rms_norm(q, qn, eps), rms_norm(k, kn, eps)
    return q, rotate(q, cos, sin), rotate(k, cos, sin), v


def after_attention(h, o, wo, norm, w_gate, w_up, w_down, eps: float):
    h = h + F.linear(o, wo)
    x = rms_norm(h, norm, eps)
    return h + F.linear(F.silu(F.linear(x, w_gate)) * F.linear(x, w_up), w_down)


class Backbone:
    """Weights never receive gradients; they are plain tensors, so nothing can put them into an optimiser."""

    def __init__(self, spec: Spec, weights: dict[str, torch.Tensor], attention: Attention,
                 device="cpu", dtype=torch.float32, compiled: bool = False, checkpointing: bool = False):
        self.spec, self.attention, self.device, self.dtype = spec, attention, torch.device(device), dtype
        self.checkpointing = checkpointing
        self.w = {name: t.detach().to(self.device, dtype) for name, t in weights.items()}
        self.w.setdefault("lm_head.weight", self.w["model.embed_tokens.weight"])
        self.inv_freq = rope_inv_freq(spec)
        self._before = torch.compile(before_attention, dynamic=False) if compiled else before_attention
        self._after = torch.compile(after_attention, dynamic=False) if compiled else after_attention
        self._rope = {}

    def rope(self, n_batch: int, n_tok: int):
        key = (n_batch, n_tok)
        if key not in self._rope:
            angle = torch.outer(torch.arange(n_tok, dtype=torch.float64), self.inv_freq)
            self._rope[key] = tuple(f(angle).float().to(self.device).repeat(n_batch, 1)
                                    for f in (torch.cos, torch.sin))
        return self._rope[key]

    def layer(self, i: int, h: torch.Tensor, shape, prompt_len, gate):
        """One layer -> (h, z). z is the gate's answer: 0, 1 or a [B] tensor in [0, 1]."""
        n_batch, n_tok = shape
        w, p = self.w, f"model.layers.{i}."
        a, m = p + "self_attn.", p + "mlp."
        cos, sin = self.rope(n_batch, n_tok)
        q0, q, k, v = self._before(
            h, w[p + "input_layernorm.weight"], w[a + "q_proj.weight"], w[a + "k_proj.weight"],
            w[a + "v_proj.weight"], w.get(a + "q_proj.bias"), w.get(a + "k_proj.bias"), w.get(a + "v_proj.bias"),
            w.get(a + "q_norm.weight"), w.get(a + "k_norm.weight"), cos, sin, self.spec.head, self.spec.eps)
        z = gate(i, q0.view(n_batch, n_tok, -1, self.spec.head), prompt_len)
        q, k, v = (t.view(n_batch, n_tok, -1, self.spec.head).transpose(1, 2) for t in (q, k, v))
        o = self.attention.mix(q, k, v, z).transpose(1, 2).reshape(n_batch * n_tok, -1)
        h = self._after(h, o, w[a + "o_proj.weight"], w[p + "post_attention_layernorm.weight"],
                        w[m + "gate_proj.weight"], w[m + "up_proj.weight"], w[m + "down_proj.weight"],
                        self.spec.eps)
        return h, z

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.embedding(tokens.reshape(-1), self.w["model.embed_tokens.weight"])

    def hidden(self, tokens: torch.Tensor, prompt_len: torch.Tensor, gate):
        """tokens [B, T], prompt_len [B] -> last hidden states [B*T, D] before the final norm, z of all layers [B, L]."""
        n_batch, h, route = tokens.shape[0], self.embed(tokens), []
        for i in range(self.spec.n_layer):
            if self.checkpointing and torch.is_grad_enabled():
                h, z = checkpoint(self.layer, i, h, tokens.shape, prompt_len, gate,
                                  use_reentrant=False, preserve_rng_state=True)
            else:
                h, z = self.layer(i, h, tokens.shape, prompt_len, gate)
            route.append(z if torch.is_tensor(z) else torch.full((n_batch,), float(z), device=self.device))
        return h, torch.stack(route, 1)

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of hidden() -> fp32 logits."""
        x = rms_norm(rows, self.w["model.norm.weight"], self.spec.eps)
        return F.linear(x, self.w["lm_head.weight"]).float()
