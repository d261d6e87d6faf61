"""No request waits for ever: what a client sees when one of the server's clocks is over, and a swapped answer's text."""
import concurrent.futures

import pytest

from conftest import Server, need_binary


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
