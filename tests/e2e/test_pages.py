"""Web pages and a server without keys: the server's own page works, those of others neither read nor make it generate.

By header against the network floor (http_app), and by a real browser against the real server.
"""
import base64
import http.server
import json
import os
import subprocess
import tempfile
import threading

import pytest

from browser import Tab
from conftest import Server, free_port, launch, read_log, wait_until
from test_http import make_server  # noqa: F401 (a fixture)

BODY = b'{"n":1}'
OWN = "localhost:8000"


def head(method, path, host=OWN, type_="application/json", length=None, **headers):
    names = {k.replace("_", "-"): v for k, v in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *(f"{k}: {v}" for k, v in names.items())]
    if length is not None:
        lines += [f"Content-Length: {length}"] + ([f"Content-Type: {type_}"] if type_ else [])
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def post_status(server, **more):
    a = server.ask(head("POST", "/echo", length=len(BODY), **more) + BODY)
    return a.status if a.status == 200 else (a.status, a.error())


def get_status(server, path="/hello", **more):
    a = server.ask(head("GET", path, **more))
    return a.status if a.status == 200 else (a.status, a.error())


FOREIGN = (403, "forbidden")


@pytest.mark.parametrize("status", [get_status, post_status], ids=["GET", "POST"])
def test_pages_of_others_are_refused_without_keys_on_any_address(make_server, status):
    for s in (make_server(hosts=""), make_server(hosts="", host="0.0.0.0")):
        assert status(s) == status(s, Origin="http://" + OWN, Sec_Fetch_Site="same-origin") == status(s, Sec_Fetch_Site="none") == 200
        for origin in ("null", "http://evil.example", "http://localhost:3000", "http://127.0.0.1:8000", "file://"):
            assert status(s, Origin=origin) == FOREIGN
            assert status(s, Origin=origin, Sec_Fetch_Site="same-origin") == FOREIGN
        for site in ("cross-site", "same-site"):
            assert status(s, Sec_Fetch_Site=site) == status(s, Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate") == FOREIGN


def test_a_name_that_is_not_ours_is_refused_on_loopback_only(make_server):
    local, open_, keyed, named = make_server(hosts=""), make_server(hosts="", host="0.0.0.0"), make_server(hosts="", keys=1), make_server(hosts="llm.lan", host="0.0.0.0")
    for host in ("evil.example:8000", "api:8000", "localhost.evil.example"):
        assert get_status(local, host=host) == get_status(local, "/nope", host=host) == post_status(local, host=host) == FOREIGN
        assert get_status(open_, host=host) == get_status(keyed, "/open", host=host) == 200
        assert get_status(named, host=host) == FOREIGN
    for host in ("127.0.0.1", "[::1]:8000", "LOCALHOST:1", "a.localhost.", "llm.lan"):
        assert get_status(named, host=host) == 200


def test_listed_pages_and_keys_open_the_door(make_server):
    s = make_server(pages="http://app.lan:3000")
    assert post_status(s, Origin="http://app.lan:3000", Sec_Fetch_Site="cross-site") == 200
    assert post_status(s, Origin="http://app.lan:3001", Sec_Fetch_Site="cross-site") == FOREIGN
    keyed = make_server(keys=1)
    assert post_status(keyed, Origin="http://evil.example", Sec_Fetch_Site="cross-site", Authorization="Bearer first-key") == 200
    assert post_status(keyed, Origin="http://evil.example") == (401, "invalid_api_key")


@pytest.mark.parametrize("keys", [0, 1])
def test_a_body_says_that_it_is_json(make_server, keys):
    s = make_server(keys=keys)
    auth = {"Authorization": "Bearer first-key"} if keys else {}
    for type_ in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", "text/plain; application/json"):
        assert post_status(s, type_=type_, **auth) == (415, "unsupported_media_type")
    for type_ in ("application/json", "Application/JSON; charset=utf-8"):
        assert post_status(s, type_=type_, **auth) == 200
    assert s.ask(head("POST", "/echo", length=0, type_=None, **auth)).status == 200  # nothing to name
    chunked = head("POST", "/echo", Transfer_Encoding="chunked", **auth) + b"7\r\n" + BODY + b"\r\n0\r\n\r\n"
    assert s.ask(chunked).status == 415


def test_the_start_says_when_everyone_may_ask():
    for flags, env, said in ((("--host", "0.0.0.0"), {}, True), (("--host", "127.0.0.2"), {}, False), (("--host", "0.0.0.0"), {"FLUXD_API_KEY": "k"}, False)):
        proc, log = launch("--model", "/nonexistent", "--port", free_port(), *flags, env=env)
        proc.wait(30)
        assert ("open to everyone" in read_log(log)) == said


@pytest.mark.parametrize("flag,value", [("--allowed-hosts", "http://a"), ("--cors-origins", "*"), ("--cors-origins", "null"), ("--cors-origins", "http://a/")])
def test_a_list_that_would_never_match_is_a_usage_error(flag, value):
    proc, log = launch("--model", "x", flag, value)
    assert proc.wait(30) == 2 and flag in read_log(log)


# --- by a browser

PAGE = """<!doctype html><pre id=out></pre><iframe name=hole></iframe>
<form id=form method=post target=hole enctype=text/plain action="BASE/v1/completions"><input name='{"prompt":"a","max_tokens":2,"x":"' value='"}'></form>
<script>
const ask = JSON.stringify({prompt: "a", max_tokens: 2});
const ways = {
    cors_get: () => fetch("BASE/v1/models"),
    cors_json: () => fetch("BASE/v1/completions", {method: "POST", headers: {"Content-Type": "application/json"}, body: ask}),
    cors_text: () => fetch("BASE/v1/completions", {method: "POST", body: ask}),
    cors_untyped: () => fetch("BASE/v1/completions", {method: "POST", body: new Blob([ask])}),
    blind_text: () => fetch("BASE/v1/completions", {method: "POST", mode: "no-cors", body: ask}),
    blind_untyped: () => fetch("BASE/v1/completions", {method: "POST", mode: "no-cors", body: new Blob([ask])}),
    blind_get: () => fetch("BASE/v1/models", {mode: "no-cors"}),
    beacon: () => navigator.sendBeacon("BASE/v1/completions", new Blob([ask])),
};
(async () => {
    const got = {};
    for (const [name, way] of Object.entries(ways))
        try { const r = await way(); got[name] = r.text ? [r.type, r.status, await r.text()] : "sent"; } catch (e) { got[name] = "refused"; }
    document.getElementById("form").submit();
    await new Promise(r => setTimeout(r, 1000));
    document.getElementById("out").textContent = "GOT" + btoa(JSON.stringify(got)) + "END";
    await fetch("/done");
})();
</script>"""


@pytest.fixture(scope="module")
def fluxd():
    s = Server()
    yield s
    s.stop()


class Site:
    """A web server of one page, which calls `base`."""

    def __init__(self, base):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(PAGE.replace("BASE", base).encode() if self.path == "/" else b"")

            def log_message(self, *_):
                pass

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.httpd.server_address[1]
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()


def browse(url, *flags):
    """The page's document after its scripts have run."""
    with tempfile.TemporaryDirectory() as home:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={home}",
                 "--disable-background-networking", "--virtual-time-budget=20000", *flags]
        env = {**os.environ, "HOME": home}
        return subprocess.run(["chromium", *flags, "--dump-dom", url], capture_output=True, env=env, timeout=120).stdout.decode()


