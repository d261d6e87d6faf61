"""Where one request ends and the next begins: every rule, on every request of a connection, however its bytes come.

The table of the first request's refusals is test_http's. Here each of its rows comes as the 1st to 5th request, together
with the good ones before it in one segment, and cut at every byte; behind it stands a request that nobody may answer.
"""
import re
import select
import socket

import pytest
from test_http import H, JSON, MALFORMED, Answer, make_server, read_all, server  # noqa: F401 (fixtures)

GOOD = f"GET /hello HTTP/1.1\r\n{H}\r\n".encode()
WITH_BODY = f"POST /echo HTTP/1.1\r\n{H}{JSON}Content-Length: 4\r\n\r\nbody".encode()
CHUNKED = f"POST /echo HTTP/1.1\r\n{H}{JSON}Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nch\r\n03\r\nunk\r\n0\r\nX-T: 1\r\n\r\n".encode()
BEFORE = [GOOD, WITH_BODY, CHUNKED, GOOD]
SMUGGLED = f"GET /id/smuggled HTTP/1.1\r\n{H}\r\n".encode()


def chunks(text):
    return f"POST /echo HTTP/1.1\r\n{H}{JSON}Transfer-Encoding: chunked\r\n\r\n{text}"


BAD_CHUNKS = [
    ("letters", "zz\r\nab\r\n0\r\n\r\n", 400), ("minus", "-2\r\nab\r\n0\r\n\r\n", 400), ("0x", "0x2\r\nab\r\n0\r\n\r\n", 400),
    ("empty size", "\r\nab\r\n0\r\n\r\n", 400), ("space before", " 2\r\nab\r\n0\r\n\r\n", 400), ("space behind", "2 \r\nab\r\n0\r\n\r\n", 400),
    ("only an extension", ";a\r\nab\r\n0\r\n\r\n", 400), ("size over 2^64", "f" * 18 + "\r\nab", 413), ("size over 2^63", "f" * 16 + "\r\nab", 413),
    ("longer than its size", "2\r\nabXX\r\n0\r\n\r\n", 400), ("shorter than its size", "3\r\nab\r\n0\r\n\r\n", 400),
    ("bare LF behind the size", "2\nab\r\n0\r\n\r\n", 400), ("bare LF behind the data", "2\r\nab\n0\r\n\r\n", 400),
    ("bare LF in an extension", "2;a\nab\r\n0\r\n\r\n", 400), ("bare CR in an extension", "2;a\rb\r\nab\r\n0\r\n\r\n", 400),
    ("NUL in an extension", "2;a\0b\r\nab\r\n0\r\n\r\n", 400), ("bare LF ends it", "2\r\nab\r\n0\n\n", 400), ("bare LF behind 0", "2\r\nab\r\n0\n\r\n", 400),
    ("trailer without colon", "2\r\nab\r\n0\r\nnonsense\r\n\r\n", 400), ("folded trailer", "2\r\nab\r\n0\r\nA: b\r\n c\r\n\r\n", 400),
    ("bare LF in a trailer", "2\r\nab\r\n0\r\nA: b\n\r\n", 400), ("length in a trailer", "2\r\nab\r\n0\r\nContent-Length: 5\r\n\r\n", 400),
    ("coding in a trailer", "2\r\nab\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", 400), ("host in a trailer", "2\r\nab\r\n0\r\nHost: b\r\n\r\n", 400),
    ("trailer of 20 KiB", f"2\r\nab\r\n0\r\nA: {'b' * 20000}\r\n\r\n", 431), ("extension of 20 KiB", f"2;{'b' * 20000}\r\nab\r\n0\r\n\r\n", 400),
]
ROWS = [(what, request.encode("latin-1"), status, code) for what, request, status, code in MALFORMED]
ROWS += [("chunk: " + what, chunks(text).encode("latin-1"), status, {413: "request_too_large", 431: "headers_too_large"}.get(status, "invalid_request"))
         for what, text, status in BAD_CHUNKS]
