"""The network floor, by raw sockets: what a hostile or broken client sends, and what it must get.

It runs against tests/server/http_app (the floor with test handlers), built by `make build/tests/server/http_app`, or the
program that HTTP_APP names. HTTP_APP may be a sanitizer build: a report makes the process fail, and with it the test.
"""
import concurrent.futures
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import time

import pytest

from conftest import processor_s, wait_until

APP = os.environ.get("HTTP_APP", os.path.join(os.path.dirname(__file__), "../../build/tests/server/http_app"))
KEYS = ("message", "type", "param", "code")
PATIENCE_S = 120  # only ends a test that hangs
H = "Host: x\r\n"
JSON = "Content-Type: application/json\r\n"
GOOD_GET = f"GET /hello HTTP/1.1\r\n{H}\r\n".encode()


class Server:
    def __init__(self, **settings):
        self.proc = subprocess.Popen([APP] + [f"{k}={v}" for k, v in settings.items()], stdout=subprocess.PIPE)
        self.port = int(self.proc.stdout.readline().split()[1])

    def connect(self, rcvbuf=None):
        s = socket.socket()
        if rcvbuf:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        s.settimeout(PATIENCE_S)
        s.connect(("127.0.0.1", self.port))
        return s

    def count(self):
        r = self.ask(f"GET /count HTTP/1.1\r\n{H}Connection: close\r\n\r\n")
        return {k: int(v) for k, v in (w.split("=") for w in r.body.decode().split())}

    def ask(self, request, timeout=PATIENCE_S):
        """Sends, reads to the end, gives the last answer."""
        with self.connect() as s:
            s.settimeout(timeout)
            try:
                s.sendall(request if isinstance(request, bytes) else request.encode("latin-1"))
            except OSError:
                pass
            return Answer(read_all(s))

    def wait_count(self, **want):
        got = {}

        def look():
            got.update(self.count())
            return all(got[k] == v for k, v in want.items())

        wait_until(look, lambda: f"{got} is not {want}")
        return got

    def stop(self):
        self.proc.send_signal(signal.SIGTERM)
        assert self.proc.wait(PATIENCE_S) == 0


def read_all(s):
    out = b""
    while True:
        try:
            part = s.recv(1 << 16)
        except ConnectionResetError:
            return out
        if not part:
            return out
        out += part


class Answer:
    def __init__(self, raw):
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        m = re.match(r"HTTP/1\.[01] (\d+)", lines[0])
        self.status = int(m.group(1)) if m else None
        self.headers = {k.lower(): v.strip() for k, v in (x.split(":", 1) for x in lines[1:] if ":" in x)}

    def error(self):
        e = json.loads(self.body)
        assert list(e) == ["error"] and sorted(e["error"]) == sorted(KEYS), e
        assert isinstance(e["error"]["message"], str) and e["error"]["message"]
        return e["error"]["code"]


def unchunk(body):
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        n = int(size, 16)
        out += body[:n]
        body = body[n + 2:]
    return out


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    s.stop()


@pytest.fixture
def make_server():
    made = []

    def make(**settings):
        made.append(Server(**settings))
        return made[-1]

    yield make
    for s in made:
        s.stop()


def get(path, extra="", host=H):
    return f"GET {path} HTTP/1.1\r\n{host}{extra}Connection: close\r\n\r\n"


def post(path, body, extra="", length=None):
    n = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\n{H}{JSON}Content-Length: {n}\r\n{extra}Connection: close\r\n\r\n"
    return head.encode() + body


# --- class A: each input with its status

