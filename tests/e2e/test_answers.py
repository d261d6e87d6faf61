"""Whole answers that are long: they are written while their client reads, and what they hold until then is bounded by
--max-answers-bytes. The model is a random one of two layers: what it says is the same each time, and quick."""
import contextlib
import http.client
import json
import socket

import pytest
import requests

from conftest import Server, Stream, check_error, on_gpu, wait_until
from test_model_dirs import make_dir

pytestmark = pytest.mark.skipif(on_gpu(), reason="the head of this random model is of no size that the GPU's kernels take")

MIB = 1 << 20
PROMPT = [5 + i % 26 for i in range(1500)]  # its scores hold 256 KiB
SCORED = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0, "repetition_penalty": 1, "echo": True, "logprobs": 5, "return_token_ids": True, "ignore_eos": True}


def start(folder, *flags):
    return Server("--model", folder, *flags)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(make_dir(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def small(folder):
    s = start(folder, "--max-answers-bytes", 2 * MIB, "--stream-buffer-bytes", 4096, "--write-stall-ms", 600000)
    yield s
    assert s.stop() == 0


@pytest.fixture(scope="module")
def large(folder):
    """One whose answers are all short for it."""
    s = start(folder, "--stream-buffer-bytes", "64M")
    yield s
    assert s.stop() == 0


def held(server):
    return server.metrics()["fluxd_answer_bytes"]


def choices(server, path, **body):
    r = server.post(path, body)
    assert r.status_code == 200, r.text[:300]
    got = r.json()
    for x in (got, got["usage"]):
        x.pop("id", None), x.pop("created", None), x.pop("prompt_tokens_details", None)
    return r, got


@contextlib.contextmanager
def unread(server, body, n):
    """n clients that ask and read nothing."""
    text = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(n):
            s = stack.enter_context(socket.socket())
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", server.port))
            s.sendall(head + text)
            made.append(s)
        yield made


@pytest.mark.parametrize("path,body", [
    ("/v1/completions", {**SCORED, "n": 2}), ("/v1/completions", {"prompt": [PROMPT[:700], PROMPT[:300]], "max_tokens": 100, "logprobs": 3, "temperature": 0, "ignore_eos": True}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a b"}], "max_tokens": 100, "logprobs": True, "top_logprobs": 20, "n": 3, "temperature": 0,
                              "return_token_ids": True, "ignore_eos": True}),
], ids=["scored prompt", "prompts", "chat"])
def test_an_answer_in_pieces_is_the_answer_at_once(small, large, path, body):
    pieces, got = choices(small, path, **body)
    once, want = choices(large, path, **body)
    assert got == want
    assert "Content-Length" in once.headers and pieces.headers["Transfer-Encoding"] == "chunked"
    wait_until(lambda: held(small) == 0)


def post_from(address, server, body):
    """As a client of another address."""
    conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120, source_address=(address, 0))
    conn.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    r = conn.getresponse()
    r.read()
    conn.close()
    return r.status


def test_answers_that_nobody_reads_are_bounded_and_others_are_served(small):
    """One client gets half of the room."""
    with unread(small, SCORED, 12) as made:
        wait_until(lambda: small.metrics()["fluxd_requests_running"] == small.metrics()["fluxd_requests_waiting"] == 0 and held(small) > MIB / 2)
        assert held(small) <= MIB
        e = check_error(small.post("/v1/completions", SCORED), 503, "overloaded")
        assert "--client-answers-bytes" in e["message"]
        assert small.complete("a", max_tokens=2)["choices"] and small.complete("a", max_tokens=20, logprobs=5)["choices"]
        assert post_from("127.0.0.2", small, SCORED) == 200
        want = {200: 0, 503: 0}
        for s in made:
            r = s.makefile("rb")
            status = int(r.readline().split()[1])
            want[status] += 1
        assert want[200] >= 2 and want[503] >= 6, want
    wait_until(lambda: held(small) == 0)
    assert small.post("/v1/completions", SCORED).status_code == 200


