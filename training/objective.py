"""What the routers minimise: answer loss per sample plus Lagrange terms that hold sparsity.

Two forms. Multipliers hold every sample at its task's target (the published recipe). Prices hold only the mean of a group
of tasks at a budget: within it each prompt may take as many full layers as they are worth there."""
from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class Multipliers(nn.Module):
    """lambda1(task) |s - t| + lambda2(task) (s - t)^2, raised by gradient ascent where a task misses its target t."""

    def __init__(self, targets: dict[str, float], start=(0.0, 0.5), seed: int = 0):
        super().__init__()
        self.tasks = list(targets)
        self.register_buffer("target", torch.tensor([targets[t] for t in self.tasks]))
        g = torch.Generator().manual_seed(seed)
        self.lam = nn.Parameter(start[0] + (start[1] - start[0]) * torch.rand(2, len(self.tasks), generator=g))

    def index(self, task: list[str], device) -> torch.Tensor:
        return torch.tensor([self.tasks.index(t) for t in task], device=device)

    def penalty(self, share: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """share [B] of sparse layers -> [B]"""
        gap = share - self.target[index]
        return self.lam[0, index] * gap.abs() + self.lam[1, index] * gap.square()

    @torch.no_grad()
    def clamp(self):
        self.lam.clamp_(min=0.0)


class Prices(nn.Module):
    """lambda(group) (full - budget), full = share of full layers: one price per layer for all prompts of a group, raised by
    gradient ascent while the group's mean is over its budget and lowered, down to 0, while it is under. damping > 0 adds
    that much of the square by which a batch's mean is over its budget, without which price and share swing for long.

    A budget is named by a group or by a task, which then is a group of its own."""

    def __init__(self, budgets: dict[str, float], group: dict[str, str], start: float, damping: float = 0.0):
        super().__init__()
        self.tasks, self.group, self.damping = list(budgets), group, damping
        self.register_buffer("budget", torch.tensor([budgets[g] for g in self.tasks]))
        self.lam = nn.Parameter(torch.full((1, len(self.tasks)), float(start)))

    def index(self, task: list[str], device) -> torch.Tensor:
        return torch.tensor([self.tasks.index(t if t in self.tasks else self.group[t]) for t in task], device=device)

    def penalty(self, share: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """share [B] of sparse layers -> [B]"""
        over = 1 - share - self.budget[index]
        out = self.lam[0, index] * over
        if self.damping:
            zero = torch.zeros_like(self.budget)
            count = zero.index_add(0, index, torch.ones_like(over)).clamp_min(1)
            mean = zero.index_add(0, index, over) / count
            out = out + self.damping * mean.clamp_min(0).square()[index]
        return out

    @torch.no_grad()
    def clamp(self):
        self.lam.clamp_(min=0.0)


def answer_losses(logits, teacher, target, owner, n_samples: int):
    """Rows [R, V] -> cross-entropy, KL from the full-attention teacher (each the mean over a sample's rows) and the
    probability that the whole answer is missed, [B] each."""
    logp = F.log_softmax(logits, -1)
    ce = -logp.gather(1, target[:, None])[:, 0]
    ref = F.log_softmax(teacher, -1)
    kl = (ref.exp() * (ref - logp)).sum(-1)
    count = torch.zeros(n_samples, device=logits.device).index_add_(0, owner, torch.ones_like(ce))
    total = lambda x: torch.zeros(n_samples, device=x.device).index_add_(0, owner, x)
    return total(ce) / count.clamp_min(1), total(kl) / count.clamp_min(1), 1 - torch.exp(-total(ce))


def schedule(progress: float, warmup: float, final: float) -> float:
    """Learning-rate factor: linear warm-up, then cosine down to `final`."""
    if progress < warmup:
        return max(progress, 1e-3) / warmup
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def temperature(progress: float, start: float, end: float, until: float) -> float:
    x = min(progress / until, 1.0)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * x))