MALFORMED = [
    ("space in the target", f"GET /hel lo HTTP/1.1\r\n{H}Connection: close\r\n\r\n", 400, "invalid_request"),
    ("control characters in the target", f"GET /hello\x01\x1b[31m HTTP/1.1\r\n{H}Connection: close\r\n\r\n", 400, "invalid_request"),
    ("byte 0xff in the target", f"GET /id/\xff HTTP/1.1\r\n{H}Connection: close\r\n\r\n", 400, "invalid_request"),
    ("two equal Content-Length", f"POST /echo HTTP/1.1\r\n{H}Content-Length: 2\r\nContent-Length: 2\r\n\r\nab", 400, "invalid_request"),
    ("two differing Content-Length", f"POST /echo HTTP/1.1\r\n{H}Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", 400, "invalid_request"),
    ("Content-Length: 2, 2", f"POST /echo HTTP/1.1\r\n{H}Content-Length: 2, 2\r\n\r\nab", 400, "invalid_request"),
    ("Content-Length: +2", f"POST /echo HTTP/1.1\r\n{H}Content-Length: +2\r\n\r\nab", 400, "invalid_request"),
    ("Content-Length: -2", f"POST /echo HTTP/1.1\r\n{H}Content-Length: -2\r\n\r\nab", 400, "invalid_request"),
    ("Content-Length empty", f"POST /echo HTTP/1.1\r\n{H}Content-Length:\r\n\r\nab", 400, "invalid_request"),
    ("Content-Length: 0x2", f"POST /echo HTTP/1.1\r\n{H}Content-Length: 0x2\r\n\r\nab", 400, "invalid_request"),
    ("CL and TE", f"POST /echo HTTP/1.1\r\n{H}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "invalid_request"),
    ("TE gzip", f"POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: gzip\r\n\r\n", 400, "invalid_request"),
    ("TE gzip, chunked", f"POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "invalid_request"),
    ("two TE", f"POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "invalid_request"),
    ("TE xchunked", f"POST /echo HTTP/1.1\r\n{H}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, "invalid_request"),
    ("TE in HTTP/1.0", f"POST /echo HTTP/1.0\r\n{H}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "invalid_request"),
    ("space before colon", f"POST /echo HTTP/1.1\r\n{H}Content-Length : 2\r\n\r\nab", 400, "invalid_request"),
    ("folded header", f"POST /echo HTTP/1.1\r\n{H}X: a\r\n b\r\nContent-Length: 2\r\n\r\nab", 400, "invalid_request"),
    ("NUL in a header", f"GET /hello HTTP/1.1\r\n{H}X: a\0b\r\n\r\n", 400, "invalid_request"),
    ("bare CR in a header", f"GET /hello HTTP/1.1\r\n{H}X: a\rb\r\n\r\n", 400, "invalid_request"),
    ("bare LF lines", "GET /hello HTTP/1.1\nHost: x\n\n", 400, "invalid_request"),
    ("header without colon", f"GET /hello HTTP/1.1\r\n{H}nonsense\r\n\r\n", 400, "invalid_request"),
    ("CL 2^64", f"POST /echo HTTP/1.1\r\n{H}{JSON}Content-Length: 18446744073709551616\r\n\r\n", 413, "request_too_large"),
    ("CL 2^63-1", f"POST /echo HTTP/1.1\r\n{H}{JSON}Content-Length: 9223372036854775807\r\n\r\n", 413, "request_too_large"),
    ("CL 10^60", f"POST /echo HTTP/1.1\r\n{H}{JSON}Content-Length: 1{'0' * 60}\r\n\r\n", 413, "request_too_large"),
    ("no Host", "GET /hello HTTP/1.1\r\n\r\n", 400, "invalid_request"),
    ("two Host", "GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "invalid_request"),
    ("%00 in the path", get("/hello%00x"), 404, "unknown_url"),
    ("%zz in the path", get("/hello%zz"), 404, "unknown_url"),
    ("escaped letter", get("/hell%6f"), 404, "unknown_url"),
    ("//hello", get("//hello"), 404, "unknown_url"),
    ("/id/../hello is an id", get("/x/../hello"), 404, "unknown_url"),
    ("trailing slash", get("/hello/"), 404, "unknown_url"),
    ("star matches nothing", get("/id/"), 404, "unknown_url"),
    ("bad escape in the rest", get("/id/a%zz"), 404, "unknown_url"),
    ("NUL in the rest", get("/id/a%00b"), 404, "unknown_url"),
    ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version_not_supported"),
    ("HTTP/9.9", f"GET /hello HTTP/9.9\r\n{H}\r\n", 505, "http_version_not_supported"),
    ("HTTP/0.9", "GET /hello\r\n", 400, "invalid_request"),
    ("TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "invalid_request"),
    ("random bytes", "\x80\x81\x82\x00\xff\x10" * 50, 400, "invalid_request"),
    ("unknown route", get("/nope"), 404, "unknown_url"),
    ("CL over limit, Expect", f"POST /echo HTTP/1.1\r\n{H}{JSON}Expect: 100-continue\r\nContent-Length: 9000000\r\n\r\n", 413, "request_too_large"),
    ("Expect: foo", f"POST /echo HTTP/1.1\r\n{H}{JSON}Expect: foo\r\nContent-Length: 2\r\n\r\n", 417, "expectation_failed"),
    ("Expect without a body", f"GET /hello HTTP/1.1\r\n{H}Expect: 100-continue\r\n\r\n", 400, "invalid_request"),
    ("Expect with an empty body", f"POST /echo HTTP/1.1\r\n{H}{JSON}Expect: 100-continue\r\nContent-Length: 0\r\n\r\n", 400, "invalid_request"),
    ("absolute-form", "GET http://x/hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "unknown_url"),
    ("OPTIONS *", f"OPTIONS * HTTP/1.1\r\n{H}Connection: close\r\n\r\n", 404, "unknown_url"),
    ("OPTIONS", f"OPTIONS /echo HTTP/1.1\r\n{H}Connection: close\r\n\r\n", 405, "method_not_allowed"),
    ("unknown method", f"BREW /hello HTTP/1.1\r\n{H}Connection: close\r\n\r\n", 405, "method_not_allowed"),
    ("GET on a POST path", get("/echo"), 405, "method_not_allowed"),
    ("form body", f"POST /echo HTTP/1.1\r\n{H}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\nConnection: close\r\n\r\na=b", 415, "unsupported_media_type"),
    ("gzip body", f"POST /echo HTTP/1.1\r\n{H}{JSON}Content-Encoding: gzip\r\nContent-Length: 3\r\nConnection: close\r\n\r\n\x1f\x8b\x08", 415, "unsupported_media_type"),
    ("space behind a length", f"POST /echo HTTP/1.1\r\n{H}{JSON}Content-Length: 2 \r\nConnection: close\r\n\r\nab", 400, "invalid_request"),
    ("space behind a coding", f"POST /echo HTTP/1.1\r\n{H}{JSON}Transfer-Encoding: chunked \r\n\r\n0\r\n\r\n", 400, "invalid_request"),
    ("tab behind a coding", f"POST /echo HTTP/1.1\r\n{H}{JSON}Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n", 400, "invalid_request"),
    ("header block of 17 KiB", f"GET /hello HTTP/1.1\r\n{H}X: {'a' * 17000}\r\n\r\n", 431, "headers_too_large"),
    ("300 headers", f"GET /hello HTTP/1.1\r\n{H}" + "a:\r\n" * 300 + "\r\n", 431, "headers_too_large"),
    ("300 parameters", f"GET /hello?{'&' * 300} HTTP/1.1\r\n{H}\r\n", 431, "headers_too_large"),
    ("300 cookies", f"GET /hello HTTP/1.1\r\n{H}Cookie: {'a=b;' * 300}\r\n\r\n", 431, "headers_too_large"),
    ("target of 20 KiB", f"GET /{'a' * 20000} HTTP/1.1\r\n{H}\r\n", 431, "headers_too_large"),
]


@pytest.mark.parametrize("what,request_bytes,status,code", MALFORMED, ids=[m[0] for m in MALFORMED])
def test_hostile_requests_get_their_status_and_the_error_object(server, what, request_bytes, status, code):
    a = server.ask(request_bytes)
    assert a.status == status, a.raw[:300]
    assert a.error() == code
    assert b"100 Continue" not in a.raw


@pytest.mark.parametrize("path", ["/", "/nope", "/hello", "/echo", "/wait"])
@pytest.mark.parametrize("lengths", ["1,0", "0,1", "1,1", "5,0", "0,5,0", "1,00", "2,1"])
def test_lengths_that_contradict_each_other_are_refused_on_later_requests(server, lengths, path):
    """Whichever of the lengths the library believes, the bytes behind the headers reach nobody."""
    head = "".join(f"Content-Length: {n}\r\n" for n in lengths.split(","))
    with server.connect() as s:
        s.sendall(f"GET /hello HTTP/1.1\r\n{H}\r\n".encode())
        assert Answer(s.recv(4096)).status == 200
        s.sendall(f"POST {path} HTTP/1.1\r\n{H}{head}\r\n".encode() + get("/hello").encode())
        a = Answer(read_all(s))
    assert (a.status, a.error()) == (400, "invalid_request")
    assert server.ask(get("/hello")).status == 200


def test_allow_names_the_methods(server):
    assert server.ask(get("/echo")).headers["allow"] == "POST"
    assert server.ask(get("/hello").replace("GET", "PUT", 1)).headers["allow"] == "GET, HEAD"


def test_head_is_get_without_a_body(server):
    whole = server.ask(get("/hello"))
    with server.connect() as s:
        s.sendall(f"HEAD /hello HTTP/1.1\r\n{H}\r\n".encode() * 3 + get("/hello").replace("GET", "HEAD", 1).encode())
        raw = read_all(s)
    heads = [Answer(h + b"\r\n\r\n") for h in raw.split(b"\r\n\r\n")[:-1]]
    assert len(heads) == 4 and raw.endswith(b"\r\n\r\n")
    for a in heads:
        assert a.status == 200 and a.headers["content-length"] == str(len(whole.body)) and a.headers["content-type"] == whole.headers["content-type"]
    for path, status in (("/echo", 405), ("/nope", 404)):
        a = server.ask(get(path).replace("GET", "HEAD", 1))
        assert a.status == status and a.body == b"" and int(a.headers["content-length"]) > 0


def test_a_body_of_one_byte_chunks_is_flat(server):
    body = b"1\r\na\r\n" * 3_000_000 + b"0\r\n\r\n"
    a = server.ask(f"POST /echo HTTP/1.1\r\n{H}{JSON}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode() + body)
    assert a.status == 200 and len(a.body) == 3_000_000


def test_a_body_over_the_limit_by_length_is_refused_and_the_client_sees_it(server):
    a = server.ask(post("/echo", b"x" * (9 << 20)))
    assert (a.status, a.error()) == (413, "request_too_large")


def test_a_body_over_the_limit_by_chunks_is_refused_and_the_client_sees_it(server):
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    a = server.ask(f"POST /echo HTTP/1.1\r\n{H}{JSON}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 140 + b"0\r\n\r\n")
    assert (a.status, a.error()) == (413, "request_too_large")


def test_a_body_at_the_limit_passes(make_server):
    s = make_server(max_body=100000)
    a = s.ask(post("/echo", b"x" * 100000))
    assert a.status == 200 and a.body == b"x" * 100000
    assert s.ask(post("/echo", b"x" * 100001)).status == 413


def test_all_bodies_together_are_bounded(make_server):
    s = make_server(max_bodies=300000)
    held = []
    for _ in range(2):
        c = s.connect()
        c.sendall(post("/wait", b"x" * 100000))
        held.append(c)
    s.wait_count(calls=2)
    a = s.ask(post("/echo", b"x" * 100000))
    assert (a.status, a.error()) == (503, "overloaded")
    for c in held:
        c.close()
    s.wait_count(calls=0)
    assert s.ask(post("/echo", b"x" * 100000)).status == 200


def test_continue_is_sent_when_the_body_is_welcome(server):
    with server.connect() as s:
        s.sendall(f"POST /echo HTTP/1.1\r\n{H}{JSON}Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n".encode())
        assert s.recv(100).startswith(b"HTTP/1.1 100 Continue")
        s.sendall(b"ab")
        assert Answer(read_all(s)).body == b"ab"


def test_upgrade_is_ignored(server):
    a = server.ask(get("/hello", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"))
    assert a.status == 200 and a.body == b"hello\n"


def test_http_1_0_is_served(server):
    assert server.ask("GET /hello HTTP/1.0\r\n\r\n").body == b"hello\n"
    a = server.ask(f"POST /stream HTTP/1.0\r\n{JSON}Content-Length: 1\r\n\r\n3")
    assert a.status == 200 and a.body.endswith(b"data: [DONE]\n\n")


def test_keep_alive_serves_many_and_pipelined_requests(server):
    with server.connect() as s:
        for _ in range(20):
            s.sendall(f"GET /hello HTTP/1.1\r\n{H}\r\n".encode())
            assert Answer(s.recv(4096)).body == b"hello\n"
        s.sendall(f"GET /hello HTTP/1.1\r\n{H}\r\n".encode() * 9 + get("/hello").encode())
        assert read_all(s).count(b"hello\n") == 10


def test_the_rest_of_the_path_is_decoded_once(server):
    assert server.ask(get("/id/a%2Fb%2525")).body == b"a/b%25"


def test_every_answer_has_its_own_request_id(server):
    given = "X-Request-Id: mine\r\nX-Request-Id: " + "x" * 9000 + "\r\n"
    ids = {server.ask(get("/hello", given)).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3 and all(re.fullmatch(r"req_[0-9a-f]{16}", i) for i in ids)


# --- slow clients

def trickle(c, text):
    """Byte after byte, until the server says something; what it says."""
    for i in range(len(text)):
        c.send(text[i:i + 1])
        if select.select([c], [], [], 0.05)[0]:
            break
    return Answer(read_all(c))


def test_slow_headers_end_at_the_deadline(make_server):
    """The same bytes at the same pace: one server has no patience for them."""
    short, long = make_server(header_ms=600), make_server(header_ms=10**6)
    text = f"GET /hello HTTP/1.1\r\n{H}Connection: close\r\n\r\n".encode()
    with concurrent.futures.ThreadPoolExecutor(2) as pool, short.connect() as c, long.connect() as d:
        a, b = pool.submit(trickle, c, text), pool.submit(trickle, d, text)
        assert (a.result().status, a.result().error()) == (408, "request_timeout")
        assert b.result().status == 200


def test_a_slow_body_ends_at_the_deadline(make_server):
    short, long = make_server(body_ms=600), make_server(body_ms=10**6)
    text = f"POST /echo HTTP/1.1\r\n{H}{JSON}Content-Length: 40\r\nConnection: close\r\n\r\n".encode()
    with concurrent.futures.ThreadPoolExecutor(2) as pool, short.connect() as c, long.connect() as d:
        c.sendall(text)
        d.sendall(text)
        a, b = pool.submit(trickle, c, b"x" * 40), pool.submit(trickle, d, b"x" * 40)
        assert (a.result().status, a.result().error()) == (408, "request_timeout")
        assert b.result().status == 200 and b.result().body == b"x" * 40


def test_idle_connections_end_at_the_limit(make_server):
    short, long = make_server(idle_ms=400, header_ms=10**6), make_server(idle_ms=10**6, header_ms=10**6)
    with short.connect() as silent, short.connect() as kept, long.connect() as other:
        for c in (kept, other):
            c.sendall(f"GET /hello HTTP/1.1\r\n{H}\r\n".encode())
            assert Answer(c.recv(4096)).status == 200
        assert silent.recv(1) == b"" and kept.recv(1) == b""
        other.sendall(f"GET /hello HTTP/1.1\r\n{H}\r\n".encode())
        assert Answer(other.recv(4096)).status == 200


def test_a_client_that_stops_reading_is_cut(make_server):
    short, long = make_server(stall_ms=800), make_server(stall_ms=10**6)
    with short.connect(rcvbuf=4096) as c, long.connect(rcvbuf=4096) as d:
        d.sendall(post("/stream", b"1000000"))
        long.wait_count(calls=1)
        c.sendall(post("/stream", b"1000000"))
        got = short.wait_count(stalled=1, calls=0)
        assert got["told"] == 1
        assert long.count()["calls"] == 1 and long.count()["stalled"] == 0


def test_a_slow_reader_holds_the_stream_back_and_gets_every_byte(server):
    with server.connect(rcvbuf=8192) as c:
        c.sendall(post("/stream", b"20000"))
        got = b""
        for _ in range(25):
            got += c.recv(512)
            time.sleep(0.02)
        assert server.count()["calls"] == 1 and len(got) < 40000
        got += read_all(c)
    body = unchunk(got.partition(b"\r\n\r\n")[2])
    frames = body.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""] and len(frames) == 20002
    assert all(json.loads(f[6:])["i"] == i for i, f in enumerate(frames[:-2]))
    assert server.count()["rooms"] > 0


def test_a_silent_stream_is_pinged(make_server):
    for ping_ms, pinged in ((200, True), (10**6, False)):
        body = unchunk(make_server(ping_ms=ping_ms).ask(post("/silent", b"1")).body)
        assert (body.count(b": ping\n\n") > 0) == pinged and body.endswith(b"data: [DONE]\n\n")


def test_frames_are_sent_as_they_are_written(make_server):
    """A frame arrives though nothing comes behind it."""
    s = make_server(ping_ms=10**6)
    with s.connect() as c:
        c.sendall(post("/held", b"1"))
        got = b""
        while b"data: {}\n\n" not in got:
            part = c.recv(4096)
            assert part, got
            got += part
        assert s.count()["calls"] == 1


# --- clients that leave

@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("path", ["/wait", "/slow"])
def test_leaving_is_told_once(make_server, path, how):
    s = make_server()
    c = s.connect()
    c.sendall(post(path, b"100000"))
    s.wait_count(calls=1)
    if how == "reset":
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
    assert s.wait_count(calls=0, open=0)["told"] == 1


def test_leaving_in_the_body_leaves_nothing(server):
    before = server.count()
    for _ in range(20):
        with server.connect() as c:
            c.sendall(post("/echo", b"abc", length=1000))
    assert server.wait_count(connections=1)["told"] == before["told"]


def test_many_leave_and_nothing_leaks(server):
    def fds():
        return len(os.listdir(f"/proc/{server.proc.pid}/fd"))

    n_fd = fds()
    for i in range(1500):
        c = server.connect()
        c.sendall(post(["/wait", "/slow", "/echo"][i % 3], b"50"))
        if i % 2:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()
    server.wait_count(calls=0, open=0)
    wait_until(lambda: fds() <= n_fd + 1, lambda: f"{fds()} descriptors, {n_fd} before")


def test_many_streams_at_once_are_whole(server):
    def one(i):
        body = unchunk(server.ask(post("/slow", b"30")).body)
        return body.count(b"data: {") == 30 and body.endswith(b"data: [DONE]\n\n")

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        assert all(pool.map(one, range(100)))


# --- limits of connections

def busy(server, n, whole=True):
    """Connections with requests that are being answered; not whole: also such that are still in the middle of one."""
    head = f"POST /wait HTTP/1.1\r\n{H}{JSON}Content-Length: 2\r\n\r\n".encode()
    held = []
    for i in range(n):
        held.append(server.connect())
        held[-1].sendall(head + b"xx" if whole else [GOOD_GET[:20], head + b"x", head + b"xx", GOOD_GET + head[:20]][i % 4])
        if not whole and i % 4 == 3:
            assert held[-1].recv(4096).endswith(b"hello\n")
    return held


def is_open(s, answers=()):
    """answers: statuses that may stand before the end."""
    s.setblocking(False)
    try:
        got = s.recv(4096)
        assert not got or Answer(got).status in answers, got
        return False
    except BlockingIOError:
        return True
    finally:
        s.settimeout(PATIENCE_S)


def test_over_the_connection_limit_is_503(make_server):
    s = make_server(max_connections=8)
    s.count()
    held = busy(s, 8)
    a = s.ask(get("/hello"))  # taken in their order
    assert (a.status, a.error()) == (503, "overloaded") and a.headers["retry-after"] == "1"
    assert all(map(is_open, held))
    for c in held:
        c.close()
    wait_until(lambda: s.ask(get("/hello")).status == 200)


@pytest.mark.parametrize("asks", [True, False], ids=["between requests", "fresh"])
def test_idle_connections_give_way_to_new_ones_the_longest_idle_first(make_server, asks):
    """However many one client keeps, with requests behind them or none, others are served; those with work are left alone.
    Which kind goes first: tests/server/http/test_room.c and test_give_way.c."""
    s = make_server(max_connections=8)
    held, idle = busy(s, 4, whole=not asks), []
    for i in range(40):
        c = s.connect()
        if asks:
            c.sendall(GOOD_GET)
            assert c.recv(4096).endswith(b"hello\n")
        idle.append(c)
        got = s.count()  # a client of its own
        assert got["connections"] <= 8 and got["refused"] == (0 if asks else got["refused"])
        alive = [is_open(x, answers=() if asks else (503,)) for x in idle]
        assert alive == sorted(alive) and sum(alive) >= min(i + 1, 3)
    got = s.count()
    assert got["evicted"] + got["refused"] >= 37 and all(map(is_open, held))
    if asks:
        held[0].sendall(GOOD_GET[20:])  # what has begun is brought to its end
        assert Answer(held[0].recv(4096)).status == 200
    for c in held + idle:
        c.close()


def test_idle_connections_give_their_descriptors_to_new_ones(make_server):
    s = make_server()
    n = lingering(s)
    subprocess.run(["prlimit", f"--pid={s.proc.pid}", f"--nofile={n + 12}:4096"], check=True)
    held = busy(s, 4)
    idle = []
    for _ in range(60):
        idle.append(s.connect())
        assert s.ask(get("/hello")).status == 200
    assert lingering(s) <= n + 12 and all(map(is_open, held))
    for c in held + idle:
        c.close()


def test_running_out_of_descriptors_pauses_accepting(make_server):
    s = make_server()
    c = s.connect()
    c.sendall(post("/slow", b"300"))
    got = b""

    def spent_on_frames(n):
        nonlocal got
        before, end = processor_s(s.proc), got.count(b"data: {") + n
        while got.count(b"data: {") < end:
            got += c.recv(4096)
        return processor_s(s.proc) - before

    free = spent_on_frames(50)
    n = len(os.listdir(f"/proc/{s.proc.pid}/fd"))
    subprocess.run(["prlimit", f"--pid={s.proc.pid}", f"--nofile={n + 3}:4096"], check=True)
    held = [s.connect() for _ in range(10)]
    spent_on_frames(10)
    assert spent_on_frames(50) < 10 * free  # a spinning loop uses hundreds of times as much
    for h in held:
        h.close()
    assert s.ask(get("/hello")).status == 200
    assert unchunk(Answer(got + read_all(c)).body).endswith(b"data: [DONE]\n\n")


# --- refused sockets that linger

def lingering(server):
    return len(os.listdir(f"/proc/{server.proc.pid}/fd"))


def test_refused_sockets_are_bounded_and_the_oldest_goes_first(make_server):
    s = make_server(max_lingering=5)
    s.count()
    before = lingering(s)
    held = []
    for _ in range(40):
        c = s.connect()
        c.sendall(b"BAD\x01\r\n")
        assert Answer(c.recv(4096)).status == 400
        held.append(c)
        assert lingering(s) <= before + 6
    assert s.ask(get("/hello")).status == 200
    for c in held:
        c.close()


def test_a_flood_of_refusals_leaves_descriptors_for_good_requests(make_server):
    """More refused sockets than descriptors: none of the good requests between them waits for a pause of accepting."""
    s = make_server(max_lingering=1000)
    n = lingering(s)
    subprocess.run(["prlimit", f"--pid={s.proc.pid}", f"--nofile={n + 12}:4096"], check=True)
    held = []
    for i in range(60):
        held.append(s.connect())
        held[-1].sendall(b"BAD\x01\r\n")
        if i % 5 == 0:
            assert s.ask(get("/hello")).status == 200
    assert lingering(s) <= n + 12
    for c in held:
        c.close()


# --- keys

AUTH = [
    ("no key", "", 401), ("right", "Authorization: Bearer first-key\r\n", 200), ("second", "Authorization: Bearer second-key\r\n", 200),
    ("lower case scheme", "Authorization: bearer first-key\r\n", 200), ("upper case scheme", "AUTHORIZATION: BEARER first-key\r\n", 200),
    ("space behind", "Authorization: Bearer first-key \t\r\n", 200), ("only spaces", "Authorization: Bearer   \r\n", 401),
    ("two spaces", "Authorization: Bearer  first-key\r\n", 401), ("no space", "Authorization: Bearerfirst-key\r\n", 401),
    ("prefix", "Authorization: Bearer first-ke\r\n", 401), ("longer", "Authorization: Bearer first-keyx\r\n", 401),
    ("empty", "Authorization: Bearer \r\n", 401), ("basic", "Authorization: Basic first-key\r\n", 401),
    ("two headers", "Authorization: Bearer first-key\r\nAuthorization: Bearer first-key\r\n", 401),
    ("15 KB", f"Authorization: Bearer {'k' * 15000}\r\n", 401), ("high bytes", "Authorization: Bearer \xff\xfe\x80\r\n", 401),
    ("x-api-key", "X-Api-Key: second-key \r\n", 200), ("x-api-key, wrong", "x-api-key: second-ke\r\n", 401), ("x-api-key, empty", "x-api-key: \r\n", 401),
    ("x-api-key twice", "x-api-key: first-key\r\nx-api-key: first-key\r\n", 401), ("x-api-key with a scheme", "x-api-key: Bearer first-key\r\n", 401),
    ("both, Authorization wrong", "Authorization: Bearer no\r\nx-api-key: first-key\r\n", 401), ("both", "Authorization: Bearer first-key\r\nx-api-key: no\r\n", 200),
    ("key in another header", "X-Key: first-key\r\n", 401),
]


@pytest.fixture(scope="module")
def keyed():
    s = Server(keys=2)
    yield s
    s.stop()


@pytest.mark.parametrize("what,header,status", AUTH, ids=[a[0] for a in AUTH])
def test_keys(keyed, what, header, status):
    a = keyed.ask(get("/hello", header))
    assert a.status == status
    if status == 401:
        assert a.error() == "invalid_api_key" and a.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/hello%00", "/hello%zz", "//hello", "/open/../hello", "/hello/", "/hell%6f", "/open%2f..%2fhello", "/nope", "/id/x",
                                  "/hello?x=/open", "/OPEN"])
def test_no_path_trick_passes_without_a_key(keyed, path):
    assert keyed.ask(get(path)).status in (401, 404)


def test_open_paths_need_no_key(keyed):
    assert keyed.ask(get("/open")).status == 200


def test_a_refused_key_with_a_large_body_is_seen(keyed):
    a = keyed.ask(post("/echo", b"x" * (4 << 20)))
    assert (a.status, a.error()) == (401, "invalid_api_key")


def test_stop_with_open_calls_ends_them_all():
    s = Server()
    held = []
    for path in ["/wait", "/slow", "/silent"] * 5:
        c = s.connect()
        c.sendall(post(path, b"100000"))
        held.append(c)
    s.wait_count(calls=15)
    held += [s.connect() for _ in range(5)]
    s.stop()
    for c in held:
        read_all(c)
        c.close()
