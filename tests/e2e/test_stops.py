"""A process that is stopped and continued (docker pause, a debugger, job control): the time in which it stood still is nobody's. Answers are whole, no
deadline of the server has passed meanwhile, and a device that hangs is found all the same. The engine that hangs is tests/server/fault_app.c's."""
import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import socket
import time

import pytest

from conftest import ROOT, Server, Stream, model_of, need_binary

APP = os.environ.get("FAULT_APP", os.path.join(ROOT, "build/tests/server/fault_app"))
MARK, SLOW = 4242, 3
LIMIT_MS = 700
ASK = dict(prompt="Once upon a time", temperature=0, ignore_eos=True)
LENGTHS_S = (0.02, 0.15, 0.2, 0.8)  # of stops: some shorter than a quarter of the limit, some longer than all of it


@pytest.fixture
def start(request):
    made = []

    def run(*flags, binary=None):
        need_binary(*([binary] if binary else []))
        made.append(Server(*map(str, flags), model=model_of(request), **({"binary": binary} if binary else {})))
        return made[-1]

    try:
        yield run
    finally:
        for s in made:
            with contextlib.suppress(ProcessLookupError):
                s.proc.send_signal(signal.SIGCONT)
            s.kill()


def pause(server, seconds):
    """Stops it, waits until all its threads stand, and continues it after that long."""
    server.proc.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, server.proc.pid, os.WSTOPPED)
    time.sleep(seconds)
    server.proc.send_signal(signal.SIGCONT)


def test_an_idle_server_lives_through_20_stops(start):
    s = start("--step-timeout-ms", LIMIT_MS, "--health-timeout-ms", 300)
    for i in range(20):
        pause(s, LENGTHS_S[i % len(LENGTHS_S)])
        assert s.get("/health").status_code == 200 and s.get("/ready").status_code == 200
    assert s.complete("a")["choices"] and s.stop() == 0


def test_an_idle_engine_is_not_taken_for_one_that_hangs(start):
    """However short the limits, compared to how often an engine without work looks around."""
    s = start("--step-timeout-ms", 500, "--health-timeout-ms", 100)
    for _ in range(60):
        assert s.get("/health").status_code == 200
        time.sleep(0.05)
    assert s.stop() == 0


@pytest.mark.parametrize("between", [0, 0.1], ids=["at once", "after some steps"])
def test_answers_are_whole_after_20_stops(start, between):
    s = start("--step-timeout-ms", LIMIT_MS, "--max-num-seqs", 4)
    want = s.complete(**ASK, max_tokens=120)["choices"][0]["text"]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        streams = [Stream(s, "/v1/completions", **ASK, max_tokens=120) for _ in range(3)]
        reading = [pool.submit(text_of, x) for x in streams]
        wholes = [pool.submit(s.complete, **ASK, max_tokens=120) for _ in range(3)]  # some of them wait for their turn
        s.wait_metric("fluxd_requests_decoding", lambda v: v > 0)
        for i in range(20):
            pause(s, LENGTHS_S[i % len(LENGTHS_S)])
            time.sleep(between)
        assert [r.result() for r in reading] == [(want, True)] * 3
        assert [w.result()["choices"][0]["text"] for w in wholes] == [want] * 3
    assert s.stop() == 0


def text_of(stream):
    frames = [f for _, f in stream]
    assert not [f for f in frames if "error" in f], frames[-1]
    return "".join(c["text"] for f in frames for c in f["choices"]), stream.done


class Sender:
    """A request on a socket of its own, sent in parts."""

    def __init__(self, server, first):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self.send(first)

    def send(self, data):
        self.socket.sendall(data)

    def status(self):
        r = http.client.HTTPResponse(self.socket)
        r.begin()
        r.read()
        return r.status


@pytest.mark.real_model
def test_no_deadline_passes_while_the_process_stands_still(start):
    """Every one of them is shorter than the stop: of the queue, the first token, progress, the request, headers, body, idle connections and slow readers."""
    ms, stop_s = 5000, 6
    limits = ["step", "queue", "first-token", "progress", "request", "header", "body", "idle"]
    s = start(*[x for name in limits for x in (f"--{name}-timeout-ms", ms)], "--write-stall-ms", ms, "--max-num-seqs", 1)
    body = json.dumps({"prompt": "Hello", "max_tokens": 2}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    with concurrent.futures.ThreadPoolExecutor(4) as pool, Stream(s, "/v1/completions", **ASK, max_tokens=20) as runs:
        frames = iter(runs)
        next(frames)
        waits = pool.submit(s.post, "/v1/completions", {**ASK, "max_tokens": 2})
        idle = Sender(s, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.status() == 200
        headers, upload = Sender(s, head), Sender(s, head + b"\r\n" + body[:5])
        s.wait_metric("fluxd_http_connections", lambda v: v >= 5)
        pause(s, stop_s)
        headers.send(b"\r\n" + body)
        upload.send(body[5:])
        idle.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sum(1 for _ in frames) > 5 and runs.done
        assert waits.result().status_code == 200
        assert [x.status() for x in (headers, upload, idle)] == [200] * 3
    assert s.stop() == 0


@pytest.mark.real_model
def test_draining_goes_on_after_a_stop(start):
    s = start("--drain-timeout-ms", 5000)
    with Stream(s, "/v1/completions", **ASK, max_tokens=20) as x:
        frames = iter(x)
        next(frames)
        s.proc.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        pause(s, 6)
        assert sum(1 for _ in frames) > 10 and x.done
    assert s.proc.wait(60) == 0


@pytest.mark.parametrize("n_stop", [1, 5, 20])
def test_a_step_that_never_ends_is_found_after_stops(start, n_stop):
    s = start("--step-timeout-ms", LIMIT_MS, binary=APP)
    with Stream(s, "/v1/completions", prompt=[MARK, MARK, SLOW, 10000, 5], max_tokens=40, temperature=0, ignore_eos=True) as x, \
            concurrent.futures.ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: [f for _, f in x])
        s.wait_metric("fluxd_requests_decoding", 1)
        for i in range(n_stop):
            pause(s, LENGTHS_S[-1 - i % 3])
        assert s.proc.wait(60) == 70
        frames = reading.result()
    assert frames[-1]["error"]["code"] == "device_failure" and not x.done
    assert "the engine hangs" in s.logged()