SHORT = [row for row in ROWS if len(row[1]) <= 400]
IDS = [row[0] for row in ROWS]


def answers(raw):
    """The final answers in a stream of bytes; all of it must be answers."""
    out = []
    while raw:
        m = re.match(rb"HTTP/1\.1 (\d+) .*?\r\n\r\n", raw, re.S)
        assert m, raw[:200]
        n = re.search(rb"\r\nContent-Length: (\d+)\r\n", m.group(0))
        end = m.end() + (int(n.group(1)) if n else 0)
        assert len(raw) >= end
        if m.group(1) != b"100":
            out.append(Answer(raw[:end]))
        raw = raw[end:]
    return out


def check(raw, n_before, status, code):
    got = answers(raw)
    assert [a.status for a in got] == [200] * n_before + [status], raw[:2000]
    assert [a.body for a in got[:-1]] == [b"hello\n", b"body", b"chunk", b"hello\n"][:n_before]
    assert got[-1].error() == code and got[-1].headers.get("connection", "").lower() == "close"


@pytest.mark.parametrize("n_before", range(5))
@pytest.mark.parametrize("what,request_bytes,status,code", ROWS, ids=IDS)
def test_every_request_of_a_connection_passes_the_same_rules(server, what, request_bytes, status, code, n_before):
    with server.connect() as s:
        s.sendall(b"".join(BEFORE[:n_before]) + request_bytes + SMUGGLED)
        check(read_all(s), n_before, status, code)


@pytest.mark.parametrize("n_before", [0, 1, 3])
@pytest.mark.parametrize("what,request_bytes,status,code", SHORT, ids=[row[0] for row in SHORT])
def test_refusals_are_the_same_cut_at_every_byte(server, what, request_bytes, status, code, n_before):
    """A connection for each place of the cut. The second half follows once every first half has been looked at."""
    held = []
    for cut in range(len(request_bytes)):
        s = server.connect()
        s.sendall(b"".join(BEFORE[:n_before]) + request_bytes[:cut])
        held.append((s, request_bytes[cut:] + SMUGGLED))
    server.count()
    for s, rest in held:
        try:
            s.sendall(rest)
        except OSError:
            pass  # refused early: the answer is there
    for s, _ in held:
        check(read_all(s), n_before, status, code)
        s.close()


def test_refusals_are_the_same_byte_by_byte(server):
    held = [(server.connect(), bytes(BEFORE[0] + BEFORE[2] + row[1] + SMUGGLED), row) for row in SHORT]
    for i in range(max(len(data) for _, data, _ in held)):
        for s, data, _ in held:
            try:
                s.send(data[i:i + 1])
            except OSError:
                pass
        if i % 8 == 0:
            server.count()
    for s, _, (_, _, status, code) in held:
        raw = read_all(s)
        got = answers(raw)
        assert [a.status for a in got] == [200, 200, status] and got[-1].error() == code, raw
        s.close()


def test_good_requests_are_answered_however_they_are_cut(server):
    stream = b"".join(BEFORE) * 3 + GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    held = []
    for cut in range(0, len(stream), 3):
        s = server.connect()
        s.sendall(stream[:cut])
        held.append((s, stream[cut:]))
    server.count()
    for s, rest in held:
        s.sendall(rest)
    for s, _ in held:
        assert [a.body for a in answers(read_all(s))] == [b"hello\n", b"body", b"chunk", b"hello\n"] * 3 + [b"hello\n"]
        s.close()


