"""Random conversations against a server with the prefix cache, under eviction pressure, and one without: the same tokens, logprobs
and routes, bit by bit, whether the routers decide or the client does, with every kind of sparse attention.

FLUXD_TALKS: conversations for each kind of server, in place of a few for some; FLUXD_TALKS_SEED: others. FLUXD_TALKS=40 makes more than 300
(half an hour on two cores; `-k KIND` takes it in parts).
"""
import contextlib
import json
import os
import random
import threading

import pytest

from conftest import ROOT, Server, Stream, need_binary

N_TALK = int(os.environ.get("FLUXD_TALKS", "0"))
FEW = {"streaming": 4, "triangle": 2, "both-xattn": 1, "plan": 1}
SEED = int(os.environ.get("FLUXD_TALKS_SEED", "1"))
ROUTER = os.path.join(ROOT, "training/routers/smollm2-135m-instruct-pool32.safetensors")
L, TURNS, LONGEST = (30, 8, 1000) if N_TALK else (30, 4, 700)
BASE = ("--router", ROUTER, "--sink-size", "128", "--local-window-size", "256", "--kv-pool-bytes", "280M", "--max-model-len", "2048")
KINDS = {
    "streaming": ("--prefill-chunk-tokens", "256"),
    "pieces": ("--prefill-chunk-tokens", "128", "--router-pool-size", "100"),
    "whole": ("--prefill-chunk-tokens", "2048", "--sink-size", "256", "--local-window-size", "128"),
    "triangle": ("--sparse-kind", "triangle", "--prefill-chunk-tokens", "256"),
    "xattn": ("--sparse-kind", "xattn", "--prefill-chunk-tokens", "256"),
    "both-xattn": ("--sparse-kind", "xattn", "--retrieval-mode", "xattn", "--prefill-chunk-tokens", "384"),
    "retrieval-xattn": ("--retrieval-mode", "xattn", "--prefill-chunk-tokens", "256"),
    "plan": ("--layer-plan", "0-1:full,3:flex,5:reuse(3),8:window,11:none,13:split(0+2)", "--prefill-chunk-tokens", "256"),
}
WORDS = {
    "prose": "the old mill by the river had been shut since spring and nobody could say who held its key or why the wheel still turned at night".split(),
    "code": "int x = 0 ; for ( i < n ; i ++ ) { sum += a [ i ] * b [ i ] ; } return sum ; // loop \n while true : print".split(" "),
    "table": "17 | 3.14 | 42 , 99 ; 1024 - 8 = 1016 \n id value 7 , 12 , 350 + 1".split(" "),
    "ask": "Question: what is the capital of that country ? Answer: Tell me more , please . Summarize the text above in one line .".split(" "),
}


class Pair:
    """Both servers; every ask goes to both."""

    def __init__(self, *flags):
        self.both = []
        self.flags = flags
        self.n, self.lock = dict(asks=0, turns=0, rerouted=0, hits=0, left=0), threading.Lock()
        for size in ("60M" if N_TALK else "30M", "0"):
            self.both.append(Server(*BASE, *flags, "--prefix-cache-bytes", size))

    def count(self, **more):
        with self.lock:
            for k, n in more.items():
                self.n[k] += n

    def kill(self):
        for s in self.both:
            s.kill()


def said(server, body):
    """What a client must see alike: ids, logprobs as printed, route, counts. And the tokens that were cached."""
    r = server.post("/v1/completions", body, timeout=300)
    assert r.status_code == 200, r.text
    whole = json.loads(r.text, parse_float=str)
    choice, usage = whole["choices"][0], whole["usage"]
    return {"ids": choice["token_ids"], "logprobs": choice["logprobs"], "why": choice["finish_reason"], "mask": usage["attention_route"]["mask"],
            "n": (usage["prompt_tokens"], usage["completion_tokens"])}, usage["prompt_tokens_details"]["cached_tokens"]


def said_in_frames(server, body, leave_after=None):
    """The same from a stream; leave_after: the client goes after so many frames."""
    ids, probs, why, usage = [], [], None, None
    with Stream(server, "/v1/completions", timeout=300, **body, stream_options={"include_usage": True}) as frames:
        for i, (_, f) in enumerate(frames):
            usage = f.get("usage") or usage
            for c in f["choices"]:
                ids += c.get("token_ids") or []
                probs += c["logprobs"]["token_logprobs"] if c.get("logprobs") else []
                why = c["finish_reason"] or why
            if leave_after is not None and i >= leave_after:
                return None
    return ids, probs, why, usage["attention_route"]["mask"], usage["prompt_tokens_details"]["cached_tokens"]


def text(rng, pair, n):
    kind = WORDS[rng.choice(list(WORDS))]
    ids = pair.both[0].ids(" ".join(rng.choice(kind) for _ in range(n)))
    return ids[:n] if rng.random() < 0.8 else [rng.randrange(100, 40_000) for _ in range(n)]


