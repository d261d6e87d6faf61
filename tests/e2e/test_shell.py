"""What the server says of itself - limits, metrics, health, page - and who may ask. Against the real binary."""
import json
import re
import subprocess

import pytest

from conftest import BIN, MODEL, check_error, free_port, plain_environment


def run(*flags):
    return subprocess.run([BIN, *map(str, flags)], capture_output=True, text=True, timeout=60, env=plain_environment())


def test_questions_are_answered_without_a_model():
    assert re.fullmatch(r"fluxd \d+\.\d+\.\d+\n", run("--version").stdout)
    text = run("--help").stdout
    assert "--max-body-bytes" in text and "FLUXD_" in text


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
    assert rows["header_timeout_ms"] == {"name": "header_timeout_ms", "key": "header-timeout-ms", "value": 10000, "default": 10000,
                                         "unit": "ms", "meaning": "maximum time to receive the headers, from their first byte"}
    assert rows["max_header_bytes"]["value"] == 16384 and len(rows) > 10
    assert rows["max_model_len"]["value"] == server.get("/v1/models").json()["data"][0]["max_model_len"] > 0
    assert rows["json_fields"]["key"] is None and rows["json_open_keys"]["value"] == 131072
    ask = {"prompt": "a", "max_tokens": 1}
    for over in (0, 1):
        many = {f"x{i}": 0 for i in range(rows["json_fields"]["value"] - len(ask) + over)}
        assert server.post("/v1/completions", {**ask, **many}).status_code == (400 if over else 200)
        assert server.post("/v1/completions", {**ask, "n": 1, "stop": ["#"] * (rows["stop"]["value"] + over)}).status_code == (400 if over else 200)


def test_a_file_of_the_operator_is_named(tmp_path):
    bad = tmp_path / "bad.jinja"
    bad.write_text("{% for x in %}")
    r = run("--model", MODEL, "--port", free_port(), "--chat-template", bad)
    assert r.returncode == 2 and "bad.jinja: " in r.stderr.splitlines()[-1] and "line 1" in r.stderr.splitlines()[-1]


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
    r = server.get("/", headers={"Accept": "text/html,application/xhtml+xml"})
    assert r.status_code == 200 and r.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "http://" not in r.text.replace("http://www.w3.org/2000/svg", "") and "https://" not in r.text and "default-src 'none'" in r.headers["Content-Security-Policy"]


def test_the_root_lists_the_paths_to_clients_that_are_no_browsers(server):
    for accept in ({}, {"Accept": "application/json"}):
        r = server.get("/", headers=accept)
        assert r.headers["Content-Type"] == "application/json" and r.headers["Vary"] == "Accept"
        assert {"method": "POST", "path": "/v1/chat/completions", "open": False} in r.json()["endpoints"]
        for e in r.json()["endpoints"]:
            if e["method"] == "GET" and "*" not in e["path"]:
                assert server.get(e["path"]).status_code == 200, e


def test_a_wrong_base_url_is_told_the_right_path(server):
    import openai

    near = {"/chat/completions": "/v1/chat/completions", "/v1/completions/": "/v1/completions", "/v1//models": "/v1/models", "/models": "/v1/models",
            "/v1/v1/models": "/v1/models", "/V1/Models": "/v1/models", "/openai/v1/chat/completions": "/v1/chat/completions", "/v1/chat/completion": "/v1/chat/completions",
            "/v1/tokenize": "/tokenize", "/metrics/": "/metrics", "/heath": "/health"}
    for path, meant in near.items():
        assert check_error(server.get(path), 404, "unknown_url")["message"] == f"no such path; did you mean {meant}?", path
    for path in ("/v1", "/v1/", "/v1/embeddings", "/favicon.ico", "/" + "a" * 4000, "/" + "/" * 4000):
        assert check_error(server.get(path), 404, "unknown_url")["message"] == "no such path; see GET / for what there is", path
    with pytest.raises(openai.NotFoundError, match="did you mean /v1/models"):
        openai.OpenAI(base_url=server.url, api_key="none", max_retries=0).models.list()


def test_the_binary_checks_its_own_health(server):
    assert run("--check-health", "--port", str(server.port)).returncode == 0
    assert run("--check-health", "--port", str(free_port())).returncode == 1


@pytest.mark.real_model
def test_the_line_it_prints_works(make_server):
    s = make_server()
    line = next(x for x in s.logged().splitlines() if x.startswith("fluxd is ready: curl "))
    r = subprocess.run(line.split(": ", 1)[1], shell=True, capture_output=True, timeout=60)
    assert "choices" in json.loads(r.stdout)
