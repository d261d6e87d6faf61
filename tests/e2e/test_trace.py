"""What a request is called, where it comes from, and how the log tells it: X-Request-Id, traceparent, X-Forwarded-For, --log-format json."""
import json
import re

import pytest

from conftest import launch, read_log, wait_until
from test_http import make_server as make_floor  # noqa: F401 (a fixture)
from test_pages import head

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BODY = {"prompt": "a", "max_tokens": 2, "temperature": 0}
NAMED = {"X-Request-Id": "my-trace-1", "traceparent": PARENT}


def test_answers_errors_streams_and_refusals_bear_the_clients_names(make_floor):
    s = make_floor(max_body=4096)

    def ask(method, path, body=b"", **more):
        return s.ask(head(method, path, length=len(body) if method == "POST" else None, X_Request_Id="my-trace-1", traceparent=PARENT, **more) + body)

    cases = [ask("GET", "/hello"), ask("GET", "/nope"), ask("POST", "/echo", b"x" * 5000), ask("POST", "/stream", b"1")]
    chunked = head("POST", "/echo", Transfer_Encoding="chunked", Content_Type="application/json", X_Request_Id="my-trace-1", traceparent=PARENT)
    cases.append(s.ask(chunked + b"1400\r\n" + b"x" * 0x1400 + b"\r\n0\r\n\r\n"))
    assert [a.status for a in cases] == [200, 404, 413, 200, 413]
    for a in cases:
        assert a.headers["x-request-id"] == "my-trace-1" and a.headers["traceparent"] == PARENT
        assert re.fullmatch(r"req_[0-9a-f]{16}", a.headers["x-fluxd-request-id"])
    assert len({a.headers["x-fluxd-request-id"] for a in cases}) == len(cases)
    for bad in ({"X_Request_Id": "a b"}, {"X_Request_Id": "x" * 129}, {"X_Request_Id": 'a"b'}, {"traceparent": PARENT[:-1]}, {"traceparent": PARENT.upper()}):
        a = s.ask(head("GET", "/hello", **bad))
        assert a.status == 200 and a.headers["x-request-id"].startswith("req_") and not {"traceparent", "x-fluxd-request-id"} & set(a.headers)


def lines_of(server):
    """The log as objects; what is no object fails."""
    return [json.loads(x) for x in server.logged().splitlines() if not x.startswith("fluxd is ready: ")]


def test_the_log_is_one_object_a_line_and_tells_names_and_client(make_server):
    s = make_server("--log-format", "json", "--trusted-proxies", "127.0.0.0/8")
    r = s.post("/v1/completions", BODY, headers={**NAMED, "X-Forwarded-For": "203.0.113.9, 127.0.0.7"})
    s.post("/v1/completions", BODY, headers={"X-Request-Id": "a b", "X-Forwarded-For": "junk"})
    wait_until(lambda: len([x for x in lines_of(s) if x["event"] == "request"]) == 2, s.logged)
    first, second = (x for x in lines_of(s) if x["event"] == "request")
    own = r.headers["X-Fluxd-Request-Id"]
    assert {k: first[k] for k in ("level", "id", "client_id", "trace", "parent", "client", "method", "path", "status", "whole")} == {
        "level": "info", "id": own, "client_id": "my-trace-1", "trace": PARENT[3:35], "parent": PARENT[36:52], "client": "203.0.113.9",
        "method": "POST", "path": "/v1/completions", "status": 200, "whole": "yes"}
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"]) and first["ms"] >= 0
    assert second["client"] == "127.0.0.1" and not {"client_id", "trace", "parent"} & set(second)
    gen = next(x for x in lines_of(s) if x["event"] == "generation")
    assert gen["request"] == own and gen["answer_tok"] == 2
    s.proc.terminate()
    assert s.proc.wait(60) == 0
    assert lines_of(s)[-1]["event"] == "end" and {"start", "ready", "draining"} <= {x["event"] for x in lines_of(s)}


def test_the_last_words_are_an_object_too():
    proc, log = launch("--model", "/nonexistent", "--log-format", "json", "--port", "0")
    assert proc.wait(60) == 3
    last = json.loads(read_log(log).splitlines()[-1])
    assert last["level"] == "error" and "/nonexistent" in last["event"]


def test_nobody_else_is_believed(make_server):
    s = make_server()
    s.post("/v1/completions", BODY, headers={**NAMED, "X-Forwarded-For": "203.0.113.9"})
    line = wait_until(lambda: re.search(r"request id=.*", s.logged()), s.logged).group()
    assert " client=127.0.0.1 " in line and f' client_id="my-trace-1" trace="{PARENT[3:35]}" parent="{PARENT[36:52]}"' in line


@pytest.mark.parametrize("value", ["10.0.0.1/8", "proxy.lan", "10.0.0.0/33"])
def test_a_network_that_is_none_is_a_usage_error(value):
    proc, log = launch("--model", "x", "--trusted-proxies", value)
    assert proc.wait(30) == 2 and "--trusted-proxies" in read_log(log)


def test_bodies_behind_a_proxy_are_counted_for_their_clients(make_floor):
    """Two clients of one proxy have a share each; who is not trusted has one, whatever he tells."""
    for trusted, shares in (("127.0.0.1", 2), ("", 1)):
        s = make_floor(trusted=trusted, small_body=1024, max_body=1 << 20, max_bodies=4 << 20, client_bodies=1 << 20)
        body = b"x" * 900_000
        with s.connect() as first, s.connect() as second:
            first.sendall(head("POST", "/wait", length=len(body), X_Forwarded_For="203.0.113.1") + body)
            s.wait_count(open=1)
            second.sendall(head("POST", "/wait", length=len(body), X_Forwarded_For="203.0.113.2") + body)
            if shares == 2:
                s.wait_count(open=2)
            else:
                assert second.recv(64).startswith(b"HTTP/1.1 503")
        s.wait_count(open=0)
