"""Which bits the comparison of two implementations counts."""
from training.data.corpus import Corpus
from training.data.tasks import Builder
from training.eval.bits import judge, part, prompts


def test_a_difference_counts_where_the_margin_is_safe():
    assert judge([1.0, -2.0, 0.5], "101", 1e-3) == (3, [], 0)
    assert judge([1.0, -2.0, 0.5], "111", 1e-3) == (3, [(1, -2.0)], 0)


def test_layers_behind_an_unsafe_difference_are_left_out():
    assert judge([1.0, 0.0005, -3.0, 2.0], "1011", 1e-3) == (1, [], 3)
    assert judge([1.0, 0.0005, -3.0, 2.0], "1101", 1e-3) == (4, [], 0)


def test_prompts_have_the_lengths_asked_for_and_parts_make_the_whole(tokenizer, corpus_file):
    b = Builder(tokenizer, Corpus.read(corpus_file, "test"))
    rows = prompts(b, 12, 100, 1500, 3)
    assert rows == prompts(b, 12, 100, 1500, 3) == part(rows, ":5") + part(rows, "5:")
    lengths = sorted(len(t) for _, t in rows)
    assert lengths[0] <= 100 and 1000 <= lengths[-1] <= 1500 and len({t for t, _ in rows}) > 2
