"""The prefix cache: an answer behind pages of an earlier prompt has the bits of one computed from its first token; others' salts and
keys never meet. POST /v1/route: the route of a prompt without an answer."""
import json
import random

import pytest

from conftest import Server, check_error, need_binary

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
        for size in ("60M", "0"):
            servers.append(Server(*FLAGS, "--sparse-kind", request.param, "--kv-pool-bytes", "300M", "--prefix-cache-bytes", size))
        yield servers
        for s in servers:
            assert s.stop() == 0
    finally:
        for s in servers:
            s.kill()


def test_conversations_have_the_same_bits(pair):
    cached, cold = pair
    rng = random.Random(11)
    hits = 0
    for _ in range(4):
        prompt, route = [], rng.choice(ROUTES)
        for turn in range(3):
            prompt = prompt + [rng.randrange(100, 40_000) for _ in range(rng.choice([130, 257, 300]))]
            if rng.random() < 0.3:
                route = rng.choice(ROUTES)
            got, n = bits(cached, prompt, route=route)
            want, none = bits(cold, prompt, route=route)
            assert got == want, (turn, route, len(prompt), n)
            assert none == 0 and n % 128 == 0 and n < len(prompt)
            hits += n > 0
            prompt = prompt + got[0]
    assert hits >= 3


def scored(server, prompts, **fields):
    """Of each prompt what the answer says, as printed, and all tokens that were cached."""
    r = server.post("/v1/completions", {"prompt": prompts, "max_tokens": 0, "echo": True, "logprobs": 3, **fields}, timeout=300)
    assert r.status_code == 200, r.text
    whole = json.loads(r.text, parse_float=str)
    return [{**c, "index": 0} for c in whole["choices"]], whole["usage"]["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.parametrize("route", ["full", ROUTES[2]])
def test_scores_of_prompts_with_a_prefix_in_common_are_those_of_each_alone(pair, route):
    """Choices of questions behind one context, as lm-eval sends them, and prompts that are alike, or a part of each other."""
    cached, cold = pair
    rng = random.Random(route)
    some = lambda n: [rng.randrange(100, 40_000) for _ in range(n)]
    context, questions = some(256), [some(100), some(140)]
    prompts = [context + q + some(n) for q in questions for n in (1, 3)] + [context, context[:129]]
    prompts += [prompts[2], context + [prompts[0][256] + 1] + prompts[0][257:]]
    rng.shuffle(prompts)
    for max_tokens in (0, 2):
        fields = dict(route=route, cache_salt=f"{route} {max_tokens}", max_tokens=max_tokens, temperature=0, ignore_eos=True)
        together, n = scored(cached, prompts, **fields)
        assert n >= 4 * 128, "what they have in common is computed once"  # triangle shares nothing that the last 128 tokens decide
        assert together == [scored(cold, [p], **fields)[0][0] for p in prompts]


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


def choices(server, **fields):
    r = server.post("/v1/completions", {"prompt": [17 * i % 30_000 + 200 for i in range(700)], "max_tokens": 5, "temperature": 1, "seed": 5, "ignore_eos": True,
                                        "logprobs": 2, "return_token_ids": True, **fields}, timeout=300)
    assert r.status_code == 200, r.text
    whole = json.loads(r.text, parse_float=str)
    return [(c["token_ids"], c["logprobs"]) for c in sorted(whole["choices"], key=lambda c: c["index"])], whole["usage"]


def test_choices_of_one_prompt_share_its_pages(pair):
    cached, cold = pair
    before = cached.metrics()
    for fields in ({"n": 4, "route": "1" * 15 + "0" * 15}, {"n": 3, "best_of": 3, "route": "10" * 15}, {"n": 2, "prompt": [[5 + i % 900 for i in range(400)], [9] * 300]}):
        fields["cache_salt"] = str(fields["n"])  # routes have their first pages in common
        got, used = choices(cached, **fields)
        want, used_cold = choices(cold, **fields)
        assert got == want and len({str(g) for g in got}) > 1
        assert used["prompt_tokens"] == used_cold["prompt_tokens"] and used["completion_tokens"] == used_cold["completion_tokens"] == 5 * len(got)
        assert used["prompt_tokens_details"]["cached_tokens"] == 0  # the choice that is counted computed its prompt
    after = cached.metrics()
    moved = {k: after[f"fluxd_prefix_{k}_total"] - before[f"fluxd_prefix_{k}_total"] for k in ("hits", "misses", "restarts")}
    assert moved == {"hits": 3 + 2 + 2, "misses": 4, "restarts": 0}, moved


def test_layers_of_a_plan_keep_their_pages_whatever_route_is_asked():
    need_binary()
    s = Server(*FLAGS, "--layer-plan", "0-1:full,3:flex,5:reuse(3),8:window")
    try:
        prompt, seen = [19 * i % 30_000 + 200 for i in range(900)], []
        for route in ("sparse", "0" * 30, "sparse"):
            r = s.post("/v1/completions", {"prompt": prompt, "max_tokens": 3, "temperature": 0, "route": route, "return_token_ids": True})
            assert r.status_code == 200, r.text
            mask = r.json()["usage"]["attention_route"]["mask"]
            assert mask[:2] == "11" and mask[3] == mask[5] == "1" and mask[8] == "0" and mask.count("1") == 4, mask
            seen.append((r.json()["choices"][0]["token_ids"], r.json()["usage"]["prompt_tokens_details"]["cached_tokens"]))
        assert seen[0][0] == seen[1][0] == seen[2][0] and [n for _, n in seen] == [0, 896, 896]
        assert s.stop() == 0
    finally:
        s.kill()