@pytest.mark.parametrize("size", [1, 16, 40, 100, 400])
@pytest.mark.parametrize("n_before", [0, 1])
def test_a_block_in_many_small_packets_is_a_block_like_any_other(server, size, n_before):
    """The kernel counts a packet with all its memory: those of one large header block fill the socket's queue many times before its bytes do."""
    fill = "".join(f"X-{i}: {'y' * 1500}\r\n" for i in range(10))
    for block, status in (f"GET /hello HTTP/1.1\r\n{H}{fill}\r\n", 200), (f"GET /hello HTTP/1.1\r\n{H}{fill * 2}\r\n", 431):
        with server.connect() as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.sendall(GOOD * n_before)
            data = block.encode()
            try:
                for at in range(0, len(data), size):
                    s.send(data[at:at + size], socket.MSG_EOR)  # a packet of its own, whatever waits beside it
                s.sendall(WITH_BODY + GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            except OSError:
                assert status != 200  # refused before its end
            got = [a.status for a in answers(read_all(s))]
        assert got == [200] * n_before + ([200] * 3 if status == 200 else [status]), (block[:20], got)


def test_a_refused_request_waits_for_the_answers_before_it(server):
    """The request before it is answered later, by the loop: the refusal does not overtake it."""
    later = WITH_BODY.replace(b"/echo", b"/later")
    bad = f"POST /echo HTTP/1.1\r\n{H}Content-Length: 1\r\nContent-Length: 0\r\n\r\nx".encode()
    with server.connect() as s:
        s.sendall(later + later + bad + SMUGGLED)
        got = answers(read_all(s))
    assert [a.status for a in got] == [200, 200, 400] and got[0].body == b"body"


def test_a_folded_length_smuggles_nothing(server):
    inner = f"GET /id/inner HTTP/1.1\r\n{H}\r\n".encode()
    for fold in (b" ", b"\t"):
        for head in (b"Content-Length:\r\n" + fold + b"%d\r\n" % len(inner), b"X: y\r\n" + fold + b"Content-Length: %d\r\n" % len(inner)):
            with server.connect() as s:
                s.sendall(GOOD + b"POST /echo HTTP/1.1\r\n" + H.encode() + head + b"\r\n" + inner)
                got = answers(read_all(s))
            assert [a.status for a in got] == [200, 400]


def test_bodies_of_many_sizes_are_whole_between_other_requests(server):
    """More than the library reads at once, and cuts at odd places: bodies, blocks and chunks of 1 byte to 200 KB."""
    sizes = [1, 100, 5000, 16384, 40000, 41000, 70000, 200000, 0, 3]
    stream, want = b"", []
    for i, n in enumerate(sizes):
        body = bytes((i + j) % 251 for j in range(n))
        stream += GOOD + f"POST /echo HTTP/1.1\r\n{H}{JSON}Content-Length: {n}\r\n\r\n".encode() + body
        parts = b"".join(b"%x\r\n%s\r\n" % (len(body[j:j + 977]), body[j:j + 977]) for j in range(0, n, 977))
        stream += chunks("").encode() + parts + b"0\r\n\r\n"
        want += [b"hello\n", body, body]
    stream += GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    for step in (len(stream), 1 << 16, 4099, 1021):
        with server.connect() as s:
            s.setblocking(False)
            raw, at = b"", 0
            while True:
                can_read, can_write, _ = select.select([s], [s] if at < len(stream) else [], [], 60)
                assert can_read or can_write, "it neither reads nor answers"
                if can_write:
                    at += s.send(stream[at:at + step])
                if can_read:
                    part = s.recv(1 << 18)
                    if not part:
                        break
                    raw += part
        assert [a.body for a in answers(raw)] == want + [b"hello\n"]


@pytest.mark.parametrize("before", [b"", GOOD, GOOD + CHUNKED + GOOD])
def test_the_deadline_for_headers_holds_for_every_request(make_server, before):
    """Idle time is far longer: only the deadline of a header block can end this."""
    s = make_server(header_ms=300, idle_ms=600000)
    with s.connect() as c:
        c.sendall(before + b"GET /hello HTTP/1.1\r\n")
        raw = read_all(c)
    with s.connect() as c:  # the beginning comes when all before it is answered
        c.sendall(before)
        while before and not c.recv(1 << 16).endswith(b"hello\n"):
            pass
        c.sendall(b"G")
        late = read_all(c)
    for got in (answers(raw), answers(late)):
        assert got[-1].status == 408 and got[-1].error() == "request_timeout"
    assert [a.status for a in answers(raw)[:-1]] == [200] * {0: 0, len(GOOD): 1}.get(len(before), 3)


EXPECTATIONS = ["Expect: 100-continue", "Expect: 100-continue ", "Expect: 100-continue\t", "Expect:\t 100-Continue \t ", "expect:100-CONTINUE",
                "Expect: 100-continue\r\nExpect: 100-continue", "Expect: 100-continue \r\nExpect: 100-continue"]
OTHER_EXPECTATIONS = ["Expect: 100-continue, 100-continue", "Expect: 100-continue;a=b", "Expect: x, 100-continue", "Expect:", "Expect: 100-continu",
                      "Expect: 100-continue\r\nExpect: x", "Expect: 100-continue x"]


def upload(expectation, version="1.1", coding="Content-Length: 4"):
    return f"POST /echo HTTP/{version}\r\n{H}{JSON}{expectation}\r\n{coding}\r\n\r\n".encode()


@pytest.mark.parametrize("n_before", range(5))
def test_who_waits_for_a_100_gets_it_however_it_is_written(server, n_before):
    for expectation in EXPECTATIONS:
        for coding, body in ("Content-Length: 4", b"body"), ("Transfer-Encoding: chunked", b"4\r\nbody\r\n0\r\n\r\n"):
            with server.connect() as s:
                s.sendall(b"".join(BEFORE[:n_before]) + upload(expectation, coding=coding))
                raw = b""
                while not raw.endswith(b"100 Continue\r\n\r\n"):
                    assert (got := s.recv(4096)), (expectation, raw)
                    raw += got
                s.sendall(body + GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                raw += read_all(s)
            assert raw.count(b"100 Continue") == 1
            assert [a.body for a in answers(raw)][n_before:] == [b"body", b"hello\n"], (expectation, raw)


@pytest.mark.parametrize("n_before", range(5))
def test_other_expectations_are_refused(server, n_before):
    for expectation in OTHER_EXPECTATIONS:
        with server.connect() as s:
            s.sendall(b"".join(BEFORE[:n_before]) + upload(expectation) + b"body" + SMUGGLED)
            check(read_all(s), n_before, 417, "expectation_failed")


def test_http_10_knows_no_100(server):
    for expectation in EXPECTATIONS:
        with server.connect() as s:
            s.sendall(upload(expectation, version="1.0") + b"body")
            raw = read_all(s)
        assert raw.startswith(b"HTTP/1.1 200") and raw.endswith(b"body") and b"100 Continue" not in raw


def test_a_refused_upload_gets_no_100(server):
    for expectation in EXPECTATIONS:
        with server.connect() as s:
            s.sendall(upload(expectation).replace(b"/echo", b"/nowhere"))
            raw = read_all(s)
        assert raw.startswith(b"HTTP/1.1 404") and b"100 Continue" not in raw


@pytest.mark.parametrize("n_before", range(5))
def test_trailers_count_with_the_headers(server, n_before):
    lines = "".join(f"X-{i}: y\r\n" for i in range(300))
    for text, status, code in [("0\r\n" + lines + "\r\n", 431, "headers_too_large"), ("0\r\nx-api-key: k\r\n\r\n", 400, "invalid_request"),
                               ("2\r\nab\r\n0\r\nAuthorization: Bearer k\r\n\r\n", 400, "invalid_request"), ("0\r\nCookie: a\r\n\r\n", 400, "invalid_request")]:
        with server.connect() as s:
            s.sendall(b"".join(BEFORE[:n_before]) + chunks(text).encode() + SMUGGLED)
            check(read_all(s), n_before, status, code)
