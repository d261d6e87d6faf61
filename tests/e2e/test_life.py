"""The life of the process: start, refusals to start, readiness, draining, the end. Against the real binary."""
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
import requests
from conftest import BIN, MODEL, free_port

# The server takes FLUXD_* variables as settings and refuses unknown ones, so those that steer these tests are not passed on.
CLEAN_ENV = {k: v for k, v in os.environ.items() if not k.startswith("FLUXD_")}
LIMIT_S = float(os.environ.get("FLUXD_END_S", "2"))  # a sanitizer build may need more


def run(*flags, env=None, timeout=60):
    return subprocess.run([BIN, *flags], capture_output=True, text=True, timeout=timeout, env={**CLEAN_ENV, **(env or {})})


def start(*flags):
    port = free_port()
    p = subprocess.Popen([BIN, "--model", MODEL, "--port", str(port), *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=CLEAN_ENV)
    end = time.monotonic() + 10
    while True:
        try:
            requests.get(f"http://127.0.0.1:{port}/health", timeout=2)
            return p, f"http://127.0.0.1:{port}"
        except requests.ConnectionError:
            assert time.monotonic() < end and p.poll() is None
            time.sleep(0.005)


def stream(url, tokens, out):
    """Appends (status, bytes, whole) to out."""
    body = {"prompt": "Once upon a time", "max_tokens": tokens, "stream": True, "ignore_eos": True}
    try:
        with requests.post(url + "/v1/completions", json=body, stream=True, timeout=60) as r:
            out.append((r.status_code, r.raw.read(decode_content=True), True))
    except requests.exceptions.RequestException as e:
        out.append((None, str(e).encode(), False))


def start_streams(server, n, tokens):
    out = []
    threads = [threading.Thread(target=stream, args=(server.url, tokens, out)) for _ in range(n)]
    for t in threads:
        t.start()
    server_running(server, n)
    return threads, out


def server_running(server, n):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        m = server.metrics()
        if m["fluxd_requests_running"] == n and m["fluxd_generation_tokens_total"] > 0:
            return
        time.sleep(0.02)
    raise AssertionError("the streams do not run")


# --- refusals to start

def test_a_taken_port_is_exit_4():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        r = run("--model", MODEL, "--port", str(s.getsockname()[1]))
    assert r.returncode == 4 and "--port" in r.stderr and "in use" in r.stderr


@pytest.mark.parametrize("flags,says", [
    (["--model", MODEL, "--prot", "1"], "did you mean --port?"), ([], "--model"), (["--model", MODEL, "--host", "example.org"], "--host"),
    (["--model", MODEL, "--dtype", "fp16"], "auto|bf16|f32"), (["--model", MODEL, "--route", "0101"], "--route"),
    (["--model", MODEL, "--chat-template", "/does/not/exist"], "--chat-template")])
def test_bad_settings_are_exit_2_and_named(flags, says):
    r = run(*flags, *([] if "--port" in flags else ["--port", str(free_port())]))
    assert r.returncode == (4 if says == "--host" else 2) and says in r.stderr, r.stderr
    assert "fluxd is ready" not in r.stdout


def test_a_bad_model_is_exit_3_and_named(tmp_path):
    missing = run("--model", str(tmp_path / "none.gguf"), "--port", str(free_port()))
    assert missing.returncode == 3 and "none.gguf" in missing.stderr
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(open(MODEL, "rb").read(100000))
    r = run("--model", str(broken), "--port", str(free_port()))
    assert r.returncode == 3 and "broken.gguf" in r.stderr


def test_questions_are_answered_without_a_model():
    assert re.fullmatch(r"fluxd \d+\.\d+\.\d+\n", run("--version").stdout)
    text = run("--help").stdout
    assert "--max-body-bytes" in text and "FLUXD_" in text


# --- start

def test_it_answers_before_the_model_is_loaded_and_says_when_it_is():
    p, url = start("--load-format", "auto")
    try:
        seen = []
        end = time.monotonic() + float(os.environ.get("FLUXD_START_S", "30"))
        while time.monotonic() < end:
            assert requests.get(url + "/health", timeout=2).status_code == 200
            r = requests.get(url + "/ready", timeout=2)
            seen.append(r.status_code)
            if r.status_code == 200:
                break
            assert r.json()["error"]["code"] == "loading" and r.headers["Retry-After"]
            early = requests.post(url + "/v1/completions", json={"prompt": "x"}, timeout=2)
            assert early.status_code in (200, 503)
            if early.status_code == 503:
                assert early.json()["error"]["code"] == "loading" and early.headers["Retry-After"]
        assert seen[0] == 503 and seen[-1] == 200
    finally:
        p.send_signal(signal.SIGTERM)
        out, err = p.communicate(timeout=20)
    assert p.returncode == 0
    last = out.decode().strip().splitlines()[-1]
    assert last.startswith("fluxd is ready: curl http://127.0.0.1:") and "/v1/chat/completions" in last
    assert re.search(r"weights_mib=[\d.]+ kv_pool_mib=[\d.]+ resident_mib=[\d.]+", err.decode())


def test_a_stop_while_loading_ends_at_once():
    p, _ = start()
    t0 = time.monotonic()
    p.send_signal(signal.SIGTERM)
    p.communicate(timeout=20)
    assert p.returncode == 0 and time.monotonic() - t0 < LIMIT_S


def test_the_line_it_prints_works():
    p, url = start()
    try:
        line = p.stdout.readline().decode()
        r = subprocess.run(line.split(": ", 1)[1], shell=True, capture_output=True, timeout=60)
        assert "choices" in json.loads(r.stdout)
    finally:
        p.send_signal(signal.SIGTERM)
        p.communicate(timeout=20)


# --- the end

def test_a_drain_lets_streams_end_and_refuses_new_ones(make_server):
    s = make_server("--drain-timeout-ms", "30000")
    threads, out = start_streams(s, 20, 60)
    s.proc.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    for path in ["/v1/completions", "/v1/chat/completions"]:
        r = requests.post(s.url + path, json={"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, timeout=5)
        assert r.status_code == 503 and r.json()["error"]["code"] == "shutting_down" and r.headers["Retry-After"]
    assert requests.get(s.url + "/ready", timeout=5).status_code == 503
    assert requests.get(s.url + "/health", timeout=5).status_code == 200
    for t in threads:
        t.join()
    assert s.proc.wait(30) == 0
    assert [(o[0], o[1][-14:]) for o in out] == [(200, b"data: [DONE]\n\n")] * 20


@pytest.mark.parametrize("how", ["second signal", "deadline"])
def test_the_end_of_patience_gives_every_stream_an_error_frame(make_server, how):
    s = make_server("--drain-timeout-ms", "30000" if how == "second signal" else "300")
    threads, out = start_streams(s, 8, 4000)
    s.proc.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    t0 = time.monotonic()
    if how == "second signal":
        s.proc.send_signal(signal.SIGTERM)
    assert s.proc.wait(10) == 0
    assert time.monotonic() - t0 < LIMIT_S
    for t in threads:
        t.join()
    for status, body, whole in out:
        assert status == 200 and whole and b"[DONE]" not in body, body[-200:]
        frame = json.loads(body.strip().split(b"\n\n")[-1][len(b"data: "):])
        assert "error" in frame


def test_hangup_and_pipe_signals_are_ignored(make_server):
    s = make_server()
    for sig in (signal.SIGHUP, signal.SIGPIPE):
        s.proc.send_signal(sig)
    time.sleep(0.2)
    assert s.get("/ready").status_code == 200


def test_idle_takes_no_cpu(make_server):
    s = make_server()
    keep = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(20)]

    def ticks():
        return sum(int(x) for x in open(f"/proc/{s.proc.pid}/stat").read().rsplit(")", 1)[1].split()[11:13])

    time.sleep(1)
    before = ticks()
    time.sleep(2)
    assert ticks() - before <= 1  # of 200
    for k in keep:
        k.close()


# --- keys, admin

def test_every_path_but_the_open_ones_needs_the_key(make_server):
    s = make_server(env={"FLUXD_API_KEY": "secret"})
    for path in ["/v1/models", "/v1/limits", "/version", "/metrics", "/nope"]:
        assert s.get(path).status_code == 401, path
    for path in ["/health", "/ready", "/"]:
        assert s.get(path).status_code == 200, path
    key = {"Authorization": "Bearer secret"}
    assert s.get("/version", headers=key).status_code == 200
    assert s.get("/nope", headers=key).status_code == 404
    assert "secret" not in s.logged()


def test_limits_are_listed(server):
    rows = {r["name"]: r for r in server.get("/v1/limits").json()["data"]}
    assert rows["header-timeout-ms"] == {"name": "header-timeout-ms", "value": 10000, "default": 10000, "unit": "ms",
                                         "meaning": "for the headers, from their first byte"}
    assert rows["max-header-bytes"]["value"] == 16384 and len(rows) > 10


def test_metrics_pass_promtool_in_both_formats(make_server):
    s = make_server("--vllm-metrics", "on")
    s.post("/v1/completions", {"prompt": "x", "max_tokens": 3})
    text = s.get("/metrics")
    assert text.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    native = "".join(x for x in text.text.splitlines(True) if "vllm:" not in x)
    r = subprocess.run(["promtool", "check", "metrics"], input=native, capture_output=True, text=True)
    assert r.returncode == 0 and not r.stdout + r.stderr
    assert "vllm:num_requests_waiting{model_name=" in text.text
    open_text = s.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert open_text.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert open_text.text.endswith("# EOF\n") and "# TYPE fluxd_prompt_tokens counter\n" in open_text.text


def test_the_page_is_one_whole_file(server):
    r = server.get("/")
    assert r.status_code == 200 and r.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "http://" not in r.text.replace("http://www.w3.org/2000/svg", "") and "https://" not in r.text and "default-src 'none'" in r.headers["Content-Security-Policy"]


def test_the_binary_checks_its_own_health(server):
    assert run("--check-health", "--port", str(server.port)).returncode == 0
    assert run("--check-health", "--port", str(free_port())).returncode == 1
