"""What Prometheus sees: the page's grammar by promtool, the counts by a real Prometheus that scrapes while requests run."""
import contextlib
import os
import re
import shutil
import subprocess
import time

import pytest
import requests

from conftest import Stream, free_port, launch, read_log, wait_until

ROUNDS = 8


def test_promtool_has_nothing_to_say(server):
    assert shutil.which("promtool"), "promtool comes with Debian's prometheus package"
    server.complete("Hello", n=2)
    server.chat("Hello", route="sparse")
    with Stream(server, "/v1/completions", prompt="Hello", max_tokens=3) as s:
        list(s)
    server.post("/v1/completions", {"prompt": 5})
    r = server.get("/metrics")
    assert r.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    done = subprocess.run(["promtool", "check", "metrics"], input=r.content, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_openmetrics_if_asked(server):
    r = server.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert r.headers["Content-Type"].startswith("application/openmetrics-text") and r.text.endswith("# EOF\n")


def test_two_starts_within_seconds_differ(server):
    """The start is told to a fraction of a second: changes() of it counts restarts."""
    with open(f"/proc/{server.proc.pid}/stat") as f:
        ticks = int(f.read().rsplit(")", 1)[1].split()[19])
    with open("/proc/stat") as f:
        booted = next(int(line.split()[1]) for line in f if line.startswith("btime"))
    assert abs(server.metrics()["process_start_time_seconds"] - booted - ticks / os.sysconf("SC_CLK_TCK")) <= 1


def test_vllm_names_if_switched_on(make_server):
    s = make_server("--vllm-metrics", "on")
    s.complete("Hello", max_tokens=5, ignore_eos=True)
    text = s.get("/metrics").text
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "cache_config_info", "time_to_first_token_seconds_count",
                 "inter_token_latency_seconds_count", "e2e_request_latency_seconds_count", "prompt_tokens_total", "generation_tokens_total",
                 "request_success_total", "prefix_cache_queries_total", "prefix_cache_hits_total", "num_preemptions_total", "num_requests_swapped",
                 "gpu_cache_usage_perc", "prompt_tokens_cached_total", "lora_requests_info", "request_prompt_tokens_count", "request_generation_tokens_count",
                 "request_queue_time_seconds_count", "request_prefill_time_seconds_count", "request_decode_time_seconds_count",
                 "request_inference_time_seconds_count", "request_max_num_generation_tokens_count", "request_params_n_count",
                 "request_params_max_tokens_count", "time_per_output_token_seconds_count", "request_time_per_output_token_seconds_count",
                 "iteration_tokens_total_count"):
        assert f"\nvllm:{name}" in text, name
    for name in ("time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"):
        of_name = [line for line in text.splitlines() if line.startswith(f"vllm:{name}_")]
        assert len(of_name) > 10 and all('{model_name="' in line for line in of_name), "dashboards select by the model's name"
    blocks = int(re.search(r'vllm:cache_config_info\{block_size="128",num_gpu_blocks="(\d+)"\} 1', text).group(1))
    assert blocks == s.metrics()["fluxd_kv_pages"] // 30, "a block there is a page of each layer"


def test_histograms_of_requests_count_what_was_sent(make_server):
    s = make_server("--vllm-metrics", "on")
    n_prompt = len(s.ids("One two three"))
    for max_tokens in (1, 5, 30):
        s.complete("One two three", max_tokens=max_tokens, ignore_eos=True)
    s.complete(["One two three"] * 2, max_tokens=7, n=3, ignore_eos=True)
    s.wait_free()
    m = {k.replace('{model_name="' + s.get("/v1/models").json()["data"][0]["id"] + '"}', ""): v for k, v in s.metrics().items()}
    for name, sent in (("request_prompt_tokens", [n_prompt] * 9), ("request_generation_tokens", [1, 5, 30, *[7] * 6]),
                       ("request_params_max_tokens", [1, 5, 30, *[7] * 6]), ("request_params_n", [1, 1, 1, 3, 3])):
        assert (m[f"vllm:{name}_count"], m[f"vllm:{name}_sum"]) == (len(sent), sum(sent)), name
    for name in ("request_decode_time_seconds", "request_inference_time_seconds", "request_queue_time_seconds", "request_prefill_time_seconds"):
        assert m[f"vllm:{name}_count"] == 9 and m[f"vllm:{name}_sum"] > 0, name
    assert m["vllm:request_time_per_output_token_seconds_count"] == 8, "one token has no gap"
    assert m["vllm:request_decode_time_seconds_sum"] + m["vllm:request_prefill_time_seconds_sum"] <= m["vllm:e2e_request_latency_seconds_sum"] + 1e-6
    assert m["vllm:iteration_tokens_total_sum"] >= n_prompt + 4 + 29 + 6 * 6 and m["fluxd_step_tokens_count"] == m["fluxd_engine_steps_total"]
    assert (m["fluxd_request_prompt_tokens_sum"], m["fluxd_request_generation_tokens_sum"]) == (9 * n_prompt, 36 + 42)


