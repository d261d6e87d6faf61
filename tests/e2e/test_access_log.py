"""What the log says of those who leave, and of what was never a request."""
import json
import socket
import struct

import pytest

from conftest import Server, need_binary, wait_until


@pytest.fixture(scope="module")
def talkative():
    need_binary()
    s = Server("--log-level", "debug")
    try:
        yield s
        assert s.stop() == 0
    finally:
        s.kill()


def lines(server, *words):
    return [x for x in server.logged().splitlines() if all(w in x for w in words)]


def ask(server, **fields):
    body = json.dumps({"prompt": "Once", "max_tokens": 4000, "ignore_eos": True, **fields}).encode()
    s = socket.create_connection(("127.0.0.1", server.port))
    s.settimeout(120)
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return s


def test_who_closes_his_side_is_said_to_have_left(talkative):
    s = talkative
    with ask(s) as half:
        s.wait_metric("fluxd_requests_running", 1)
        half.shutdown(socket.SHUT_WR)
        assert half.recv(1) == b"", "its work is freed and nothing comes"
    wait_until(lambda: lines(s, " request ", "path=/v1/completions", "whole=no", "left=fin"), "the half-closed is told")
    with ask(s) as torn:
        s.wait_metric("fluxd_requests_running", 1)
        torn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: lines(s, " request ", "path=/v1/completions", "whole=no", "left=reset"), "the torn is told")
    s.wait_free()
    s.complete(max_tokens=2)
    assert "left=" not in lines(s, " request ", "path=/v1/completions")[-1], "nobody left here"


@pytest.mark.parametrize("sent,status,code", [(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version_not_supported"), (b"\x16\x03\x01\x02\x00\x01", 400, "invalid_request")],
                         ids=["HTTP/2", "TLS"])
def test_what_is_no_request_is_told_in_words_and_at_debug(talkative, sent, status, code):
    with socket.create_connection(("127.0.0.1", talkative.port)) as c:
        c.settimeout(120)
        c.sendall(sent)
        assert c.recv(4096).startswith(b"HTTP/1.1 %d " % status)
    told = wait_until(lambda: lines(talkative, " debug ", "request refused", f"status={status}"), "the refusal is told")
    assert f"code={code}" in told[-1] and "client=127.0.0.1" in told[-1]