def generations(server):
    text = server.get("/metrics").text
    rows = [x for x in text.splitlines() if x.startswith("fluxd_requests_accepted_total")]
    assert rows
    return float(rows[0].split()[1])


def page_result(dom):
    assert "GOT" in dom and "END" in dom, dom
    return json.loads(base64.b64decode(dom.split("GOT")[1].split("END")[0]))


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "evil.example"])
def test_a_page_elsewhere_neither_reads_nor_makes_generate(fluxd, name):
    """From the same site on another port, from another name of this machine, and from a stranger's."""
    fluxd.complete("a", max_tokens=2)
    before = generations(fluxd)
    site = Site(f"http://127.0.0.1:{fluxd.port}")
    got = page_result(browse(f"http://{name}:{site.port}/", "--host-resolver-rules=MAP evil.example 127.0.0.1"))
    site.httpd.shutdown()
    assert {k for k in got if k.startswith("cors")} == {"cors_get", "cors_json", "cors_text", "cors_untyped"}
    for way, what in got.items():
        assert what in ("refused", "sent") or (what[0] == "opaque" and what[2] == ""), (way, what)
    assert generations(fluxd) == before
    assert fluxd.get("/health").status_code == 200


def test_a_name_made_to_point_here_is_refused(fluxd):
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    for path in ("/", "/v1/models"):
        assert "forbidden" in browse(f"http://evil.example:{fluxd.port}{path}", rules)
    assert "forbidden" not in browse(f"http://localhost:{fluxd.port}/v1/models")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_servers_own_page_works(fluxd, name):
    """Opened from outside it reads this server's figures and the model's name, as only a page of the same origin may."""
    dom = browse(f"http://{name}:{fluxd.port}/")
    assert 'data-s="ready"' in dom and f'>{fluxd.get("/v1/models").json()["data"][0]["id"]}<' in dom


FIELD, BUTTON = "document.getElementById('text')", "document.getElementById('send')"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_servers_own_page_talks_by_its_own_button(fluxd, name):
    """Written and clicked as a person does it, on default settings but for the answer's length: it stands on the page, and the server has made it."""
    before = generations(fluxd)
    with Tab() as tab:
        tab.open(f"http://{name}:{fluxd.port}/")
        tab.wait(FIELD)
        tab.run("sampling.max_tokens = 16")
        for n, words in enumerate(("Say hello", "And again"), 1):
            tab.click(FIELD)
            tab.wait(f"document.activeElement === {FIELD}")
            tab.type(words)
            tab.wait(f"({FIELD}).value === {json.dumps(words)}")
            tab.click(BUTTON)
            tab.wait(f"document.body.innerText.includes({json.dumps(words)}) && ({FIELD}).value === ''")
            wait_until(lambda: generations(fluxd) == before + n, "the server was not asked")
            tab.wait(f"({BUTTON}).getAttribute('aria-label') === 'Send'")
            assert "forbidden" not in tab.run("document.body.innerText").lower()
        assert fluxd.metrics()["fluxd_stream_errors_total"] == 0


def test_a_page_elsewhere_cannot_use_the_servers_own_in_a_frame(fluxd):
    """Another origin's page may frame ours, but what its script asks through the frame's server is still foreign."""
    before = generations(fluxd)
    site = Site(f"http://127.0.0.1:{fluxd.port}")
    with Tab() as tab:
        tab.open(f"http://localhost:{site.port}/done")
        got = tab.run(f"""new Promise(done => {{ const f = document.createElement("iframe"); f.src = "http://127.0.0.1:{fluxd.port}/"; document.body.append(f);
            f.onload = async () => {{ let read = "kept out"; try {{ read = f.contentWindow.document.title; }} catch (e) {{}}
                const r = await fetch("http://127.0.0.1:{fluxd.port}/v1/models").then(r => r.status, () => "refused"); done([read, r]); }} }})""")
    site.httpd.shutdown()
    assert got == ["kept out", "refused"] and generations(fluxd) == before
