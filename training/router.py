"""Layer Routers: the network, the training gate, the serving gate and the router file.

Semantics are fluxd's: queries before RoPE, rows [0, P) and [S-P, S) of the prompt (an overlapping row counts twice),
mean over rows and heads, fp32 MLP; softmax form full if logit[1] > logit[0], sigmoid form full if logit > 0.
"""
from __future__ import annotations

import math
import re

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

PREFIX = "model.layers.{}.self_attn.mask_allocator."
NAME = re.compile(r"^model\.layers\.(\d+)\.self_attn\.mask_allocator\.(.+)$")
PARTS = [f"{m}.{i}.{k}" for m, ids in (("cls_feat_extractor", (0, 2)), ("cls_router_head_agnostic", (0, 2, 4)))
         for i in ids for k in ("weight", "bias")]


def pool_queries(q: torch.Tensor, prompt_len: torch.Tensor, pool: int) -> torch.Tensor:
    """q [B, T, H, K], prompt_len [B] -> [B, K] fp32."""
    step = torch.arange(pool, device=q.device)
    head = step[None, :].expand(q.shape[0], -1)
    tail = prompt_len[:, None] - pool + step[None, :]
    rows = torch.cat((head, tail), 1)
    valid = (rows >= 0) & (rows < prompt_len[:, None])
    sample = torch.arange(q.shape[0], device=q.device)[:, None]
    # Only the pooled rows become fp32: casting q itself would cost a full pass over it in every layer.
    picked = q[sample, rows.clamp(0, q.shape[1] - 1)].float()
    total = (picked * valid[:, :, None, None]).sum(1).mean(1)
    return total / valid.sum(1, keepdim=True)


class RoundedLinear(nn.Linear):
    """A linear layer that computes with its weights rounded to bf16, the precision in which they are shipped: what is
    trained is what is served. Gradients pass the rounding unchanged."""

    @staticmethod
    def _round(w):
        return w + (w.to(torch.bfloat16).to(w.dtype) - w).detach()

    def forward(self, x):
        return F.linear(x, self._round(self.weight), self._round(self.bias))


class LayerRouter(nn.Module):
    def __init__(self, head: int, n_out: int = 2, bias_full: float = 4.5):
        super().__init__()
        k, lin = head, RoundedLinear
        self.cls_feat_extractor = nn.Sequential(lin(k, 8 * k), nn.SiLU(), lin(8 * k, 2 * k))
        self.cls_router_head_agnostic = nn.Sequential(lin(2 * k, 4 * k), nn.SiLU(), lin(4 * k, k), nn.SiLU(),
                                                      lin(k, n_out))
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, std=math.sqrt(2.0 / m.in_features))
                nn.init.zeros_(m.bias)
        last = self.cls_router_head_agnostic[4]
        nn.init.normal_(last.weight, std=0.1 / math.sqrt(k))
        with torch.no_grad():
            last.bias[-1] = bias_full

    def calibrate(self, pooled: torch.Tensor):
        """Scales the first layer so that its inputs are centred and of unit size over a calibration batch [N, K]:
        prompts differ in a small part of the pooled query, which an uncentred layer is slow to find."""
        mean, std = pooled.mean(0), pooled.std(0).clamp_min(1e-3)
        first = self.cls_feat_extractor[0]
        with torch.no_grad():
            first.weight.div_(std)
            first.weight.copy_(first.weight.to(torch.bfloat16).float())
            first.bias.copy_(-(first.weight @ mean))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """[B, K] fp32 -> the logit margin of full over sparse [B]."""
        y = self.cls_router_head_agnostic(self.cls_feat_extractor(pooled))
        return y[:, 1] - y[:, 0] if y.shape[1] == 2 else y[:, 0]