def a_route(rng):
    if rng.random() < 0.55:
        return "auto"
    if rng.random() < 0.25:
        return {"min_full_layers": rng.randrange(1, L - 2)}  # the plan below leaves 28 layers to choose
    return rng.choice(["full", "sparse", "10" * 15, "1" * 15 + "0" * 15, "".join(rng.choice("01") for _ in range(L))])


def compare(pair, rng, body):
    """One ask in one of the ways a client has; gives the answer's ids and route."""
    cached, cold = pair.both
    pair.count(asks=1)
    want, none = said(cold, body)
    assert none == 0
    way = rng.random()
    if way < 0.15:
        ids, probs, why, mask, n = said_in_frames(cached, body)
        assert (ids, why, mask) == (want["ids"], want["why"], want["mask"]), body
        assert [repr(p) for p in probs] == [repr(float(p)) for p in want["logprobs"]["token_logprobs"]]
    else:
        if way < 0.3:  # a client that leaves, and comes again
            said_in_frames(cached, {**body, "max_tokens": 40}, leave_after=rng.randrange(3))
            pair.count(left=1)
        got, n = said(cached, body)
        assert got == want, (n, body)
    assert n % 128 == 0 and n < len(body["prompt"])
    pair.count(hits=n > 0)
    return want["ids"], want["mask"]


def compare_route(pair, body):
    """POST /v1/route tells the same route by the same margins."""
    ask = {"prompt": body["prompt"], "route": body["route"]}
    got, want = (json.loads(s.post("/v1/route", ask, timeout=300).text, parse_float=str) for s in pair.both)
    assert got["margins"] == want["margins"] and got["attention_route"] == want["attention_route"], body


def body_of(rng, prompt, route):
    more = {"temperature": 0} if rng.random() < 0.6 else {"temperature": 1, "seed": rng.randrange(1000)}
    return {"prompt": prompt, "route": route, "max_tokens": rng.randrange(1, 7), "ignore_eos": True, "logprobs": 3, "return_token_ids": True, **more}


def talk(pair, rng, past, failed):
    """One conversation: it grows, sometimes from another's earlier turn, and changes its route."""
    try:
        prompt = list(rng.choice(past)) if past and rng.random() < 0.4 else text(rng, pair, rng.randrange(30, 420))
        prompt, route, before = prompt[: LONGEST - 300], a_route(rng), None
        for _ in range(rng.randrange(1, TURNS + 1)):
            prompt = prompt + text(rng, pair, rng.choice([1, 12, 40, 130, 257, 300]))
            if len(prompt) > LONGEST:
                return
            if rng.random() < 0.35:
                route = a_route(rng)
            body = body_of(rng, prompt, route)
            answer, mask = compare(pair, rng, body)
            pair.count(turns=1, rerouted=mask != (before or mask))
            before = mask
            past.append(prompt)
            again = rng.random()
            if again < 0.1:
                compare(pair, rng, body)
            elif again < 0.2 and len(prompt) > 140:
                compare(pair, rng, body_of(rng, prompt[: rng.choice([128, 129, len(prompt) - 1, rng.randrange(64, len(prompt))])], route))
            elif again < 0.3:  # branches: another client goes on otherwise
                compare(pair, rng, body_of(rng, prompt[: rng.randrange(len(prompt) // 2, len(prompt))] + text(rng, pair, 50), a_route(rng)))
            elif again < 0.4:
                compare_route(pair, body)
            prompt = prompt + answer
    except BaseException as e:  # noqa: BLE001 raised by the main thread
        failed.append(e)


@pytest.mark.parametrize("kind", list(KINDS) if N_TALK else list(FEW))
def test_answers_have_the_bits_of_a_server_without_cache(kind):
    need_binary()
    n = N_TALK or FEW[kind]
    rng, failed, past = random.Random(SEED * 1000 + list(KINDS).index(kind)), [], []
    with contextlib.ExitStack() as stack:
        pair = Pair(*KINDS[kind])
        stack.callback(pair.kill)
        for _ in range(0, n, 3):  # three at once
            group = [threading.Thread(target=talk, args=(pair, random.Random(rng.random()), past, failed)) for _ in range(min(3, n))]
            for t in group:
                t.start()
            for t in group:
                t.join()
            for e in failed:
                raise e
        m = pair.both[0].metrics()
        pair.both[0].wait_free()
        told = {k: int(m[f"fluxd_prefix_{k}_total"]) for k in ("hits", "misses", "restarts", "evicted_pages")}
        print(f"\n{kind}: {n} conversations, {pair.n}, {told}")
        assert pair.n["hits"] > 0 or pair.n["asks"] < 8
        assert told["evicted_pages"] > 0 or (kind != "streaming" and not N_TALK)
        assert [s.stop() for s in pair.both] == [0, 0]
