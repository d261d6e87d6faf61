"""The router that `make run` serves: route "auto" differs by prompt, the usage tells it, and asking for that route by its mask is the same
answer."""
import os

import pytest

from conftest import REAL, ROOT, Server, need_binary

ROUTER = os.path.join(ROOT, "configs/routers/smollm2-135m-instruct.safetensors")
TEXT = open(os.path.join(os.path.dirname(__file__), "prose.txt")).read()
QUESTION = {"messages": [{"role": "user", "content": TEXT + "\n\nWhich exit code stands for model files?"}]}
PROSE = {"prompt": TEXT}
SHOTS = {"prompt": "Word: horse\nCategory: animal\nWord: red\nCategory: color\n" * 60 + "Word: hammer\nCategory:"}


@pytest.fixture(scope="module")
def routed():
    need_binary()
    s = Server("--router", ROUTER, model=REAL)
    try:
        yield s
        assert s.stop() == 0
    finally:
        s.kill()


def answer(server, body, **fields):
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    r = server.post(path, {**body, "max_tokens": 6, "temperature": 0, "ignore_eos": True, "logprobs": True if "messages" in body else 1, **fields})
    assert r.status_code == 200, r.text
    r = r.json()
    return r["usage"]["attention_route"], r["choices"][0]["logprobs"]


def test_the_file_is_small_and_in_its_place():
    assert os.path.getsize(ROUTER) < 10_000_000


def test_routes_differ_by_prompt_and_questions_get_more_full_layers(routed):
    masks = []
    for body in (QUESTION, PROSE, SHOTS):
        told = routed.post("/v1/route", body).json()["attention_route"]
        assert len(told["mask"]) == 30 and told["full_layers"] == told["mask"].count("1") == 30 - told["sparse_layers"]
        assert 0 < told["full_layers"] < 30
        masks.append(told["mask"])
    assert len(set(masks)) == 3
    full = [m.count("1") for m in masks]
    assert full[0] > full[1] and full[0] > full[2], masks


def test_auto_is_the_answer_of_its_mask(routed):
    auto, words = answer(routed, PROSE)
    assert auto["mask"] == routed.post("/v1/route", PROSE).json()["attention_route"]["mask"]
    told, again = answer(routed, PROSE, route=auto["mask"])
    assert told["mask"] == auto["mask"] and again == words
    assert told["kv_bytes"] <= auto["kv_bytes"] # behind cached pages less is held at the worst moment
    assert answer(routed, PROSE, route="auto")[1] == words


def test_a_prompt_inside_sink_and_window_answers_as_with_full_attention(routed):
    short = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
    auto, words = answer(routed, short)
    full, same = answer(routed, short, route="full")
    assert full["mask"] == "1" * 30 != auto["mask"] and words == same
