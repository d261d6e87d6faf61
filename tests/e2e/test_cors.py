"""Pages of other origins that --cors-origins lists: what their browsers ask and read, by header against the network floor (http_app) and by a
real browser against the real server with keys."""
import http.server
import json
import os
import queue
import re
import subprocess
import threading

import pytest

from conftest import make_server as make_fluxd  # noqa: F401 (a fixture)
from test_http import make_server  # noqa: F401 (a fixture)
from test_pages import BODY, head

PAGE = "http://app.lan:3000"
ASK = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization,content-type,x-stainless-lang"}


@pytest.fixture(params=[0, 1], ids=["open", "keys"])
def server(make_server, request):
    s = make_server(pages=f"https://other.lan, {PAGE}", keys=request.param, max_body=4096)
    s.auth = {"Authorization": "Bearer first-key"} if request.param else {}
    return s


def marked(answer, origin=PAGE):
    """It may be read by the page, and by none that a cache would give it to."""
    h = answer.headers
    return h.get("access-control-allow-origin") == origin and h.get("vary") == "Origin"


def test_a_preflight_needs_no_key_and_tells_nothing_of_paths(server):
    seen = []
    for path in ("/echo", "/hello", "/nope"):
        a = server.ask(head("OPTIONS", path, Origin=PAGE, **ASK))
        assert a.status == 204 and a.body == b"" and marked(a)
        h = a.headers
        assert h["access-control-allow-methods"] == "GET, POST, DELETE" and h["access-control-allow-headers"] == ASK["Access_Control_Request_Headers"]
        assert int(h["access-control-max-age"]) > 0 and "access-control-allow-private-network" not in h
        seen.append({k: v for k, v in h.items() if k not in ("date", "x-request-id")})
    assert seen[0] == seen[1] == seen[2]
    a = server.ask(head("OPTIONS", "/echo", Origin=PAGE, Access_Control_Request_Private_Network="true", **ASK))
    assert a.headers["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize("asked", ["", "a" * 1025, "x;y", 'a"b', "caf\u00e9"])
def test_names_that_no_header_has_are_not_allowed(server, asked):
    a = server.ask(head("OPTIONS", "/echo", Origin=PAGE, Access_Control_Request_Method="POST", Access_Control_Request_Headers=asked))
    assert a.status == 204 and a.headers["access-control-allow-headers"] == "Authorization, Content-Type"


@pytest.mark.parametrize("origin", ["http://app.lan:3001", "http://evil.example", "null", f"{PAGE}/", f"{PAGE}.evil.example", "https://app.lan:3000"])
def test_a_preflight_of_an_unlisted_page_is_refused(server, origin):
    a = server.ask(head("OPTIONS", "/echo", Origin=origin, **ASK))
    assert (a.status, a.error()) == (403, "forbidden") and "access-control-allow-origin" not in a.headers
    a = server.ask(head("POST", "/echo", Origin=origin, length=len(BODY), **server.auth) + BODY)
    assert "access-control-allow-origin" not in a.headers and a.headers["vary"] == "Origin"


def test_options_that_are_no_preflight_stay_what_they_were(server):
    for more in ({}, {"Origin": PAGE}, {"Access_Control_Request_Method": "POST"}):
        a = server.ask(head("OPTIONS", "/echo", **more, **server.auth))
        assert (a.status, a.error()) == (405, "method_not_allowed")
    twice = head("OPTIONS", "/echo", Origin=PAGE, **ASK).replace(b"\r\n\r\n", f"\r\nOrigin: {PAGE}\r\n\r\n".encode())
    assert server.ask(twice).status in (401, 403)
    body = head("OPTIONS", "/echo", length=len(BODY), Origin=PAGE, **ASK, **server.auth) + BODY
    assert server.ask(body).status == 405


def test_answers_errors_and_streams_are_marked(server):
    def ask(method, path, body=None, **more):
        return server.ask(head(method, path, Origin=PAGE, length=body and len(body), **{**server.auth, **more}) + (body or b""))

    cases = {200: ask("GET", "/hello"), 404: ask("GET", "/nope"), 405: ask("GET", "/echo"), 413: ask("POST", "/echo", b"x" * 5000),
             415: ask("POST", "/echo", BODY, Content_Type="text/plain")}
    if server.auth:
        cases[401] = ask("GET", "/hello", Authorization="Bearer no")
    for status, a in cases.items():
        assert a.status == status and marked(a), (status, a.raw)
        assert "X-Request-Id" in a.headers["access-control-expose-headers"]
    a = ask("POST", "/stream", BODY)
    assert a.status == 200 and marked(a) and b"data: " in a.body
    chunked = head("POST", "/echo", Origin=PAGE, Transfer_Encoding="chunked", Content_Type="application/json", **server.auth)
    a = server.ask(chunked + b"1400\r\n" + b"x" * 0x1400 + b"\r\n0\r\n\r\n")
    assert a.status == 413 and marked(a), a.raw


def test_without_a_list_no_answer_speaks_of_origins(make_server):
    a = make_server(keys=1).ask(head("GET", "/hello", Origin=PAGE, Authorization="Bearer first-key"))
    assert a.status == 200 and "vary" not in a.headers and "access-control-allow-origin" not in a.headers


# --- by a browser

CHAT = """<!doctype html><script>
(async () => {
    const got = {text: "", parts: 0}, auth = {"Authorization": "Bearer page-key"};
    try {
        const r = await fetch("BASE/v1/chat/completions", {method: "POST", headers: {"Content-Type": "application/json", ...auth}, body: JSON.stringify(ASK)});
        got.status = r.status;
        got.id = r.headers.get("X-Request-Id");
        const reader = r.body.getReader(), decoder = new TextDecoder();
        for (let part; !(part = await reader.read()).done; got.parts++) got.text += decoder.decode(part.value, {stream: true});
        const e = await fetch("BASE/v1/nope", {headers: auth});
        got.error = [e.status, (await e.json()).error.code];
    } catch (e) { got.refused = e.name; }
    await fetch("/told", {method: "POST", body: JSON.stringify(got)});
})();
</script>"""
ASKED = {"messages": [{"role": "user", "content": "Count to five."}], "max_tokens": 1000, "ignore_eos": True, "temperature": 0}


class TellingSite:
    """A web server of one page, which calls `base` and tells what came of it."""

    def __init__(self):
        self.base, self.told = "", queue.Queue()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(CHAT.replace("BASE", site.base).replace("ASK", json.dumps({**ASKED, "stream": True})) if self.path == "/" else "")

            def do_POST(self):
                site.told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer("")

            def answer(self, text):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.httpd.server_address[1]}"
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()


