"""Evaluation laws: intervals, scores against full, the greedy search."""
import json
import math
import random

import pytest
import torch

from training.eval import report
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


def test_the_report_pairs_prompts_and_weighs_cells_not_prompts(tmp_path):
    rng = random.Random(1)
    hits = {("needle", n, i): rng.random() < 0.6 for n, count in ((1024, 40), (4096, 80)) for i in range(count)}
    loss = {("lm", 1024, i): rng.uniform(1, 3) for i in range(40)}

    def write(part, route, keep, more, layers):
        rows = [dict(task=t, n_tok=n, i=i, hit=int(hit and keep), nll=0.0, full_layers=layers) for (t, n, i), hit in hits.items()]
        rows += [dict(task=t, n_tok=n, i=i, hit=0, nll=x + more, full_layers=layers) for (t, n, i), x in loss.items()]
        (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / part / f"{route}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for part in "ab":
        write(part, "full", 1, 0.0, 1.0)
        write(part, "routed", 1, 0.02, 0.25)
        write(part, "uniform", 0, 0.1, 0.25)
    r = report.report(report.read([str(tmp_path / p) for p in "ab"]))
    routed, mean = r["routes"]["routed"], lambda n: sum(h for k, h in hits.items() if k[1] == n) / sum(k[1] == n for k in hits)
    assert routed["all"]["n"] == 2 * 160 and routed["all"]["full_share"] == 0.25
    assert abs(routed["retrieval"]["score"] - (mean(1024) + mean(4096)) / 2) < 1e-9
    assert abs(routed["lm@1024"]["ppl_ratio"] - math.exp(0.02)) < 1e-6
    # The same loss more on every prompt, the same answers: paired differences have no spread where single scores have one.
    minus = r["routed_minus"]["full"]
    assert minus["retrieval"]["ci"] == [0.0, 0.0] and routed["retrieval"]["ci"][0] < routed["retrieval"]["ci"][1]
    assert minus["holistic"]["ci"][0] == pytest.approx(math.exp(-0.02) - 1) and minus["recall@4096"]["ratio"] == 1.0
    assert r["routed_minus"]["uniform"]["all"]["ci"][0] > 0
    assert "| uniform | 320 | 0.250" in report.tables(r)
