"""Static routes of a given number of full layers: what a router has to beat."""
from __future__ import annotations

import random


def uniform(n_layer: int, n_full: int) -> list[int]:
    """Full layers evenly spread."""
    full = {int((i + 0.5) * n_layer / n_full) for i in range(n_full)} if n_full else set()
    return [int(i in full) for i in range(n_layer)]


def draw(n_layer: int, n_full: int, rng: random.Random) -> list[int]:
    full = set(rng.sample(range(n_layer), n_full))
    return [int(i in full) for i in range(n_layer)]


def top(scores: list[float], n_full: int) -> list[int]:
    """The n_full layers with the highest scores (for example, how often a trained router made each full)."""
    full = set(sorted(range(len(scores)), key=lambda i: -scores[i])[:n_full])
    return [int(i in full) for i in range(len(scores))]


def greedy(n_layer: int, n_full: int, value, width: int = 8, backward: bool = False, log=lambda text: None,
           settle=None, stop=lambda: False) -> dict[int, list[int]]:
    """Routes by number of full layers, found one layer at a time. Forward adds the layer that helps most to the sparse
    route; backward takes from the full route the layer that is missed least, which sees layers that only help together.

    value(route) is measured on the mix of all tasks, larger is better. Candidates go in the order of their last
    measured change; one that was worse than the best fresh one is not measured again, but at least `width` are.
    settle(route) is called with every route that is chosen; stop() ends the search early."""
    route = [int(backward)] * n_layer
    routes, base = {sum(route): route}, value(route)
    last = {i: float("inf") for i in range(n_layer)}
    while sum(route) != n_full and not stop():
        best, change, tried = None, float("-inf"), 0
        for i in sorted(last, key=lambda j: -last[j]):
            if tried >= width and last[i] <= change:
                break
            last[i] = value([b ^ int(j == i) for j, b in enumerate(route)]) - base
            tried += 1
            if last[i] > change:
                best, change = i, last[i]
        route = [b ^ int(j == best) for j, b in enumerate(route)]
        base += change
        if settle:
            settle(route)
        del last[best]
        routes[sum(route)] = route
        log(f"{'backward' if backward else 'forward'} n_full={sum(route)} layer={best} value={base:.4f} measured={tried}")
    return routes


class Between:
    """A gate for a mean of n full layers that need not be whole: each sample gets the route of floor(n) or ceil(n)."""

    def __init__(self, low: list[int], high: list[int], fraction: float, rng: random.Random):
        self.low, self.high, self.fraction, self.rng, self.drawn = low, high, fraction, rng, None

    def __call__(self, i, q, prompt_len):
        import torch
        if i == 0:
            self.drawn = torch.tensor([self.rng.random() < self.fraction for _ in range(q.shape[0])], device=q.device)
        if self.low[i] == self.high[i]:
            return self.low[i]
        return torch.where(self.drawn, float(self.high[i]), float(self.low[i]))
