"""A crowd of clients whose headers come byte by byte, and another client beside it, in one run."""
import resource
import socket
import statistics
import time

from conftest import REAL, Server, seconds_of

CLIENTS, ROUNDS = 2000, 6
OF_ONE_BYTES = 16 << 10  # what a connection may hold before its headers are whole


def test_slow_headers_leave_other_clients_alone():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    s = Server(model=REAL)

    def chat():
        return seconds_of(lambda: s.chat("hi", max_tokens=2))

    def resident():
        with open(f"/proc/{s.proc.pid}/statm") as f:
            return int(f.read().split()[1]) * resource.getpagesize()

    chat()
    alone, before, crowd = statistics.median(chat() for _ in range(7)), resident(), []
    for _ in range(CLIENTS):
        crowd.append(socket.create_connection(("127.0.0.1", s.port)))
    beside = []
    for byte in b"GET /h"[:ROUNDS]:
        for c in crowd:
            c.send(bytes([byte]))
        beside.append(chat())
        time.sleep(0.1)
    assert s.metrics()["fluxd_http_connections"] >= CLIENTS
    assert statistics.median(beside) < 3 * alone
    assert resident() - before < CLIENTS * OF_ONE_BYTES
    for c in crowd:
        c.close()
    s.stop()
