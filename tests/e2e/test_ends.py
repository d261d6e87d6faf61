"""How answers end: every ending is counted once, as its client saw it, and the books balance in every scrape."""
import concurrent.futures
import threading

import pytest

from conftest import Server, Stream, need_binary, wait_until
from test_faults import APP, NAN, fault

REASONS = {"stop": "stop", "length": "length", "cancelled": "abort", "error": "error"}  # ours: vLLM's
TEXT = dict(prompt="Once upon a time", max_tokens=24, temperature=0)


@pytest.fixture(scope="module")
def server():
    need_binary(APP)
    s = Server("--vllm-metrics", "on", "--max-num-seqs", "6", binary=APP)
    try:
        yield s
        assert s.stop() == 0
    finally:
        s.kill()


def counts(server):
    m = server.metrics()
    ours = {r: m[f'fluxd_requests_finished_total{{reason="{r}"}}'] for r in REASONS}
    for name, value in m.items():
        if name.startswith("vllm:request_success_total{"):
            assert value == ours[next(r for r, v in REASONS.items() if f'finished_reason="{v}"' in name)], name
    return ours


def check_books(server):
    m = server.metrics()
    ended = sum(v for k, v in m.items() if k.startswith("fluxd_requests_finished_total"))
    assert m["fluxd_requests_accepted_total"] == ended + m["fluxd_requests_running"] + m["fluxd_requests_waiting"], m
    assert m["fluxd_requests_running"] >= 0


def ends(server, streamed, **ask):
    """The ends that the client saw, one for each choice."""
    if not streamed:
        r = server.post("/v1/completions", ask)
        return [c["finish_reason"] for c in r.json()["choices"]] if r.status_code == 200 else ["error"] * ask.get("n", 1)
    seen = {}
    with Stream(server, "/v1/completions", **ask) as s:
        s.response = s.conn.getresponse()
        if s.response.status != 200:  # nothing was said before it failed
            return ["error"] * ask.get("n", 1)
        for _, f in s:
            if "error" in f:
                return ["error"] * ask.get("n", 1)
            seen.update({c["index"]: c["finish_reason"] for c in f["choices"] if c["finish_reason"]})
    return list(seen.values())


@pytest.fixture(scope="module")
def endings(server):
    """Requests by how they must end. The stop strings: in the middle, at the very last token, and in an answer that its eos ends."""
    r = server.complete(**TEXT, ignore_eos=True, return_token_ids=True)["choices"][0]
    text, last = r["text"], r["token_ids"][-1]
    first, tail = text[10:14], text[-3:]
    at_last = text[:text.index(tail) + 3]
    return {
        "length": [(dict(TEXT, ignore_eos=True), "length")],
        "stop string": [(dict(TEXT, max_tokens=2000, stop=first, ignore_eos=True), "stop"), (dict(TEXT, stop=[first, "never seen"], include_stop_str_in_output=True), "stop")],
        "stop string at the last token": [(dict(TEXT, stop=tail, ignore_eos=True), "stop")] if at_last == text else [],
        "stop token": [(dict(prompt="a", max_tokens=9, allowed_token_ids=[500], stop_token_ids=[500]), "stop"),
                       (dict(TEXT, max_tokens=2000, stop_token_ids=[last], ignore_eos=True), "stop")],
        "eos": [(dict(prompt="a", max_tokens=9, allowed_token_ids=[2]), "stop")],
        "error": [(fault(NAN), "error")],
    }


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", ["length", "stop string", "stop string at the last token", "stop token", "eos", "error"])
def test_an_ending_is_counted_as_the_client_saw_it(server, endings, kind, streamed, n):
    if kind == "error" and n > 1:
        pytest.skip("one choice fails, the others are cancelled with it")
    if not endings[kind]:
        pytest.skip("the answer's end stands earlier in it too")
    for ask, want in endings[kind]:
        server.wait_free()
        before = counts(server)
        seen = ends(server, streamed, **ask, **({"n": n} if n > 1 else {}))
        server.wait_free()
        assert seen == [want] * n
        assert counts(server) == {r: before[r] + (n if r == want else 0) for r in REASONS}
        check_books(server)


@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_leaves_is_cancelled(server, n):
    server.wait_free()
    before = counts(server)
    with Stream(server, "/v1/completions", prompt="Once", max_tokens=4000, ignore_eos=True, n=n) as s:
        next(iter(s))
    server.wait_free()
    assert counts(server) == {**before, "cancelled": before["cancelled"] + n}


def test_the_books_balance_in_every_scrape(server, endings):
    """While requests of every kind come and end, more than there is room for."""
    server.wait_free()
    before, seen, lock = counts(server), dict.fromkeys(REASONS, 0), threading.Lock()
    asks = [a for group in endings.values() for a, _ in group] * 6

    def one(i):
        got = ends(server, i % 2 == 0, **asks[i])
        with lock:
            for reason in got:
                seen[reason] += 1

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        running = [pool.submit(one, i) for i in range(len(asks))]
        wait_until(lambda: check_books(server) or all(r.done() for r in running))
        for r in running:
            r.result()
    server.wait_free()
    check_books(server)
    assert counts(server) == {r: before[r] + seen[r] for r in REASONS}
