"""The monitoring that docker/ ships: promtool accepts it, its alerts pass their tests, and everything that a panel or a rule asks is
answered by a real Prometheus that scraped a loaded server."""
import concurrent.futures
import glob
import itertools
import json
import math
import os
import subprocess
import threading
import time

import pytest
import requests

from conftest import ROOT, Server, Stream, wait_until
from monitoring import DASHBOARDS, SHIPPED, Prometheus, panel_queries

# Panels that show what this load must have brought about: zero would mean that they look at the wrong thing.
NOT_ZERO = {"Ready", "Running", "Waiting", "Oldest waits", "KV pool", "Requests by end", "Tokens", "Requests by endpoint and status",
            "Time to first token", "Gap between tokens", "Whole request", "Time in the queue", "Prefill", "Engine step", "Requests by state", "Refused",
            "Preempted and swapped", "Engine time", "Steps", "Oldest waiting", "Used by kind", "Share in use", "Prompt tokens from the prefix cache",
            "Responses by class", "Clients", "CPU", "Memory", "Connections and streams", "Versions and models", "Full layers", "Median full layers",
            "KV freed early", "Routed requests", "Share of full layers, per layer", "Distribution of routes", "Full layers of a request",
            "Share of full layers, last hour", "Used by kind of layer", "Freed before the end", "Pool in use", "Prompts", "Tokens from the cache",
            "Bias of the prompt admitted last", "Prompts with lowered margins"}


def promtool(*args):
    return subprocess.run(["promtool", *args], capture_output=True, text=True, timeout=60)


def test_promtool_accepts_configuration_and_rules():
    for done in (promtool("check", "config", f"{SHIPPED}/prometheus.yml"), promtool("check", "rules", *glob.glob(f"{SHIPPED}/rules/*.yml"))):
        assert done.returncode == 0 and "FAILED" not in done.stdout and done.stderr == "", done.stdout + done.stderr


def test_alerts_pass_their_tests():
    done = promtool("test", "rules", os.path.join(ROOT, "tests/e2e/alerts_test.yml"))
    assert done.returncode == 0 and "FAILED" not in done.stdout + done.stderr, done.stdout + done.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=os.path.basename)