def test_a_listed_page_streams_a_chat_with_a_key_and_no_other_does(make_fluxd, tmp_path):
    listed, other = TellingSite(), TellingSite()
    fluxd = make_fluxd("--cors-origins", listed.origin, env={"FLUXD_API_KEY": "page-key"})
    auth = {"Authorization": "Bearer page-key"}
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
             "--remote-debugging-port=0"]  # it stays until it is ended

    def accepted():
        return re.search(r"^fluxd_requests_accepted_total (\d+)", fluxd.get("/metrics", headers=auth).text, re.M).group(1)

    def visit(site):
        site.base = fluxd.url
        home = str(tmp_path / site.origin[-5:])
        browser = subprocess.Popen(["chromium", *flags, f"--user-data-dir={home}", site.origin + "/"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, env={**os.environ, "HOME": home})
        try:
            return site.told.get(timeout=120)
        finally:
            browser.terminate()
            browser.wait()
            site.httpd.shutdown()

    got = visit(listed)
    assert got["status"] == 200 and got["id"].startswith("req_") and got["error"] == [404, "unknown_url"] and got["parts"] > 1, got
    frames = [f[6:] for f in got["text"].split("\n\n") if f.startswith("data: ")]
    assert frames[-1] == "[DONE]"
    plain = fluxd.post("/v1/chat/completions", ASKED, headers=auth).json()["choices"][0]["message"]["content"]
    assert "".join(c["delta"].get("content") or "" for f in frames[:-1] for c in json.loads(f)["choices"]) == plain != ""
    before = accepted()
    assert visit(other) == {"text": "", "parts": 0, "refused": "TypeError"}
    assert accepted() == before
