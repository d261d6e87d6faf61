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


def greedy(n_layer: int, n_full: int, value, width: int = 6, log=lambda text: None) -> list[list[int]]:
    """Adds the layer that helps most, one after the other -> the routes with 1, 2, ... n_full full layers.

    value(route) is measured on the mix of all tasks. Gains rarely grow as layers are added, so a candidate whose last
    measured gain is below the best fresh one is not measured again (lazy evaluation), but at least `width` are."""
    route, routes = [0] * n_layer, []
    base = value(route)
    stale = {i: float("inf") for i in range(n_layer)}
    for _ in range(n_full):
        best, gain, tried = None, float("-inf"), 0
        for i in sorted(stale, key=lambda j: -stale[j]):
            if tried >= width and stale[i] <= gain:
                break
            stale[i] = value([b or int(j == i) for j, b in enumerate(route)]) - base
            tried += 1
            if stale[i] > gain:
                best, gain = i, stale[i]
        route = [b or int(j == best) for j, b in enumerate(route)]
        base += gain
        del stale[best]
        routes.append(route)
        log(f"greedy n_full={len(routes)} layer={best} value={base:.4f} measured={tried}")
    return routes