def test_panels_have_a_place_of_their_own_and_select_by_instance(path):
    with open(path) as f:
        board = json.load(f)
    assert [v["name"] for v in board["templating"]["list"]] == ["instance"] and board["uid"]
    ids = [p["id"] for p in board["panels"]]
    assert len(ids) == len(set(ids))
    taken = set()
    for p in board["panels"]:
        g = p["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert not cells & taken and g["x"] + g["w"] <= 24, p["title"]
        taken |= cells
        for t in p.get("targets", []):
            assert '{instance=~"$instance"' in t["expr"] or "ALERTS" in t["expr"], f"{p['title']}: {t['expr']}"


ROUTER = os.path.join(ROOT, "configs/routers/smollm2-135m-instruct.safetensors")
SMALL = ["--router", ROUTER, "--sink-size", "128", "--local-window-size", "128", "--kv-pool-bytes", "22M", "--default-max-tokens", "8", "--max-model-len", "400",
         "--prefill-chunk-tokens", "256", "--itl-stretch", "100",
         "--max-num-seqs", "8", "--queue-len", "3", "--route-bias-max", "6", "--prefix-cache-bytes", "12M", "--vllm-metrics", "on"]
SENTENCE = "The report says the following about the harbour and its ships. "
HAPPENED = ("fluxd_requests_rejected_total{reason=\"queue_full\"}", "fluxd_preemptions_total", "fluxd_cached_tokens_total", "fluxd_kv_pages_given_back_total",
            "fluxd_route_biased_prompts_total", "fluxd_requests_finished_total{reason=\"cancelled\"}", "fluxd_requests_finished_total{reason=\"length\"}",
            "fluxd_http_requests_aborted_total", "fluxd_engine_idle_seconds_total")


def talk(s, i, growing):
    """An answer that outgrows its promise, and page, until its client leaves; in turn with it, a short one behind a prefix of three pages."""
    if growing or i % 2:
        path, body = "/v1/chat/completions", {"messages": [{"role": "user", "content": f"{i} " + SENTENCE * 6}], "route": "full"}
    else:
        path, body = "/v1/completions", {"prompt": SENTENCE * 24 + str(i), "max_tokens": 4, "route": ("sparse", "auto")[i // 2 % 2]}
    with Stream(s, path, timeout=600, ignore_eos=True, **body) as stream:
        stream.response = stream.conn.getresponse()
        if stream.response.status != 200:
            time.sleep(0.2)
            return
        for _ in itertools.islice(iter(stream), 150):
            pass


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A server with more requests than it has room for, and a Prometheus that scraped it while everything in HAPPENED came about. The load goes on."""
    s, over, growing = Server(*SMALL), threading.Event(), threading.Event()
    numbers = itertools.count()
    growing.set()  # alone until the pool has run out of pages

    def client():
        while not over.is_set():
            talk(s, next(numbers), growing.is_set())

    def happened():
        """Everything has; what has not stands in missing."""
        missing[:] = [name for name in HAPPENED if s.metrics().get(name, 0) == 0]
        if "fluxd_preemptions_total" not in missing:
            growing.clear()
        assert s.post("/v1/completions", {"prompt": 5}).status_code == 400
        time.sleep(0.5)
        return not missing

    missing = []
    try:
        with Prometheus(tmp_path_factory.mktemp("prometheus"), [s.port]) as prom, concurrent.futures.ThreadPoolExecutor(14) as pool:
            prom.wait_up()
            prom.wait(lambda: prom.ask("instance:fluxd_full_layers:ratio_rate5m") is not None, "rules evaluated")
            clients = [pool.submit(client) for _ in range(14)]
            try:
                wait_until(happened, lambda: missing, 600)
                prom.wait_scrapes(3)
                yield s, prom
            finally:
                over.set()
            for c in clients:
                c.result()
        assert s.stop() == 0
    finally:
        s.kill()


def test_every_panel_is_answered_and_shows_what_happened(loaded):
    _, prom = loaded
    asked = {(title, expr): prom.ask(expr) for path in DASHBOARDS for title, expr in panel_queries(path)}
    empty = [f"{title}: {expr}" for (title, expr), got in asked.items() if not got or all(math.isnan(v) for _, v in got)]
    assert not empty, "\n".join(empty)
    assert {"on-call.json", "routes.json"} == {os.path.basename(p) for p in DASHBOARDS} and NOT_ZERO <= {title for title, _ in asked}
    nothing = NOT_ZERO - {title for (title, _), got in asked.items() if any(v != 0 and not math.isnan(v) for _, v in got)}
    assert not nothing, nothing


def test_what_dashboards_of_vllm_ask_is_answered(loaded):
    """Panels made for it select by model_name, take quantiles of times, sums of tokens, and states of requests."""
    s, prom = loaded
    of = '{model_name="' + s.get("/v1/models").json()["data"][0]["id"] + '"}'
    queries = [f"histogram_quantile(0.95, sum by (le) (rate(vllm:{name}_bucket{of}[10m])))" for name in (
        "e2e_request_latency_seconds", "time_to_first_token_seconds", "inter_token_latency_seconds", "time_per_output_token_seconds",
        "request_time_per_output_token_seconds", "request_queue_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds",
        "request_inference_time_seconds", "request_prompt_tokens", "request_generation_tokens", "request_max_num_generation_tokens", "request_params_n",
        "request_params_max_tokens", "iteration_tokens_total")]
    queries += [q.replace("histogram_quantile(0.95, sum by (le) (rate(", "rate(").replace("_bucket", "_sum")[:-2] for q in queries]
    queries += [f"rate(vllm:{name}_total{of}[10m])" for name in ("prompt_tokens", "generation_tokens", "num_preemptions", "prefix_cache_queries",
                                                                 "prefix_cache_hits", "prompt_tokens_cached")]
    queries += [f"sum by (finished_reason) (increase(vllm:request_success_total{of}[10m]))", *(f"max_over_time(vllm:{name}{of}[10m])" for name in (
        "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "gpu_cache_usage_perc"))]
    for q in queries:
        got = [v for _, v in prom.ask(q)]
        assert got and any(v > 0 and not math.isnan(v) for v in got), f"{q}: {got}"
    assert prom.ask(f"vllm:num_requests_swapped{of}") and prom.ask("vllm:lora_requests_info") and prom.ask("vllm:cache_config_info")


def test_every_rule_is_evaluated_and_every_recording_has_data(loaded):
    s, prom = loaded
    groups = requests.get(f"{prom.url}/api/v1/rules", timeout=20).json()["data"]["groups"]
    rules = [r for g in groups for r in g["rules"]]
    assert len(rules) > 25 and {r["health"] for r in rules} == {"ok"}, [r for r in rules if r["health"] != "ok"]
    for r in rules:
        if r["type"] == "recording":
            got = prom.ask(r["name"])
            assert [labels["instance"] for labels, _ in got] == [f"127.0.0.1:{s.port}"] and not math.isnan(got[0][1]), r["name"]
