"""What a client and the load do to a route: {"min_full_layers": n}, and --route-bias-max. With routers that decide."""
import concurrent.futures
import json
import os
import random

import pytest

from conftest import ROOT, Server, check_error, need_binary

LAYERS = 30
ROUTER = os.path.join(ROOT, "training/routers/smollm2-135m-instruct-pool32.safetensors")
FLOORS = (0, 1, 9, 15, 22, 29, 30)
RNG = random.Random(20)
PROMPTS = ["What is the capital of France?", "Repeat: " + " ".join(str(RNG.randrange(10_000)) for _ in range(50)) + ". What was the first number?",
           [RNG.randrange(100, 40_000) for _ in range(400)]]


def answer(server, prompt, chat=False, **fields):
    """Token ids and logprobs as printed; usage."""
    body = {"max_tokens": 6, "temperature": 0, "ignore_eos": True, "return_token_ids": True, "logprobs": True if chat else 2, **fields}
    body.update({"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt})
    r = server.post("/v1/chat/completions" if chat else "/v1/completions", body, timeout=300)
    assert r.status_code == 200, r.text
    whole = json.loads(r.text, parse_float=str)
    choice = whole["choices"][0]
    return (choice["token_ids"], choice["logprobs"]), whole["usage"]


def mask_of(usage):
    return usage["attention_route"]["mask"]


def by_rule(n, margins):
    """The route that the routers' margins and the floor make."""
    mask = ""
    for i, m in enumerate(margins):
        mask += "1" if mask.count("1") + LAYERS - i <= n or (m is not None and m > 0) else "0"
    return mask


def reaches(n, mask):
    """Whether the floor comes to bear on this route of the routers'."""
    return any(mask[:i].count("1") + LAYERS - i <= n for i in range(LAYERS))


@pytest.fixture(scope="module")
def servers():
    """With room and without a cache; with a cache; with a pool of two or three requests' pages."""
    need_binary()
    made = {}
    common = ["--router", ROUTER, "--local-window-size", "256", "--prefill-chunk-tokens", "256"]
    try:
        made["cold"] = Server(*common)
        made["cached"] = Server(*common, "--prefix-cache-bytes", "100M", "--kv-pool-bytes", "300M")
        made["pinned"] = Server(*common, "--prefix-cache-bytes", "100M", "--kv-pool-bytes", "300M", "--route-reuse", "pin")
        made["small"] = Server(*common, "--kv-pool-bytes", "22M", "--default-max-tokens", "16", "--max-model-len", "264")
        yield made
        for s in made.values():
            assert s.stop() == 0
    finally:
        for s in made.values():
            s.kill()


ROUTE_HEADER = "X-Fluxd-Route"


def test_a_header_gives_the_route_where_the_body_names_none(servers):
    s = servers["cold"]
    prompt = PROMPTS[2]
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    ask = {"/v1/completions": {"prompt": prompt, "max_tokens": 2}, "/v1/chat/completions": chat, "/v1/messages": chat, "/v1/route": {"prompt": prompt},
           "/v1/responses": {"input": "Hi", "max_output_tokens": 2}}

    def route_of(path, said=None, **fields):
        r = s.post(path, {**ask[path], **fields}, headers={ROUTE_HEADER: said} if said is not None else {})
        assert r.status_code == 200, r.text
        return (r.json() if path == "/v1/route" else r.json()["usage"])["attention_route"]["mask"]

    mixed = "10" * (LAYERS // 2)
    for path in ask:
        own = route_of(path)
        for said, mask in (("full", "1" * LAYERS), ("sparse", "0" * LAYERS), (mixed, mixed), ("auto", own)):
            assert route_of(path, said) == mask == route_of(path, route=said), (path, said)
        assert route_of(path, "sparse", route="full") == "1" * LAYERS, "the body is heard first"
        assert route_of(path, "sparse", route=None) == "0" * LAYERS
        for wrong in ("", "fast", "1" * (LAYERS - 1), "2" * LAYERS, '{"min_full_layers": 3}', "1" * 5000):
            for body in (ask[path], {**ask[path], "route": "full"}):
                r = s.post(path, body, headers={ROUTE_HEADER: wrong})
                assert r.status_code == 400 and ROUTE_HEADER in r.text, (path, wrong, r.text)
    assert s.post("/tokenize", {"prompt": "a"}, headers={ROUTE_HEADER: "fast"}).status_code == 200, "it says nothing there"


@pytest.mark.parametrize("i", range(len(PROMPTS)))
def test_the_layers_left_are_full_when_they_are_just_enough(servers, i):
    s, prompt = servers["cold"], PROMPTS[i]
    _, usage = answer(s, prompt, route="auto")
    own, kept, moved = mask_of(usage), 0, 0
    for n in FLOORS[::1 if i == 0 else 3]:
        route = {"min_full_layers": n}
        got, usage = answer(s, prompt, route=route)
        mask = mask_of(usage)
        assert mask.count("1") == usage["attention_route"]["full_layers"] >= n
        if not reaches(n, own):
            assert mask == own
        told = s.post("/v1/route", {"prompt": prompt, "route": route}).json()
        assert mask_of(told) == mask == by_rule(n, told["margins"])
        assert answer(s, prompt, route=mask)[0] == got  # the bits of that route given
        kept, moved = kept + (mask == own), moved + (mask != own)
    assert kept and moved, own


def test_chats_and_streams_and_choices_have_the_floor(servers):
    s = servers["cold"]
    for n in (0, 17, 30):
        _, usage = answer(s, PROMPTS[0], chat=True, route={"min_full_layers": n})
        told = s.post("/v1/route", {"messages": [{"role": "user", "content": PROMPTS[0]}], "route": {"min_full_layers": n}}).json()
        assert mask_of(usage) == mask_of(told) == by_rule(n, told["margins"])
    got = s.complete(PROMPTS[:2], n=2, route={"min_full_layers": 20})["usage"]["attention_route"]
    assert len(got) == 2 and all(r["mask"].count("1") >= 20 for r in got)


@pytest.mark.parametrize("route", [{"min_full_layers": LAYERS + 1}, {"min_full_layers": -1}, {"min_full_layers": 1.5}, {"min_full_layers": "3"}, {"min_full_layers": None},
                                   {"min_full_layers": 2**64}, {"min_full_layers": 3, "mask": "1"}, {}, {"max_full_layers": 3}, [{"min_full_layers": 3}]], ids=str)
def test_floors_that_are_none(servers, route):
    for path, body in (("/v1/completions", {"prompt": "a"}), ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}), ("/v1/route", {"prompt": "a"})):
        e = check_error(servers["cold"].post(path, {**body, "route": route}), 400)
        assert e["param"].split("[")[0] == "route"


def test_static_routes_of_the_server_give_way_to_a_floor(make_server):
    """It is the routers' word, as "auto" is, whatever --route says; without routers auto is full."""
    s = make_server("--router", ROUTER, "--route", "sparse")
    assert mask_of(answer(s, PROMPTS[0])[1]) == "0" * LAYERS
    told = s.post("/v1/route", {"prompt": PROMPTS[0], "route": {"min_full_layers": 12}}).json()
    assert mask_of(told) == by_rule(12, told["margins"])
    assert mask_of(answer(s, PROMPTS[0], route={"min_full_layers": 12})[1]) == mask_of(told)
    none = make_server("--route", "sparse")
    assert mask_of(answer(none, PROMPTS[0], route={"min_full_layers": 3})[1]) == "1" * LAYERS


def test_a_floor_beyond_what_a_plan_leaves_is_refused(make_server):
    plan = make_server("--router", ROUTER, "--layer-plan", "0-3:full,20-29:window")
    check_error(plan.post("/v1/completions", {"prompt": "a", "route": {"min_full_layers": 21}}), 400, "invalid_value", "route")
    mask = mask_of(answer(plan, PROMPTS[0], route={"min_full_layers": 20})[1])
    assert mask == "1" * 20 + "0" * 10  # all that may be


@pytest.mark.parametrize("which", ["cached", "pinned"])
def test_behind_cached_pages_the_bits_are_the_same(servers, which):
    rng, hits = random.Random(5), 0
    prompt = [rng.randrange(100, 40_000) for _ in range(300)]
    for n in (None, 12, 24, 12, None, 24):
        prompt = prompt + [rng.randrange(100, 40_000) for _ in range(60)]
        route = "auto" if n is None else {"min_full_layers": n}
        got, usage = answer(servers[which], prompt, route=route)
        hits += usage["prompt_tokens_details"]["cached_tokens"] > 0
        mask = mask_of(usage)
        assert mask.count("1") >= (n or 0)
        if which == "cached":
            want, cold = answer(servers["cold"], prompt, route=route)
            assert (got, mask) == (want, mask_of(cold)), n
    assert hits >= 2


def test_preempted_requests_keep_their_floor_and_bits(servers):
    """Answers that outgrow their promise in a small pool."""
    def ask(server, i, **fields):
        body = {"messages": [{"role": "user", "content": PROMPTS[0] + str(i)}], "temperature": 0, "logprobs": True, "return_token_ids": True, "ignore_eos": True,
                "route": {"min_full_layers": (0, 12, 20)[i % 3]}, **fields}
        r = server.post("/v1/chat/completions", body, timeout=300)
        assert r.status_code == 200, r.text
        whole = json.loads(r.text, parse_float=str)
        return whole["choices"][0]["token_ids"], whole["choices"][0]["logprobs"], mask_of(whole["usage"])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: ask(servers["small"], i), range(4)))
        want = list(pool.map(lambda i: ask(servers["cold"], i, max_tokens=len(got[i][0])), range(4)))
    assert servers["small"].metrics()["fluxd_preemptions_total"] > 0
    assert got == want
    assert all(m.count("1") >= (0, 12, 20)[i % 3] for i, (_, _, m) in enumerate(want))


