"""Data laws: splits share nothing, samples fit, answers stand where they are said to stand."""
import gzip

import pytest

from training.data import formats as fm
from training.data.batches import Batches
from training.data.corpus import SOURCES, Corpus, collect
from training.data.tasks import HOLISTIC, LM_TASKS, RETRIEVAL, Builder


def strings(x):
    if isinstance(x, str):
        return {x} - {""}
    if isinstance(x, dict):
        return set().union(*[strings(v) for v in x.values()], strings(list(x)))
    return set().union(*[strings(v) for v in x]) if x else set()


@pytest.mark.parametrize("name", [n for n in dir(fm) if n.isupper()])
def test_no_wording_is_in_both_splits(name):
    table = getattr(fm, name)
    shared = strings(table["train"]) & strings(table["test"])
    assert shared <= {"{t}"}, shared


def test_no_source_is_in_both_splits():
    by = {s: {row[0] for row in SOURCES if row[3] == s} for s in ("train", "test")}
    assert by["train"] and by["test"] and not by["train"] & by["test"]


def test_no_text_is_in_both_splits(corpus_file):
    lines = {}
    for split in ("train", "test"):
        docs = Corpus.read(corpus_file, split).docs
        lines[split] = {line for texts in docs.values() for t in texts for line in t.split("\n")}
    assert lines["train"] and not lines["train"] & lines["test"]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("task", RETRIEVAL + HOLISTIC)
def test_samples_fit_and_answers_are_scored(task, split, tokenizer, corpus_file):
    b = Builder(tokenizer, Corpus.read(corpus_file, split))
    for i in range(3):
        s = b.build(task, 1500, i)
        lo, hi = s.score
        assert 1 <= lo < hi == len(s.tokens) <= 1500 and s.prompt_len <= len(s.tokens)
        assert s.tokens == b.build(task, 1500, i).tokens
        if task in LM_TASKS:
            assert s.prompt_len == len(s.tokens)
            continue
        assert s.prompt_len <= lo
        assert tokenizer.decode(s.tokens[lo:hi]) == s.meta["answer"]
        if task in RETRIEVAL and task not in ("multivalue",):
            prompt = tokenizer.decode(s.tokens[:s.prompt_len])
            assert s.meta["answer"].strip() in prompt


def test_batches_are_a_function_of_seed_and_step(tokenizer, corpus_file):
    b = Builder(tokenizer, Corpus.read(corpus_file, "train"))
    make = lambda seed: Batches(b, {"needle": 2, "lm": 1}, {1024: 1.0}, 6144, seed, 10, pad=0, lm_rows=16)
    x, y, z = make(1)[4], make(1)[4], make(2)[4]
    assert x.tokens.equal(y.tokens) and not x.tokens.equal(z.tokens)
    assert sorted(x.task) == ["lm", "lm", "needle", "needle", "needle", "needle"]
    n = x.tokens.shape[1]
    for row, target, owner in zip(x.rows.tolist(), x.target.tolist(), x.owner.tolist()):
        assert row // n == owner and int(x.tokens[owner, row % n + 1]) == target


def test_a_source_comes_from_the_first_root_that_has_it_and_no_text_comes_twice(tmp_path):
    train = next(row for row in SOURCES if row[1].endswith("jargon.txt.gz"))
    policy = next(row for row in SOURCES if row[1].endswith("policy.txt.gz"))

    def put(root, row, text):
        path = tmp_path / root / row[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()))
    text, other = "a line of words\n" * 200, "another line of words\n" * 200
    put("one", train, text)
    put("two", train, other)
    put("two", policy, text)                        # the held-out source repeats a training text
    docs = collect([str(tmp_path / "one"), str(tmp_path / "two")])
    assert [(d["source"], d["text"]) for d in docs] == [(train[0], text.strip())]
    put("two", policy, "held-out words\n" * 200)
    assert [d["source"] for d in collect([str(tmp_path / "one"), str(tmp_path / "two")])] == [train[0], policy[0]]
