"""Scores prompts by teacher forcing, in batches of one shape per length, for any gate.

Batches are laid out once and stay on the device, and results come back at the end of a pass: between two batches the
device never waits for the host.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F

from training.data.batches import collate
from training.eval.suite import TEXT_TASKS
from training.router import ServingGate, StaticGate

ROWS = 8192      # rows of logits at a time


class Runner:
    def __init__(self, backbone, samples: dict[int, list], tokens_per_batch: int, pad: int, per_cell: int = 0):
        """per_cell > 0 takes that many prompts of each task and length. A prompt's index i is its place in the suite."""
        self.bb, self.batches, cuda = backbone, [], backbone.device.type == "cuda"
        for n_tok, group in samples.items():
            size, padded = max(tokens_per_batch // n_tok, 1), -(-n_tok // 128) * 128
            left: dict = {}
            chosen = []
            for i, s in enumerate(group):
                left[s.task] = left.get(s.task, 0) + 1
                if not per_cell or left[s.task] <= per_cell:
                    chosen.append((i, s))
            for at in range(0, len(chosen), size):
                part = chosen[at:at + size]
                # A short last batch is filled up: one shape per length means one compiled kernel per length.
                full = [s for _, s in part] + [part[-1][1]] * (size - len(part) if cuda else 0)
                self.batches.append((n_tok, part, collate(full, padded, pad).to(backbone.device)))

    def answers(self, h, batch):
        """-> mean loss per sample, number of wrong tokens per sample"""
        n = len(batch.task)
        nll, wrong, count = (torch.zeros(n, device=h.device) for _ in range(3))
        for rows, target, owner in zip(batch.rows.split(ROWS), batch.target.split(ROWS), batch.owner.split(ROWS)):
            logits = self.bb.logits(h[rows])
            nll.index_add_(0, owner, F.cross_entropy(logits, target, reduction="none"))
            wrong.index_add_(0, owner, (logits.argmax(-1) != target).float())
            count.index_add_(0, owner, torch.ones_like(target, dtype=torch.float))
        return nll / count, wrong

    @torch.no_grad()
    def rows(self, gate_of) -> list[dict]:
        """gate_of() gives the gate of each batch. -> one row per sample."""
        done = []
        for n_tok, part, batch in self.batches:
            gate = gate_of()
            h, z = self.bb.hidden(batch.tokens, batch.prompt_len, gate)
            margins = None
            if isinstance(gate, ServingGate):
                margins = torch.stack([gate.margins[i] for i in range(self.bb.spec.n_layer)], 1).abs().min(1).values
            done.append((n_tok, part, *self.answers(h, batch), z, margins))
        return [row for group in done for row in self.table(*group)]

    @staticmethod
    def table(n_tok, part, nll, wrong, z, margins):
        nll, wrong, z = nll.cpu(), wrong.cpu(), z.cpu()
        margins = None if margins is None else margins.cpu()
        return [dict(task=s.task, n_tok=n_tok, i=i, hit=int(wrong[b] == 0), nll=round(float(nll[b]), 5),
                     depth=round(s.depth, 3), full_layers=round(float(z[b].mean()), 5),
                     route="".join(str(int(x)) for x in z[b]),
                     **({} if margins is None else {"min_margin": round(float(margins[b]), 4)}))
                for b, (i, s) in enumerate(part)]


class StaticValue:
    """What a greedy search raises: the mean over tasks of a smooth score of a static route, 1 where a prompt is answered as
    well as under the full route. Texts: exp(loss under full - loss). Answers: the mean of the probability of the whole
    answer and of its tokens' (geometric) mean, which still moves where the first is near 0.

    The hidden states before every layer of the current route are kept, so a candidate that changes layer i runs only
    the layers from i on."""

    def __init__(self, runner: Runner):
        self.runner, self.bb = runner, runner.bb
        self.route = [1] * self.bb.spec.n_layer
        self.states = [[self.bb.embed(batch.tokens)] for _, _, batch in runner.batches]
        self.full = None
        self.full = self.measure(self.route, keep=True)[1]

    @torch.no_grad()
    def measure(self, route, keep: bool = False):
        """-> value by task, loss by sample. keep: the route becomes the current one."""
        first = next((i for i, (a, b) in enumerate(zip(route, self.route)) if a != b), 0 if self.full is None else len(route))
        gate, losses = StaticGate(route), []
        for (_, _, batch), states in zip(self.runner.batches, self.states):
            first = min(first, len(states) - 1)
            h = states[first]
            if keep:
                del states[first + 1:]
            for i in range(first, self.bb.spec.n_layer):
                h, _ = self.bb.layer(i, h, batch.tokens.shape, batch.prompt_len, gate)
                if keep:
                    states.append(h)
            losses.append(self.runner.answers(h, batch)[0])
        if keep:
            self.route = list(route)
        losses, by_task = [x.tolist() for x in losses], {}
        for g, (_, part, _) in enumerate(self.runner.batches):
            for b, (_, s) in enumerate(part):
                base = losses[g][b] if self.full is None else self.full[g][b]
                by_task.setdefault(s.task, []).append(self.score(s, losses[g][b], base))
        return {t: sum(v) / len(v) for t, v in by_task.items()}, losses

    @staticmethod
    def score(s, loss: float, full: float) -> float:
        n = s.score[1] - s.score[0]
        if s.task in TEXT_TASKS:
            return min(2.718281828 ** (full - loss), 1.0)
        return 0.5 * 2.718281828 ** (-loss * n) + 0.5 * 2.718281828 ** -loss
