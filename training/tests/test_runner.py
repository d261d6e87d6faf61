"""The runner and the search's measure on the tiny model."""
import pytest

from training.data.corpus import Corpus
from training.data.tasks import Builder
from training.eval import suite
from training.eval.runner import Runner, StaticValue
from training.router import StaticGate


@pytest.fixture
def samples(tokenizer, corpus_file):
    b = Builder(tokenizer, Corpus.read(corpus_file, "train"))
    return {n: [b.build(t, n, i) for t in ("needle", "lm") for i in range(2)] for n in (512, 640)}


def test_a_sample_scores_the_same_in_any_batch(backbone, samples):
    gate = lambda: StaticGate([1, 0, 1, 0])
    a = Runner(backbone, samples, 2000, 0).rows(gate)
    b = Runner(backbone, samples, 1, 0).rows(gate)
    assert [(r["task"], r["n_tok"], r["i"]) for r in a] == [(r["task"], r["n_tok"], r["i"]) for r in b]
    assert all(abs(x["nll"] - y["nll"]) < 1e-3 and x["hit"] == y["hit"] for x, y in zip(a, b))
    some = Runner(backbone, samples, 2000, 0, per_cell=1).rows(gate)
    assert [(r["task"], r["n_tok"], r["i"]) for r in some] == [(t, n, i) for n in samples for t, i in (("needle", 0), ("lm", 2))]


def test_kept_states_change_no_measurement(backbone, samples):
    v = StaticValue(Runner(backbone, samples, 2000, 0))
    fresh = lambda route: StaticValue(Runner(backbone, samples, 2000, 0)).measure(route)[0]
    assert v.measure([1, 1, 1, 1])[0]["lm"] == pytest.approx(1.0)
    for keep, route in ((True, [1, 1, 0, 1]), (False, [1, 1, 0, 0]), (False, [0, 1, 0, 1]), (True, [0, 1, 0, 1]),
                        (False, [0, 1, 0, 0]), (False, [0, 0, 0, 1])):
        got = v.measure(route, keep)[0]
        assert got == pytest.approx(fresh(route), abs=1e-5), route
    assert v.measure([0, 0, 0, 0])[0]["lm"] < 1.0


def test_written_prompts_come_back(tmp_path, samples):
    suite.write(str(tmp_path / "p"), samples)
    assert suite.read(str(tmp_path / "p")) == samples
