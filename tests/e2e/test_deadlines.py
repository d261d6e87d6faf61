"""No request waits for ever: what a client sees when one of the server's clocks is over, and a swapped answer's text."""
import concurrent.futures

import pytest

from conftest import need_binary, Server, Stream


@pytest.fixture
def start():
    need_binary()
    running = []

    def run(*flags):
        running.append(Server(*map(str, flags)))
        return running[-1]

    yield run
    for s in running:
        s.kill()


def ask(server, **fields):
    return server.post("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True, "temperature": 0, **fields})


def test_a_request_waits_in_the_queue_so_long_and_no_longer(start):
    server = start("--max-num-seqs", 1, "--queue-timeout-ms", 300)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = [a.result() for a in [pool.submit(ask, server) for _ in range(3)]]
    assert sorted(a.status_code for a in answers) == [200, 503, 503]
    for a in answers:
        if a.status_code == 503:
            assert a.json()["error"]["code"] == "overloaded" and int(a.headers["Retry-After"]) >= 1


def test_a_request_takes_so_long_and_no_longer(start):
    server = start("--request-timeout-ms", 300)
    a = ask(server, max_tokens=4000)
    assert (a.status_code, a.json()["error"]["code"]) == (504, "deadline_exceeded")
    stream = ask(server, max_tokens=4000, stream=True).text
    assert stream.count("data: ") > 2 and '"deadline_exceeded"' in stream and "[DONE]" not in stream


def test_swapped_answers_are_the_same(start):
    """Two rooms for four chats whose answers outgrow what they were promised."""
    def chats(server):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            body = [{"messages": [{"role": "user", "content": f"Tell a long story, number {i}."}], "temperature": 0} for i in range(4)]
            return [a.result().json()["choices"][0]["message"]["content"] for a in [pool.submit(server.post, "/v1/chat/completions", b) for b in body]]

    small = start("--kv-pool-bytes", "15M", "--default-max-tokens", 16, "--swap-space-bytes", "256M", "--max-model-len", 400)
    swapped = chats(small)
    assert small.metrics()["fluxd_swaps_total"] > 0
    small.kill()
    assert chats(start("--max-model-len", 400)) == swapped


def test_a_stream_that_waits_too_long_is_refused_with_a_status_that_clients_retry(start):
    """Its head waits for the first news, so the refusal is no frame behind a 200; where pings come first, it is one."""
    for ping_ms, status in ((10000, 503), (50, 200)):
        s = start("--max-num-seqs", 1, "--queue-timeout-ms", 700, "--stream-ping-ms", ping_ms)
        with Stream(s, "/v1/completions", prompt="Once", max_tokens=4000, ignore_eos=True) as first:
            first.open()
            r = s.post("/v1/completions", {"prompt": "a", "max_tokens": 4, "stream": True})
            assert r.status_code == status, r.text
            if status == 503:
                assert int(r.headers["Retry-After"]) >= 1 and r.json()["error"]["code"] == "overloaded"
            else:
                assert '"overloaded"' in r.text and "[DONE]" not in r.text
