"""The prefix cache: an answer behind pages of an earlier prompt has the bits of one computed from its first token; others' salts and
keys never meet. POST /v1/route: the route of a prompt without an answer."""
import json
import random

import pytest

from conftest import Server, check_error, cpu_only, need_binary

FLAGS = ("--sink-size", "128", "--local-window-size", "256", "--prefill-chunk-tokens", "256")
ROUTES = ["full", "sparse", "10" * 15, "1" * 15 + "0" * 15]


def bits(server, prompt, **fields):
    """Token ids and logprobs as printed, route, and how many tokens were cached."""
    r = server.post("/v1/completions", {"prompt": prompt, "max_tokens": 6, "temperature": 0, "ignore_eos": True, "logprobs": 3,
                                        "return_token_ids": True, **fields}, timeout=300)
    assert r.status_code == 200, r.text
    whole = json.loads(r.text, parse_float=str)
    choice, usage = whole["choices"][0], whole["usage"]
    return (choice["token_ids"], choice["logprobs"], usage["attention_route"]["mask"]), usage["prompt_tokens_details"]["cached_tokens"]


@pytest.fixture(scope="module", params=["streaming", "triangle"])
def pair(request):
    """A server with a cache that holds a few conversations, and one without."""
    need_binary()
    servers = []
    try:
        for more in (["--prefix-cache-bytes", "60M"], []):
            servers.append(Server(*FLAGS, "--sparse-kind", request.param, "--kv-pool-bytes", "300M", *more))
        yield servers
        for s in servers:
            assert s.stop() == 0
    finally:
        for s in servers:
            s.kill()


@cpu_only("the prefix cache")
def test_conversations_have_the_same_bits(pair):
    cached, cold = pair
    rng = random.Random(11)
    hits = 0
    for _ in range(8):
        prompt, route = [], rng.choice(ROUTES)
        for turn in range(4):
            prompt = prompt + [rng.randrange(100, 40_000) for _ in range(rng.choice([40, 130, 257, 300]))]
            if rng.random() < 0.3:
                route = rng.choice(ROUTES)
            got, n = bits(cached, prompt, route=route)
            want, none = bits(cold, prompt, route=route)
            assert got == want, (turn, route, len(prompt), n)
            assert none == 0 and n % 128 == 0 and n < len(prompt)
            hits += n > 0
            prompt = prompt + got[0]
    assert hits >= 5


@cpu_only("the prefix cache")
def test_salts_are_apart(pair):
    cached, _ = pair
    prompt = [7 * i % 30_000 + 200 for i in range(600)]
    first, n = bits(cached, prompt, route="full", cache_salt="a")
    assert n == 0
    again, n = bits(cached, prompt, route="full", cache_salt="a")
    assert n in (512, 384) and again == first  # triangle shares nothing that the last 128 tokens decide
    for salt in ("b", None):
        other, n = bits(cached, prompt, route="full", cache_salt=salt)
        assert n == 0 and other == first


@cpu_only("the prefix cache")
def test_keys_are_apart(tmp_path):
    need_binary()
    keys = tmp_path / "keys"
    keys.write_text("key-one\nkey-two\n")
    prompt = [11 * i % 30_000 + 200 for i in range(400)]
    s = Server(*FLAGS, "--prefix-cache-bytes", "60M", "--api-key-file", str(keys))
    try:
        seen = []
        for key in ("key-one", "key-one", "key-two"):
            r = s.post("/v1/completions", {"prompt": prompt, "max_tokens": 1, "route": "full"}, headers={"Authorization": f"Bearer {key}"})
            assert r.status_code == 200, r.text
            seen.append(r.json()["usage"]["prompt_tokens_details"]["cached_tokens"])
        assert seen == [0, 384, 0]
        assert s.stop() == 0
    finally:
        s.kill()


def test_the_route_without_an_answer(pair):
    for s in pair:
        prompt = [13 * i % 30_000 + 200 for i in range(500)]
        r = s.post("/v1/route", {"prompt": prompt, "route": "10" * 15})
        assert r.status_code == 200, r.text
        told = r.json()
        assert told["attention_route"]["mask"] == "10" * 15 and told["usage"]["prompt_tokens"] == 500
        assert told["attention_route"]["kv_bytes"] < told["attention_route"]["kv_bytes_full"]
        told = s.post("/v1/route", {"messages": [{"role": "user", "content": "Hello"}]}).json()
        assert told["attention_route"]["mask"] == "1" * 30
        check_error(s.post("/v1/route", {}), 400)
        check_error(s.post("/v1/route", {"prompt": "x", "stream": True}), 400)
        check_error(s.post("/v1/route", {"prompt": "x", "route": "2"}), 400)
        assert s.alive()
