"""Training batches: every step's batch is a pure function of (seed, step), so a resumed run sees the same data."""
from __future__ import annotations

import bisect
import itertools
import random
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from training.data.tasks import Builder, Sample


@dataclass
class Batch:
    tokens: torch.Tensor       # [B, T] int64, right padded
    prompt_len: torch.Tensor   # [B]
    rows: torch.Tensor         # [R] flat positions in [B*T] whose next token is scored
    target: torch.Tensor       # [R] that next token
    owner: torch.Tensor        # [R] sample of the row
    task: list[str]

    def to(self, device):
        move = lambda t: t.to(device, non_blocking=True)
        return Batch(move(self.tokens), move(self.prompt_len), move(self.rows), move(self.target), move(self.owner),
                     self.task)


def collate(samples: list[Sample], n_tok: int, pad: int, rng: random.Random | None = None, lm_rows: int = 0) -> Batch:
    """Pads to n_tok. lm_rows > 0 scores that many random positions of a language-modelling sample instead of all."""
    tokens = torch.full((len(samples), n_tok), pad, dtype=torch.long)
    rows, target, owner = [], [], []
    for b, s in enumerate(samples):
        tokens[b, :len(s.tokens)] = torch.tensor(s.tokens)
        at = range(s.score[0], s.score[1])
        if lm_rows and len(at) > lm_rows and rng is not None:
            at = sorted(rng.sample(at, lm_rows))
        rows += [b * n_tok + p - 1 for p in at]
        target += [s.tokens[p] for p in at]
        owner += [b] * len(at)
    return Batch(tokens, torch.tensor([s.prompt_len for s in samples]), torch.tensor(rows), torch.tensor(target),
                 torch.tensor(owner), [s.task for s in samples])


class Batches(Dataset):
    """Item i is the batch of step i: one length bucket, tasks drawn by weight, about tokens_per_batch tokens."""

    def __init__(self, builder: Builder, tasks: dict[str, float], buckets: dict[int, float], tokens_per_batch: int,
                 seed: int, n_steps: int, pad: int, lm_rows: int = 128):
        self.builder, self.tasks, self.buckets = builder, tasks, buckets
        self.tokens_per_batch, self.seed, self.n_steps = tokens_per_batch, seed, n_steps
        self.pad, self.lm_rows = pad, lm_rows

    def __len__(self):
        return self.n_steps

    def __getitem__(self, step: int) -> Batch:
        rng = random.Random(f"{self.seed}/{step}")
        n_tok = rng.choices(list(self.buckets), list(self.buckets.values()))[0]
        n = max(self.tokens_per_batch // n_tok, 1)
        # Systematic sampling: each task gets its share of the batch up to rounding.
        names, total = list(self.tasks), sum(self.tasks.values())
        ends = list(itertools.accumulate(w / total * n for w in self.tasks.values()))
        start = rng.random()
        drawn = [names[min(bisect.bisect(ends, i + start), len(names) - 1)] for i in range(n)]
        samples = []
        for i, task in enumerate(drawn):
            length = n_tok if rng.random() < 0.5 else rng.randint(int(n_tok * 0.6), n_tok)
            samples.append(self.builder.build(task, length, f"{self.seed}/{step}/{i}"))
        rng.shuffle(samples)
        lm_rows = min(self.lm_rows, max(6144 // n, 16))
        return collate(samples, n_tok, self.pad, rng, lm_rows)
