"""Keys with names: limits, metrics and logs by name, and the key file read again on SIGHUP."""
import http.client
import json
import re
import signal

import pytest

from conftest import Server, Stream, check_error, wait_until

KEYS = """# who may ask
alice: key-a running=1
bob: key-b tokens-per-minute=40
key-plain
"""


@pytest.fixture
def keyed(tmp_path):
    path = tmp_path / "keys"
    path.write_text(KEYS)
    s = Server("--api-key-file", path, "--metrics-open", "on", "--log-format", "text")
    s.path = path
    yield s
    assert s.stop() == 0


def ask(server, key, **fields):
    return server.post("/v1/completions", {"prompt": "a b c", "max_tokens": 4, "temperature": 0, "ignore_eos": True, **fields},
                       headers={"Authorization": f"Bearer {key}"})


class KeyedStream(Stream):
    """A stream of a completion with a key."""

    def __init__(self, server, key, **body):
        self.conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
        self.conn.request("POST", "/v1/completions", json.dumps({"stream": True, **body}),
                          {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
        self.response = None
        self.done = False


def by_key(server, name):
    return {k: v for k, v in server.metrics().items() if k.startswith(f"fluxd_{name}{{")}


def test_limits_hold_by_name_and_are_counted_by_name(keyed):
    with KeyedStream(keyed, "key-a", prompt="a", max_tokens=4000, min_tokens=4000) as running:
        next(iter(running))
        r = ask(keyed, "key-a")
        check_error(r, 429, "key_limit_reached")
        assert r.headers["Retry-After"] == "1" and ask(keyed, "key-plain").status_code == 200
        assert by_key(keyed, "key_running") == {'fluxd_key_running{key="alice"}': 1, 'fluxd_key_running{key="bob"}': 0, 'fluxd_key_running{key="unnamed"}': 0}
    wait_until(lambda: ask(keyed, "key-a").status_code == 200, "the key is free again")
    assert ask(keyed, "key-b", max_tokens=60).status_code == 200
    r = ask(keyed, "key-b")
    check_error(r, 429, "key_limit_reached")
    assert 1 <= int(r.headers["Retry-After"]) <= 60
    got = by_key(keyed, "key_requests_total")
    assert got['fluxd_key_requests_total{key="bob"}'] == 1 and got['fluxd_key_requests_total{key="unnamed"}'] == 1
    assert by_key(keyed, "key_refused_total")['fluxd_key_refused_total{key="bob"}'] == 1
    assert by_key(keyed, "key_generation_tokens_total")['fluxd_key_generation_tokens_total{key="bob"}'] == 60
    prompt = ask(keyed, "key-plain").json()["usage"]["prompt_tokens"]
    assert by_key(keyed, "key_prompt_tokens_total")['fluxd_key_prompt_tokens_total{key="bob"}'] == prompt
    log = keyed.logged()
    assert re.search(r'^\S+ info  request .* key="bob"$', log, re.M) and re.search(r'^\S+ info  generation .* key="alice"$', log, re.M)
    assert "key-a" not in log and "key-plain" not in log


def reread(server, text, says):
    seen = server.logged().count(says)
    server.path.write_text(text)
    server.proc.send_signal(signal.SIGHUP)
    wait_until(lambda: server.logged().count(says) > seen, server.logged)


def test_the_file_is_read_again_and_what_runs_goes_on(keyed):
    with KeyedStream(keyed, "key-a", prompt="a", max_tokens=900, min_tokens=900) as running:
        frames = iter(running)
        next(frames)
        reread(keyed, "bob: key-b2 running=7\nnew: key-n\nkey-plain\n", "keys read again")
        for gone in ("key-a", "key-b"):
            check_error(ask(keyed, gone), 401, "invalid_api_key")
        assert all(ask(keyed, k).status_code == 200 for k in ("key-b2", "key-n", "key-plain"))
        for _ in frames:
            pass
        assert running.done  # to its end
    names = {"bob", "new", "unnamed"}
    wait_until(lambda: set(by_key(keyed, "key_running")) == {f'fluxd_key_running{{key="{n}"}}' for n in names}, "alice is forgotten")
    assert by_key(keyed, "key_requests_total")['fluxd_key_requests_total{key="bob"}'] == 1


@pytest.mark.parametrize("text,line", [("ok\nalice: k running=none\n", "line 2"), ("", "holds no key"), ("a b\n", "line 1"), ("x: k\ny: k\n", "line 2")])
def test_a_bad_file_leaves_the_keys_that_are(keyed, text, line):
    reread(keyed, text, "keys stay as they were")
    said = next(x for x in keyed.logged().splitlines() if "keys stay as they were" in x)
    assert line in said and str(keyed.path) in said
    assert ask(keyed, "key-plain").status_code == 200
    check_error(ask(keyed, "ok"), 401, "invalid_api_key")
    keyed.path.unlink()
    keyed.proc.send_signal(signal.SIGHUP)
    wait_until(lambda: "cannot open" in keyed.logged(), keyed.logged)
    assert ask(keyed, "key-plain").status_code == 200


def test_cached_prompts_stay_with_their_keys(tmp_path):
    """A key that takes another's line does not find what the other one asked."""
    path = tmp_path / "keys"
    path.write_text("one\ntwo\n")
    s = Server("--api-key-file", path, "--metrics-open", "on", "--prefix-cache-bytes", "60M")
    s.path = path
    long = "The quick brown fox jumps over the lazy dog. " * 40
    cached = lambda key: ask(s, key, prompt=long, route="full").json()["usage"]["prompt_tokens_details"]["cached_tokens"]  # noqa: E731
    assert cached("one") == 0 < cached("one")
    reread(s, "two\none\n", "keys read again")
    assert cached("two") == 0 < cached("one")
    assert s.stop() == 0
