"""Evaluation laws: intervals, scores against full, the greedy search."""
import math
import random

import pytest
import torch

from training.eval.static_routes import Between, greedy, top, uniform
from training.eval.stats import bootstrap, wilson
from training.eval.suite import means, summarise


def test_intervals_hold_what_they_should():
    lo, hi = wilson(90, 100)
    assert abs(lo - 0.8256) < 1e-3 and abs(hi - 0.9448) < 1e-3
    assert wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == 1.0
    lo, hi = bootstrap([0.0, 1.0] * 50)
    assert lo < 0.5 < hi and hi - lo < 0.3


def test_text_scores_are_against_the_full_route():
    row = lambda task, i, **kw: dict(task=task, n_tok=1024, i=i, full_layers=0.5, **kw)
    full = [row("lm", 0, nll=2.0, hit=0), row("needle", 1, nll=0.1, hit=1)]
    sparse = [row("lm", 0, nll=2.1, hit=0), row("needle", 1, nll=3.0, hit=0)]
    table = summarise(sparse, full)
    assert abs(table["lm"][1024]["ppl_ratio"] - math.exp(0.1)) < 1e-9
    assert abs(table["lm"][1024]["score"] - math.exp(-0.1)) < 1e-9
    m = means(table)
    assert m["score_retrieval"] == 0.0 and abs(m["score_holistic"] - math.exp(-0.1)) < 1e-9


@pytest.mark.parametrize("backward", [False, True])
def test_greedy_finds_the_layers_that_matter(backward):
    gain = {2: 0.5, 5: 0.3, 7: 0.1}
    routes = greedy(8, 3, lambda r: sum(g for i, g in gain.items() if r[i]), backward=backward)
    assert all(sum(r) == n for n, r in routes.items())
    assert [i for i, b in enumerate(routes[3]) if b] == [2, 5, 7]


def test_backward_search_sees_layers_that_only_help_together():
    routes = greedy(8, 2, lambda r: float(r[1] and r[6]), backward=True)
    assert routes[2] == [0, 1, 0, 0, 0, 0, 1, 0]


def test_a_fractional_static_route_has_the_mean_asked_for():
    low, high = [0, 1, 0, 0], [0, 1, 1, 0]
    gate, q = Between(low, high, 0.3, random.Random(0)), torch.zeros(4000, 1)
    z = [gate(i, q, None) for i in range(4)]
    assert z[0] == 0 and z[1] == 1 and z[3] == 0 and abs(float(z[2].mean()) - 0.3) < 0.03


def test_static_routes_have_the_size_asked_for():
    for n in range(31):
        assert sum(uniform(30, n)) == n
    assert top([0.1, 0.9, 0.5], 2) == [0, 1, 1]
