"""What request bodies may hold: small ones always have room, large ones share theirs by client, and all of it comes back.

Against tests/server/http_app, as in test_http.py. /count tells the bytes that bodies hold, a closing NUL of each among them.
"""
import os
import socket
import time

import pytest

from test_http import H, JSON, Answer, make_server, post, read_all  # noqa: F401 (a fixture)

SMALL, ALL = 32 << 10, 1 << 20
REFUSED = (503, "overloaded")


def dial(server, source="127.0.0.1"):
    s = socket.socket()
    s.settimeout(15)
    s.bind((source, 0))
    s.connect(("127.0.0.1", server.port))
    return s


def upload(server, came, announced, source="127.0.0.1", key=None, chunked=False):
    """A body that stops in the middle."""
    s = dial(server, source)
    auth = f"Authorization: Bearer {key}\r\n" if key else ""
    size = "Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {announced}\r\n"
    s.sendall(f"POST /wait HTTP/1.1\r\n{H}{JSON}{auth}{size}\r\n".encode())
    s.sendall(b"%x\r\n" % announced + b"x" * came if chunked else b"x" * came)
    return s


def ask(server, n, source="127.0.0.1", key=None):
    """The status of a whole body of n bytes, and the error's code."""
    with dial(server, source) as s:
        s.sendall(post("/echo", b"y" * n, f"Authorization: Bearer {key}\r\n" if key else ""))
        a = Answer(read_all(s))
        return (200, None) if a.status == 200 and a.body == b"y" * n else (a.status, a.error())


def roomy(make_server, **more):
    return make_server(**{"max_body": ALL // 4, "max_bodies": ALL, "small_body": SMALL, **more})


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("came", [SMALL - 1, SMALL, ALL // 8 + 1, ALL // 4 - 1])
def test_what_is_announced_does_not_count_and_what_came_does(make_server, chunked, came):
    """As many uploads as fit by what came of them; however large they say they will be, the pool has that room and no more."""
    s = roomy(make_server, client_bodies=ALL)
    fit = ALL // (came + 1) if came + 1 > SMALL else 64
    held = [upload(s, came, ALL // 4, chunked=chunked) for _ in range(fit)]
    s.wait_count(body_bytes=fit * (came + 1))
    if came + 1 > SMALL:
        left = ALL - fit * (came + 1)
        assert ask(s, max(left, SMALL)) == REFUSED
        if left > SMALL:
            assert ask(s, left - 1)[0] == 200
    assert ask(s, SMALL - 1)[0] == 200
    for c in held:
        c.close()
    s.wait_count(body_bytes=0)


@pytest.mark.parametrize("key", [None, "first-key"], ids=["by address", "by key"])
def test_stopped_uploads_leave_small_bodies_and_other_clients_alone(make_server, key):
    s = roomy(make_server, keys=2 if key else 0)
    held = [upload(s, ALL // 4 - 1, ALL // 4, key=key) for _ in range(8)]
    s.wait_count(body_bytes=ALL // 2)
    for n in (0, 1, 1000, SMALL - 1):
        assert ask(s, n, key=key)[0] == 200
    assert ask(s, SMALL, key=key) == REFUSED
    if key:
        assert ask(s, ALL // 4, key="second-key")[0] == 200, "another key at the same address"
        assert ask(s, SMALL, "127.0.0.2", key) == REFUSED, "the same key from another address"
    else:
        assert ask(s, ALL // 4, "127.0.0.2")[0] == 200
    for c in held:
        c.close()
    s.wait_count(body_bytes=0)
    assert ask(s, ALL // 4, key=key)[0] == 200


def test_many_clients_share_what_there_is(make_server):
    """Beyond its share nobody gets more; beyond the sum of all nobody does, and a client's going makes room."""
    s = roomy(make_server, client_bodies=ALL // 4 + 1)
    held = {f"127.0.0.{i}": upload(s, ALL // 4 - 1, ALL // 4, f"127.0.0.{i}") for i in range(2, 6)}
    s.wait_count(body_bytes=ALL)
    assert ask(s, SMALL, "127.0.0.6") == REFUSED and ask(s, SMALL - 1, "127.0.0.6")[0] == 200
    held["127.0.0.3"].close()
    s.wait_count(body_bytes=ALL * 3 // 4)
    assert ask(s, ALL // 4 - 1, "127.0.0.6")[0] == 200
    assert ask(s, SMALL, "127.0.0.2") == REFUSED
    for c in held.values():
        c.close()
    s.wait_count(body_bytes=0)


def test_bytes_come_back_however_a_body_ends(make_server):
    s = roomy(make_server, body_ms=300)
    late = upload(s, ALL // 8, ALL // 4)                                   # the deadline ends it
    gone = upload(s, ALL // 8, ALL // 4)
    gone.close()                                                           # its client leaves
    big = b"%x\r\n" % (1 << 19) + b"x" * (1 << 19)                         # too large, which shows in its middle
    with dial(s) as c:
        c.sendall(f"POST /echo HTTP/1.1\r\n{H}{JSON}Transfer-Encoding: chunked\r\n\r\n".encode() + big)
        assert Answer(read_all(c)).status == 413
    with dial(s) as c:                                                     # a chunk that is none
        c.sendall(f"POST /echo HTTP/1.1\r\n{H}{JSON}Transfer-Encoding: chunked\r\n\r\n".encode() + b"ffff\r\n" + b"x" * 0xffff + b"zz\r\n")
        assert Answer(read_all(c)).status == 400
    assert Answer(read_all(late)).status == 408
    s.wait_count(body_bytes=0, calls=0)
    waits = upload(s, ALL // 8, ALL // 8)                                  # whole, with a handler that keeps it
    s.wait_count(body_bytes=ALL // 8 + 1, calls=1)
    waits.close()
    s.wait_count(body_bytes=0, calls=0)


def test_a_body_of_single_bytes_counts_as_any_other(make_server):
    s = roomy(make_server)
    n = SMALL + 100
    with dial(s) as c:
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        c.sendall(f"POST /wait HTTP/1.1\r\n{H}{JSON}Transfer-Encoding: chunked\r\n\r\n".encode())
        for i in range(0, n, 50):
            c.sendall(b"1\r\nx\r\n" * min(50, n - i))
        s.wait_count(body_bytes=n + 1)
    s.wait_count(body_bytes=0)


def resident(server):
    with open(f"/proc/{server.proc.pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_stays_within_what_the_bodies_may_hold(make_server):
    """Bodies up to every bound at once. Their memory is a quarter larger at most, beside one that is being moved, 1 KiB for
    each, and what a connection has of its own."""
    all_, n_small = 64 << 20, 400
    s = make_server(max_body=8 << 20, max_bodies=all_, small_body=SMALL)
    assert ask(s, 8 << 20)[0] == 200
    before = resident(s)
    held = [upload(s, (8 << 20) - 1, 8 << 20, f"127.0.0.{2 + i % 3}") for i in range(24)]
    held += [upload(s, SMALL - 1, 8 << 20) for _ in range(n_small)]
    s.wait_count(body_bytes=all_ + n_small * SMALL)
    time.sleep(0.2)
    of_connections = len(held) * (100 << 10)
    bodies = (all_ + n_small * SMALL) * 5 // 4 + len(held) * 1024
    assert all_ // 2 < resident(s) - before < bodies + (8 << 20) + of_connections
    for c in held:
        c.close()
    s.wait_count(body_bytes=0)