def test_an_answer_that_grows_beyond_the_room_ends_with_an_error(small):
    body = {"prompt": "a", "max_tokens": 900, "temperature": 0, "ignore_eos": True, "logprobs": 1, "n": 8}
    e = check_error(small.post("/v1/completions", body), 503, "overloaded")
    assert "--client-answers-bytes" in e["message"]
    wait_until(lambda: held(small) == 0)
    small.wait_free()


def test_a_stream_holds_no_tokens_that_it_has_told(small):
    """As long as the answer that was too long to be whole."""
    n = 0
    with Stream(small, "/v1/completions", prompt="a", max_tokens=900, temperature=0, ignore_eos=True, logprobs=1, n=8) as s:
        for _, frame in s:
            assert "error" not in frame, frame
            n += sum(len(c["logprobs"]["tokens"]) for c in frame["choices"] if c["logprobs"])
        assert s.done and n == 7200


def joined(server, **body):
    """A streamed completion, put together."""
    text, scores = "", {"tokens": [], "text_offset": [], "token_logprobs": [], "top_logprobs": []}
    frames = 0
    with Stream(server, "/v1/completions", **body) as s:
        for frames, frame in s:
            for c in frame["choices"]:
                text += c["text"]
                for k in scores:
                    scores[k] += c["logprobs"][k] if c["logprobs"] else []
        assert s.done
    return text, scores, frames


def test_a_streamed_prompt_is_scored_in_pieces_that_make_the_whole(small):
    text, scores, frames = joined(small, **SCORED)
    want = small.post("/v1/completions", SCORED).json()["choices"][0]
    assert (text, scores) == (want["text"], want["logprobs"])
    assert frames > len(PROMPT) / 100


def test_a_client_that_leaves_in_the_middle_gives_its_room_back(small):
    with unread(small, SCORED, 2) as made:
        wait_until(lambda: held(small) > 0 and small.metrics()["fluxd_requests_running"] == 0)
        assert made[0].recv(100).startswith(b"HTTP/1.1 200")
    wait_until(lambda: held(small) == 0)


def test_the_end_does_not_wait_for_one_that_reads_nothing(folder):
    s = start(folder, "--stream-buffer-bytes", 4096)
    try:
        with unread(s, SCORED, 1):
            wait_until(lambda: held(s) > 0 and s.metrics()["fluxd_requests_running"] == 0)
            assert s.stop() == 0
            assert "ended without waiting" not in s.logged()
    finally:
        s.kill()


def test_streams_that_nobody_reads_hold_no_place_that_others_wait_for(folder):
    """All places are taken by such streams. Each newcomer is served, and they go on, whole, when they are read after all."""
    s = start(folder, "--max-num-seqs", 4, "--stream-buffer-bytes", 4096, "--write-stall-ms", 600000)
    ask = {"prompt": "a", "max_tokens": 1500, "temperature": 0, "ignore_eos": True, "logprobs": 5, "stream": True}
    try:
        with unread(s, ask, 4) as made:
            wait_until(lambda: s.metrics()["fluxd_requests_resting"] == 4)
            for _ in range(3):
                assert s.complete("b", max_tokens=5)["choices"]
            assert s.metrics()["fluxd_requests_resting"] == 4 and s.metrics()["fluxd_preemptions_total"] > 0
            texts = set()
            for c in made:
                r = http.client.HTTPResponse(c)
                r.begin()
                frames = [json.loads(x[6:]) for x in r.read().decode().split("\n\n") if x.startswith("data: {")]
                assert not any("error" in x for x in frames)
                texts.add(tuple(t for x in frames for t in (x["choices"][0]["logprobs"] or {"tokens": []})["tokens"]))
        assert len(texts) == 1 and len(texts.pop()) == 1500
        assert s.stop() == 0
    finally:
        s.kill()
