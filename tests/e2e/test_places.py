"""Where a server listens: several addresses, names, both families, unix sockets, by the network floor (http_app) and the real binary."""
import signal
import socket
import stat
import subprocess
import time

import pytest

from conftest import launch, plain_environment, read_log
from test_http import PATIENCE_S, Answer, Server, read_all
from test_pages import head


class Places(Server):
    """http_app at these addresses. connect is by the last unix socket or by TCP."""

    def __init__(self, host, **settings):
        super().__init__(host=host, **settings)
        self.path = host.rpartition("unix:")[2] if "unix:" in host else None

    def connect(self, rcvbuf=None):
        if not self.path:
            return super().connect(rcvbuf)
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(PATIENCE_S)
        s.connect(self.path)
        return s


@pytest.fixture
def place():
    made = []

    def make(host, **settings):
        made.append(Places(host, **settings))
        return made[-1]

    yield make
    for s in made:
        s.stop()


def status_at(address, port, host="localhost"):
    with socket.create_connection((address, port), PATIENCE_S) as s:
        s.sendall(head("GET", "/hello", host=host))
        return Answer(read_all(s)).status


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


def test_every_address_of_a_list_answers(place):
    s = place("127.0.0.1, 127.0.0.2")
    assert status_at("127.0.0.1", s.port) == status_at("127.0.0.2", s.port) == 200
    with pytest.raises(OSError):
        status_at("127.0.0.3", s.port)


def test_a_name_is_all_its_addresses(place):
    s = place("localhost")
    for *_, at in socket.getaddrinfo("localhost", s.port, type=socket.SOCK_STREAM):
        assert at[0] == "::1" and not has_ipv6() or status_at(at[0], s.port) == 200


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_the_whole_of_ipv6_is_both_families(place):
    s = place("::")
    assert status_at("127.0.0.1", s.port) == status_at("::1", s.port) == 200
    s = place("[::1]")
    assert status_at("::1", s.port) == 200
    with pytest.raises(OSError):
        status_at("127.0.0.1", s.port)
    s = place("::, 127.0.0.1")
    assert status_at("127.0.0.1", s.port) == status_at("::1", s.port) == 200


def test_a_strange_host_is_refused_where_a_browser_of_this_machine_could_be_sent(place, tmp_path):
    """By a loopback address among others, never by a unix socket: what stands before that is no browser."""
    s = place(f"127.0.0.1,unix:{tmp_path}/s", hosts="")
    assert status_at("127.0.0.1", s.port, "evil.example") == 403
    assert s.ask(head("GET", "/hello", host="evil.example")).status == 200
    assert place(f"unix:{tmp_path}/t", hosts="llm.lan").ask(head("GET", "/hello", host="evil.example")).status == 403


def test_a_unix_socket_serves_as_tcp_does(place, tmp_path):
    """Whole and late answers, streams, bodies in chunks, pipelined requests, refusals, clients that leave; and what is counted."""
    s = place(f"unix:{tmp_path}/s", max_body=1 << 20)
    assert s.port == 0
    assert s.ask(head("GET", "/hello")).status == 200
    big = b'{"a":"' + b"x" * 900_000 + b'"}'
    assert s.ask(head("POST", "/echo", length=len(big)) + big).body == big
    chunked = head("POST", "/echo", Transfer_Encoding="chunked", Content_Type="application/json")
    assert s.ask(chunked + b"7\r\n" + b'{"n":1}' + b"\r\n0\r\n\r\n").status == 200
    assert s.ask(head("POST", "/later", length=7) + b'{"n":1}').status == 200
    assert b"data: " in s.ask(head("POST", "/stream", length=7) + b'{"n":1}').body
    assert s.ask(head("POST", "/echo", length=1 << 30)).status == 413
    assert s.ask(b"\x16\x03\x01\x02\r\n\r\n").status == 400
    two = head("GET", "/hello").replace(b"Connection: close\r\n", b"") + head("GET", "/hello")
    with s.connect() as c:
        for byte in two:  # the first header block byte by byte, through the gate
            c.sendall(bytes([byte]))
        assert read_all(c).count(b"HTTP/1.1 200") == 2
    with s.connect() as c:
        c.sendall(head("POST", "/wait", length=7) + b'{"n":1}')
        s.wait_count(open=1)
    s.wait_count(open=0)


@pytest.mark.parametrize("path,body", [("/stream", b"1000000"), ("/echo", b'{"a":"' + b"x" * 4_000_000 + b'"}')])
def test_who_reads_nothing_from_a_unix_socket_is_cut_and_who_reads_slowly_is_not(place, tmp_path, path, body):
    """The kernel tells of no progress there. A full buffer looks the same whenever it is looked at, however much went through it."""
    short, long = place(f"unix:{tmp_path}/short", stall_ms=800), place(f"unix:{tmp_path}/long", stall_ms=10**6)
    ask = head("POST", path, length=len(body)) + body
    with short.connect() as slow, short.connect() as idle, long.connect() as held:
        for c in (slow, idle, held):
            c.sendall(ask)
        long.wait_count(calls=1 if path == "/stream" else 0)
        n = 0
        for _ in range(200):  # until the other one is cut, and as long again
            n += len(slow.recv(4096))
            time.sleep(0.01)
        short.wait_count(stalled=1)
        assert n > 200 * 1024 and len(slow.recv(1 << 16)) > 0 and long.count()["stalled"] == 0


# --- the whole server


def test_the_binary_asks_itself_by_every_kind_of_place(make_server, tmp_path):
    path = tmp_path / "fluxd.sock"
    s = make_server("--host", f"127.0.0.1,unix:{path}", "--socket-mode", "0600")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.is_socket()

    def healthy(*flags):
        return subprocess.run([s.proc.args[0], "--check-health", *flags], env=plain_environment(), capture_output=True).returncode

    assert healthy("--host", f"unix:{path}") == healthy("--host", "localhost", "--port", str(s.port)) == healthy("--host", "0.0.0.0", "--port", str(s.port)) == 0
    assert healthy("--host", f"unix:{tmp_path}/none") == healthy("--host", "no-such-name.invalid") == 1
    said = subprocess.run(["curl", "-sS", "--unix-socket", str(path), "http://localhost/v1/completions", "-H", "Content-Type: application/json", "-d",
                           '{"prompt": "a", "max_tokens": 2, "temperature": 0}'], capture_output=True, text=True).stdout
    assert '"text_completion"' in said
    m = s.metrics()
    assert m["fluxd_http_sent_bytes_total"] > len(said)
    proc, log = launch("--model", "/nonexistent", "--host", f"unix:{path}")
    assert proc.wait(60) == 4 and "another server" in read_log(log)
    s.proc.send_signal(signal.SIGTERM)
    assert s.proc.wait(60) == 0 and not path.exists()


@pytest.mark.parametrize("host", ["unix:relative", "[::1]:8000", "a b", ""])
def test_an_address_that_is_none_is_a_usage_error(host):
    proc, log = launch("--model", "x", "--host", host)
    assert proc.wait(30) == 2 and "--host" in read_log(log)