def test_under_load_the_margins_are_lowered_and_told(servers, make_server):
    """A burst: each answer tells its bias, no more than the bound, fixed: its tokens are those of its route. Idle: 0. Off: not told."""
    s = make_server("--router", ROUTER, "--local-window-size", "256", "--prefill-chunk-tokens", "256", "--route-bias-max", "6", "--queue-len", "24", "--max-num-seqs", "4")
    assert float(answer(s, PROMPTS[0])[1]["attention_route"]["bias"]) == 0
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        got = list(pool.map(lambda i: answer(s, f"{i} {PROMPTS[0]}"), range(24)))
    biases = [float(usage["attention_route"]["bias"]) for _, usage in got]
    assert min(biases) < 0 and min(biases) >= -6 and len(set(biases)) > 1, biases
    for i, (bits, usage) in enumerate(got):
        assert answer(servers["cold"], f"{i} {PROMPTS[0]}", route=mask_of(usage))[0] == bits
    own = [mask_of(answer(servers["cold"], f"{i} {PROMPTS[0]}")[1]).count("1") for i in range(24)]
    full = [mask_of(usage).count("1") for _, usage in got]
    assert sum(full) < sum(own) and all(f == o for f, o, b in zip(full, own, biases) if b == 0)
    m = s.metrics()
    assert m["fluxd_route_biased_prompts_total"] == sum(b < 0 for b in biases) and -6 <= m["fluxd_route_bias"] <= 0
    assert "bias" not in answer(s, PROMPTS[0], route="full")[1]["attention_route"] and "bias" not in answer(servers["cold"], PROMPTS[0])[1]["attention_route"]
    many = s.complete([PROMPTS[0]] * 2, n=3)["usage"]["attention_route"]
    assert len(many) == 2 and all(r["bias"] <= 0 for r in many)
