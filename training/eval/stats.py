"""Confidence intervals, 95% unless said otherwise."""
from __future__ import annotations

import math
import random


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Interval of a proportion."""
    if n == 0:
        return 0.0, 1.0
    p, zz = hits / n, z * z
    mid, half = (p + zz / (2 * n)) / (1 + zz / n), z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n)) / (1 + zz / n)
    return (max(0.0, mid - half) if hits else 0.0), (min(1.0, mid + half) if hits < n else 1.0)


def bootstrap(values: list[float], statistic=None, n_draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of a statistic (the mean by default)."""
    statistic = statistic or (lambda v: sum(v) / len(v))
    rng, n = random.Random(seed), len(values)
    draws = sorted(statistic([values[rng.randrange(n)] for _ in range(n)]) for _ in range(n_draws))
    return draws[int(0.025 * n_draws)], draws[min(int(0.975 * n_draws), n_draws - 1)]