class Routers(nn.Module):
    """One LayerRouter per layer and the sizes they were made for."""

    def __init__(self, n_layer: int, head: int, sink_size: int = 128, local_window_size: int = 1024,
                 pool_size: int = 100, use_softmax: bool = True, bias_full=4.5):
        super().__init__()
        self.sizes = dict(sink_size=int(sink_size), local_window_size=int(local_window_size),
                          pool_size=int(pool_size), use_softmax=bool(use_softmax), toggle_type="streaming")
        bias = bias_full if isinstance(bias_full, (list, tuple)) else [bias_full] * n_layer
        if len(bias) != n_layer:
            raise ValueError(f"{len(bias)} start biases for {n_layer} layers")
        self.layers = nn.ModuleList(LayerRouter(head, 2 if use_softmax else 1, b) for b in bias)

    @property
    def pool_size(self) -> int:
        return self.sizes["pool_size"]

    def margin(self, i: int, q, prompt_len) -> torch.Tensor:
        with torch.autocast(q.device.type, enabled=False):
            return self.layers[i](pool_queries(q, prompt_len, self.pool_size))

    def tensors(self, dtype=torch.bfloat16) -> dict[str, torch.Tensor]:
        return {PREFIX.format(i) + n: p.detach().to("cpu", dtype).contiguous()
                for i, r in enumerate(self.layers) for n, p in r.named_parameters()}

    def save(self, path: str, extra: dict[str, str] | None = None):
        meta = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in self.sizes.items()}
        save_file(self.tensors(), path, metadata={**meta, **(extra or {}), "format": "pt"})

    @classmethod
    def load(cls, path: str) -> "Routers":
        with safe_open(path, "pt") as f:
            meta = f.metadata() or {}
            found = {n: f.get_tensor(n) for n in f.keys() if NAME.match(n)}
        layers = sorted({int(NAME.match(n).group(1)) for n in found})
        if not layers or layers != list(range(len(layers))):
            raise ValueError(f"{path}: router tensors of layers {layers} are not a whole model's")
        missing = [PREFIX.format(i) + n for i in layers for n in PARTS if PREFIX.format(i) + n not in found]
        if missing:
            raise ValueError(f"{path}: {missing[0]} is missing")
        head = found[PREFIX.format(0) + PARTS[0]].shape[1]
        n_out = found[PREFIX.format(0) + PARTS[-1]].shape[0]
        r = cls(len(layers), head, int(float(meta.get("sink_size", 128))), int(float(meta.get("local_window_size", 1024))),
                int(float(meta.get("pool_size", 100))), n_out == 2)
        for i, layer in enumerate(r.layers):
            layer.load_state_dict({n: found[PREFIX.format(i) + n].float() for n in PARTS})
        return r


def gumbel_gate(margin: torch.Tensor, temperature: float, noise: torch.Tensor | None = None, hard: bool = True):
    """Margin [B] -> z [B] in [0, 1]. Gumbel-softmax over two logits only depends on their difference, whose noise (the
    difference of two Gumbel variables) is logistic. hard: 0 or 1 forward, the soft value's gradient backward."""
    if noise is None:
        u = torch.rand_like(margin).clamp(1e-6, 1 - 1e-6)
        noise = torch.log(u) - torch.log1p(-u)
    soft = torch.sigmoid((margin + noise) / temperature)
    if not hard:
        return soft
    return (soft - soft.detach()) + (soft > 0.5).to(soft.dtype)      # exactly 0 or 1 forward


class StaticGate:
    """The same route for every sample: a list of 0 and 1 per layer."""

    def __init__(self, route):
        self.route = [int(b) for b in route]

    def __call__(self, i, q, prompt_len):
        return self.route[i]


class ServingGate:
    """The decision fluxd takes; keeps the margins of the last forward pass in `margins` (layer -> [B])."""

    def __init__(self, routers: Routers):
        self.routers, self.margins = routers, {}

    def __call__(self, i, q, prompt_len):
        m = self.routers.margin(i, q, prompt_len)
        self.margins[i] = m.detach()
        return (m > 0).float().detach()


class TrainingGate:
    """Noisy decisions with gradients to the routers. Noise is drawn once per forward pass, [B, L], so that a
    checkpointed layer that runs again in the backward pass decides the same."""

    def __init__(self, routers: Routers, temperature: float, noise: torch.Tensor, hard: bool = True):
        self.routers, self.temperature, self.noise, self.hard = routers, temperature, noise, hard

    def __call__(self, i, q, prompt_len):
        return gumbel_gate(self.routers.margin(i, q, prompt_len), self.temperature, self.noise[:, i], self.hard)


def logistic_noise(shape, generator: torch.Generator, device) -> torch.Tensor:
    u = torch.rand(shape, generator=generator).clamp(1e-6, 1 - 1e-6)
    return (torch.log(u) - torch.log1p(-u)).to(device)
