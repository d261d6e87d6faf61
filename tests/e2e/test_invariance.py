"""The same request gives the same bits: alone, among others, in other pieces, again. Tokens and logprobs are compared as printed
(enough digits that equal text is equal bits), in the exact mode and in the fast one."""
import concurrent.futures
import json

import pytest

from conftest import Server, need_binary, on_gpu

FLAGS = ("--sink-size", "128", "--local-window-size", "256", "--max-num-seqs", "64" if on_gpu() else "8", "--prefix-cache-bytes", "0")  # each computes all of its prompt
IDS = [(i * 7919) % 40_000 + 100 for i in range(700)]
ALTERNATING = "10" * 15
ASKS = {
    "short": dict(prompt="Once upon a time", temperature=1.1, seed=5),
    "a page and one": dict(prompt=IDS[:129], temperature=0),
    "long alternating": dict(prompt=IDS[:651], temperature=0.8, seed=9, route=ALTERNATING),
    "long sparse": dict(prompt=IDS[:520], temperature=0, route="sparse"),
}
OTHERS = [dict(prompt=IDS[i * 40:i * 40 + n], temperature=1, seed=i, route=r)
          for i, (n, r) in enumerate([(3, "full"), (140, "sparse"), (31, ALTERNATING), (257, "full")])]


def bits(server, ask):
    """Token ids, and the logprobs as the text has them."""
    r = server.post("/v1/completions", {"max_tokens": 16, "ignore_eos": True, "logprobs": 5, "return_token_ids": True, **ask}, timeout=300)
    assert r.status_code == 200, r.text
    choice = json.loads(r.text, parse_float=str)["choices"][0]
    assert len(choice["token_ids"]) == 16
    return choice["token_ids"], choice["logprobs"]


@pytest.fixture(scope="module", params=["f32", "auto"])
def pair(request):
    """Two servers that cut prompts differently, and the answers of the first, each request alone."""
    need_binary()
    servers = []
    try:
        servers += [Server(*FLAGS, "--dtype", request.param, "--prefill-chunk-tokens", n) for n in ("2048", "128")]
        yield (*servers, {k: bits(servers[0], a) for k, a in ASKS.items()})
        for s in servers:
            assert s.stop() == 0
    finally:
        for s in servers:
            s.kill()


def test_twice_in_a_row(pair):
    whole, _, alone = pair
    assert {k: bits(whole, a) for k, a in ASKS.items()} == alone


def test_in_small_pieces(pair):
    _, pieces, alone = pair
    for k, a in ASKS.items():
        assert bits(pieces, a) == alone[k], k


@pytest.mark.parametrize("which", [0, 1], ids=["2048", "128"])
def test_each_among_seven_others(pair, which):
    """All eight start together, so that they meet in prefill and in decode."""
    server, alone = pair[which], pair[2]
    server.wait_free()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        others = [pool.submit(bits, server, o) for o in OTHERS]
        got = {k: pool.submit(bits, server, a) for k, a in ASKS.items()}
        server.wait_metric("fluxd_requests_running", lambda v: v >= 5, 60)
        assert {k: g.result() for k, g in got.items()} == alone
        assert all(len(o.result()[0]) == 16 for o in others)


@pytest.mark.skipif(not on_gpu(), reason="of the GPU's buckets of rows; the CPU's products do not know how many rows there are")
@pytest.mark.parametrize("size", [2, 17, 64])
@pytest.mark.parametrize("which", [0, 1], ids=["2048", "128"])
def test_each_in_a_batch_of_other_routes(pair, which, size):
    """The others run long enough to be there to the end; their routes and lengths go round."""
    server, alone = pair[which], pair[2]
    for k, a in ASKS.items():
        server.wait_free()
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            others = [pool.submit(server.post, "/v1/completions", {**OTHERS[i % 4], "seed": i, "max_tokens": 150, "ignore_eos": True}) for i in range(size - 1)]
            server.wait_metric("fluxd_requests_running", lambda v: v >= min(size - 1, 16), 60)
            got = bits(server, a)
            assert all(o.result().status_code == 200 for o in others)
        assert got == alone[k], k


def test_the_printed_numbers_keep_their_bits(pair):
    """A greedy token's logprob is its top entry's, as the same text; nine digits hold a float."""
    _, lp = pair[2]["a page and one"]
    assert all(t in top.values() for t, top in zip(lp["token_logprobs"], lp["top_logprobs"]))
    digits = [len(t.lstrip("-").split("e")[0].replace(".", "").lstrip("0")) for t in lp["token_logprobs"]]
    assert max(digits) >= 8, "printed too short to tell bits apart"
