"""Laws of sessions and of the rules for their routes."""
import pytest
import torch

from training.data.corpus import Corpus
from training.data.sessions import SessionBuilder
from training.data.tasks import SESSIONS
from training.eval.sessions import SessionRunner, TurnGate, turn_tensors
from training.router import Routers, ServingGate

from conftest import SPEC


@pytest.fixture
def builder(tokenizer, corpus_file):
    return SessionBuilder(tokenizer, Corpus.read(corpus_file, "test"))


@pytest.fixture
def routers():
    torch.manual_seed(3)
    r = Routers(SPEC.n_layer, SPEC.head, 128, 128, pool_size=16, bias_full=0.0)
    for layer in r.layers:      # margins on both sides of 0
        torch.nn.init.normal_(layer.cls_router_head_agnostic[4].weight, std=3.0)
    return r


@pytest.mark.parametrize("task", SESSIONS)
def test_answers_stand_in_an_earlier_turn(task, builder, tokenizer):
    for i in range(4):
        s = builder.build(task, 3000, i)
        turns, (lo, hi) = s.meta["turns"], s.score
        assert len(s.tokens) <= 3000 and s.prompt_len == lo == turns[-1][0] and hi == turns[-1][1] == len(s.tokens)
        assert 2 <= len(turns) and all(a < b for turn in turns for a, b in [turn]) and turns == sorted(turns)
        assert tokenizer.decode(s.tokens[lo:hi]) == s.meta["answer"]
        assert s.tokens == builder.build(task, 3000, i).tokens
        if SESSIONS[task] == "retrieval":
            assert s.meta["answer"].strip() in tokenizer.decode(s.tokens[:turns[-2][1]])


def route_of(backbone, routers, s, n_tok, **how):
    ends, rows = turn_tensors([s], n_tok, "cpu")
    gate = TurnGate(routers, ends, rows, **how)
    tokens = torch.full((1, n_tok), 2)
    tokens[0, :len(s.tokens)] = torch.tensor(s.tokens)
    h, _ = backbone.hidden(tokens, torch.tensor([s.prompt_len]), gate)
    return torch.stack(gate.bits, 2)[0], h


def cut(s, turn):
    """The session as it was when this turn had been answered."""
    prompt, end = s.meta["turns"][turn]
    return type(s)(s.task, s.tokens[:end], prompt, (prompt, end), meta={**s.meta, "turns": s.meta["turns"][:turn + 1]})


@pytest.mark.parametrize("hold", [0.0, 0.5])
def test_a_turns_bits_and_rows_do_not_depend_on_later_turns(hold, backbone, routers, builder):
    s = builder.build("turn-needle", 1500, 1)
    n_tok = -(-len(s.tokens) // 128) * 128
    bits, h = route_of(backbone, routers, s, n_tok, hold=hold)
    assert len({tuple(b.tolist()) for b in bits}) > 1 or hold
    for turn in range(len(s.meta["turns"])):
        part = cut(s, turn)
        got, rows = route_of(backbone, routers, part, n_tok, hold=hold)
        assert torch.equal(got[turn], bits[turn])
        assert torch.equal(rows[:len(part.tokens)], h[:len(part.tokens)])


def test_one_turn_is_decided_as_every_request_is_and_a_hold_without_end_pins(backbone, routers, builder):
    s = builder.build("turn-facts", 1500, 2)
    n_tok = -(-len(s.tokens) // 128) * 128
    one = cut(s, 0)
    bits, h = route_of(backbone, routers, one, n_tok)
    tokens = torch.full((1, n_tok), 2)
    tokens[0, :len(one.tokens)] = torch.tensor(one.tokens)
    plain, z = backbone.hidden(tokens, torch.tensor([one.prompt_len]), ServingGate(routers))
    assert torch.equal(z[0] > 0, bits[0]) and torch.equal(h, plain)
    held, h_held = route_of(backbone, routers, s, n_tok, hold=1e9)
    pinned, h_pin = route_of(backbone, routers, s, n_tok, pin=True)
    assert (held == pinned[0]).all() and torch.equal(h_held, h_pin)


def test_rows_say_how_often_a_layer_changed(backbone, routers, builder):
    samples = {1500: [builder.build("turn-needle", 1500, i) for i in range(3)]}
    rows = SessionRunner(backbone, samples, 4096, 2).session_rows("adapt", routers)
    for r, s in zip(rows, samples[1500]):
        bits, _ = route_of(backbone, routers, s, 1536)
        assert r["turns"] == len(s.meta["turns"]) and len(r["route"]) == SPEC.n_layer
        assert r["layers_changed"] == int((bits[1:] != bits[:-1]).sum())
        assert r["route"] == "".join(str(int(b)) for b in bits[-1])