@pytest.fixture
def prometheus(make_server, tmp_path):
    """A fresh server, and a Prometheus that scrapes it each second. Gives (server, query)."""
    assert shutil.which("prometheus"), "Debian's prometheus package is missing"
    s, port = make_server(), free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(f"""global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: fluxd
    static_configs: [{{targets: ["127.0.0.1:{s.port}"]}}]
""")
    proc, log = launch(f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/tsdb", f"--web.listen-address=127.0.0.1:{port}", binary="prometheus")
    api = f"http://127.0.0.1:{port}"

    def query(text):
        r = requests.get(f"{api}/api/v1/query", params={"query": text}, timeout=10).json()
        assert r["status"] == "success", r
        return [float(x["value"][1]) for x in r["data"]["result"]]

    try:
        def is_up():
            assert proc.poll() is None
            with contextlib.suppress(requests.RequestException):
                return query("up") == [1]

        wait_until(is_up, lambda: read_log(log)[-4000:])
        yield s, query
    finally:
        proc.kill()
        proc.wait()


def test_a_real_prometheus_counts_what_was_sent(prometheus):
    s, query = prometheus
    sent = dict(stop=0, length=0, cancelled=0, prompt=0, answer=0, bad=0, sparse=0)
    for _ in range(ROUNDS):
        usage = [s.complete("One two three", max_tokens=6, ignore_eos=True, n=2)["usage"]]
        sent["length"] += 2
        usage.append(s.chat("Hi", max_tokens=4, ignore_eos=True, route="sparse")["usage"])
        sent["length"] += 1
        sent["sparse"] += 1
        usage.append(s.complete("a", max_tokens=9, allowed_token_ids=[500], stop_token_ids=[500])["usage"])
        sent["stop"] += 1
        sent["prompt"] += sum(u["prompt_tokens"] for u in usage) + usage[0]["prompt_tokens"]  # both answers' prompts are computed
        sent["answer"] += sum(u["completion_tokens"] for u in usage)
        assert s.post("/v1/completions", {"prompt": 5}).status_code == 400
        sent["bad"] += 1
        time.sleep(0.5)
    with Stream(s, "/v1/completions", prompt="Once", max_tokens=4000, ignore_eos=True) as stream:
        next(iter(stream))
        wait_until(lambda: query("fluxd_requests_running > 0") and query("fluxd_kv_usage_ratio > 0"), "no scrape sees it run")
    sent["cancelled"] += 1
    s.wait_free()
    accepted = sent["stop"] + sent["length"] + sent["cancelled"]
    wait_until(lambda: query("fluxd_requests_accepted_total") == [accepted] and query("fluxd_requests_running") == [0], "no scrape sees the end")
    got = {r: query(f'fluxd_requests_finished_total{{reason="{r}"}}') for r in ("stop", "length", "cancelled", "error")}
    assert got == {"stop": [sent["stop"]], "length": [sent["length"]], "cancelled": [1], "error": [0]}
    assert query("fluxd_requests_accepted_total") == [accepted] == query("fluxd_requests_routed_total")
    page = s.metrics()
    extra = page["fluxd_prompt_tokens_total"] - sent["prompt"]
    assert extra == len(s.ids("Once")) and query("fluxd_prompt_tokens_total") == [sent["prompt"] + extra]
    assert query("fluxd_generation_tokens_total") == [page["fluxd_generation_tokens_total"]]
    assert page["fluxd_generation_tokens_total"] > sent["answer"]
    for name in ("time_to_first_token", "e2e_request_latency", "queue_time", "prefill_time"):
        assert query(f"fluxd_{name}_seconds_count") == [accepted], name
    assert query('fluxd_api_requests_total{endpoint="/v1/completions",status="400"}') == [sent["bad"]]
    assert query('fluxd_api_requests_total{endpoint="/v1/chat/completions",status="200"}') == [sent["sparse"]]
    # it asks for OpenMetrics, where bounds are floats
    assert query('fluxd_route_layer_full_total{layer="7"}') == [accepted - sent["sparse"]]
    assert query('fluxd_route_full_layers_bucket{le="0.0"}') == [sent["sparse"]]
    ttft, = query("histogram_quantile(0.9, fluxd_time_to_first_token_seconds_bucket)")
    itl, = query("fluxd_inter_token_latency_seconds_sum / fluxd_inter_token_latency_seconds_count")
    assert 0 < itl < ttft, "the prompt is longer than a token"
    assert query("fluxd_requests_running") == query("fluxd_requests_waiting") == query("fluxd_kv_usage_ratio") == [0]
    assert query("count_over_time(up[10m])")[0] > 2 and query("fluxd_ready") == [1]
    assert query("increase(process_cpu_seconds_total[10m])")[0] > 0
