"""One client that holds what a server has little of, and another client's short chat beside it, in turns within one run: room for
bodies, descriptors, connections. Long texts and answers are in test_text.py, slow headers in test_slow_headers.py."""
import contextlib
import itertools
import os
import resource
import socket
import statistics
import threading

import pytest

from conftest import REAL, Server, need_binary, seconds_of, wait_until

ROUNDS, CHATS = 3, 3
FILES = 256
OF_ONE_BYTES = 16 << 10  # what a connection without a request may hold


@pytest.fixture
def start():
    made = []

    def run(*flags, **more):
        need_binary()
        made.append(Server(*map(str, flags), model=REAL, **more))
        return made[-1]

    try:
        yield run
        assert made[-1].stop() == 0
    finally:
        for s in made:
            s.kill()


def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


def n_files(server):
    return len(os.listdir(f"/proc/{server.proc.pid}/fd"))


def resident(server):
    with open(f"/proc/{server.proc.pid}/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def in_turns(server, attack):
    """Chats without and with the attack by turns, so that what else the machine does meets both alike. Returns the bytes that came at most."""
    def chats():
        return [seconds_of(lambda: server.chat("hi", max_tokens=2)) for _ in range(CHATS)]

    chats()
    alone, beside, before, peak = [], [], resident(server), 0
    for _ in range(ROUNDS):
        alone += chats()
        with attack(server):
            beside += chats()
            peak = max(peak, resident(server))
    print(f"alone {statistics.median(alone):.3f} s, beside {statistics.median(beside):.3f} s, {(peak - before) >> 10} KiB more")
    assert statistics.median(beside) <= 3 * statistics.median(alone), (alone, beside)
    return peak - before


def body_bytes(server):
    return server.metrics()["fluxd_http_body_bytes"]


@contextlib.contextmanager
def stopped_uploads(server, n=8, came=(4 << 20) + 8, announced=8_250_000):
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {announced}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(n):
            s = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            with contextlib.suppress(OSError):  # beyond the client's share: 503 while it is sent
                s.sendall(head + b" " * came)
        wait_until(lambda: body_bytes(server) > 3 * came)
        yield
    wait_until(lambda: body_bytes(server) == 0)


def test_uploads_that_stop_leave_other_requests_alone(start):
    s = start("--max-body-bytes", "8M", "--max-bodies-bytes", "64M")
    most = ((64 << 20) + 8 * (32 << 10)) * 5 // 4 + (8 << 20)
    assert in_turns(s, stopped_uploads) <= most


@contextlib.contextmanager
def refusals(server):
    """Bad requests on sockets that stay open, more of them than the server has descriptors."""
    stop, held, n = threading.Event(), [], [0]

    def flood():
        while not stop.is_set():
            with contextlib.suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", server.port), timeout=5))
                held[-1].sendall(b"BAD\x01\r\n")
                n[0] += 1
            while len(held) > 3 * FILES:
                held.pop(0).close()
            stop.wait(0.001)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        wait_until(lambda: n_files(server) > FILES * 3 // 4 or n[0] > 3 * FILES)
        yield
    finally:
        stop.set()
        thread.join()
        for s in held:
            s.close()


def test_refused_sockets_leave_other_requests_alone(start):
    s = start(preexec_fn=few_files)
    assert in_turns(s, refusals) <= 2 * FILES * OF_ONE_BYTES
    assert s.metrics()["fluxd_http_connections_refused_total"] > 2 * FILES


@contextlib.contextmanager
def idle_connections(server):
    """As many as the server may have, and some more: half of them bring a request first."""
    with contextlib.ExitStack() as stack:
        for i in range(2 * FILES):
            s = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            if i % 2:
                s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert s.recv(4096).startswith(b"HTTP/1.1 200")
        yield


@pytest.mark.parametrize("flags,more", [(["--max-connections", FILES], {}), ([], {"preexec_fn": few_files})], ids=["connections", "descriptors"])
def test_idle_connections_leave_other_requests_alone(start, flags, more):
    s = start(*flags, **more)
    in_turns(s, idle_connections)
    assert s.metrics()["fluxd_http_connections_evicted_total"] >= FILES


@contextlib.contextmanager
def unfinished_requests(server):
    """More beginnings of requests than the server has places, which come again where they are closed, a byte more of each now and then."""
    post = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    kinds = [b"G", b"GET /health HTTP/1.1\r\n", post + b"Content-Length: 999\r\n\r\n", post + b"Transfer-Encoding: chunked\r\n\r\n20\r\n{", b""]
    stop, held = threading.Event(), []

    def begin(i):
        s = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        s.sendall(kinds[i % len(kinds)])
        s.setblocking(False)
        return s

    def is_closed(s):
        try:
            return s.recv(4096) == b"" or is_closed(s)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def go_on():
        for i in itertools.cycle(range(2 * FILES)):
            if stop.wait(0.001):
                return
            if is_closed(held[i]):
                held[i].close()
                held[i] = begin(i)
            elif i % len(kinds) > 1:
                with contextlib.suppress(OSError):
                    held[i].send(b" ")

    held += [begin(i) for i in range(2 * FILES)]
    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for s in held:
            s.close()


@pytest.mark.parametrize("flags,more", [(["--max-connections", 50], {}), ([], {"preexec_fn": few_files})], ids=["connections", "descriptors"])
def test_unfinished_requests_leave_other_requests_alone(start, flags, more):
    s = start(*flags, **more)
    in_turns(s, unfinished_requests)
    assert s.metrics()["fluxd_http_connections_evicted_total"] >= FILES
