"""Two fluxd behind the routers that docs/deployment.md names: conversations keep their prefix hits, a server that is killed costs the
requests that it was answering and no other, streams come as they are made, errors come through.

A router that is not installed is left out: nginx (Debian), SGLANG_ROUTER, VLLM_ROUTER and LITELLM name the others' commands (PyPI)."""
import concurrent.futures
import contextlib
import json
import os
import shutil
import time

import pytest
import requests

from conftest import ROOT, Server, check_error, free_port, launch, need_binary, read_log, wait_until

WORDS = "The ships came in and left the harbour before the storm. "
N_TALK, N_TURN = 6, 4
KEY = "sk-" + "0123456789abcdef" * 4


def nginx(folder, ports):
    port = free_port()
    for name in ("common.conf", "fleet.conf"):
        with open(os.path.join(ROOT, "docker/nginx", name)) as f:
            text = f.read()
        if name == "fleet.conf":
            for old, new in (("server fluxd:8000", f"server 127.0.0.1:{ports[0]}"), ("server fluxd-2:8000", f"server 127.0.0.1:{ports[1]}"),
                             ("listen 8080", f"listen 127.0.0.1:{port}"), ("/tmp/", f"{folder}/"), ("worker_processes auto", "worker_processes 1")):
                assert old in text, old
                text = text.replace(old, new)
        (folder / name).write_text(text)
    return port, ["nginx", "-c", f"{folder}/fleet.conf", "-e", "stderr", "-g", "daemon off;"]


def rust_router(command, *more):
    """SGLang's router and vLLM's, which share their flags."""
    def make(folder, ports):
        port, metrics = free_port(), free_port()
        workers = [f"http://127.0.0.1:{p}" for p in ports]
        return port, [*command.split(), *more, "--host", "127.0.0.1", "--port", str(port), "--worker-urls", *workers, "--policy", "cache_aware",
                      "--prometheus-port", str(metrics), "--retry-max-retries", "3", "--cb-failure-threshold", "1", "--health-check-interval-secs", "1",
                      "--health-failure-threshold", "1", "--request-timeout-secs", "7500"]
    return make


def litellm(folder, ports):
    port = free_port()
    return port, [*os.environ["LITELLM"].split(), "--config", os.path.join(ROOT, "docker/fleet/litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]


ROUTERS = {"nginx": nginx, "sglang": rust_router(os.environ.get("SGLANG_ROUTER", ""), "launch"), "vllm": rust_router(os.environ.get("VLLM_ROUTER", "")),
           "litellm": litellm}
INSTALLED = {"nginx": shutil.which("nginx"), "sglang": os.environ.get("SGLANG_ROUTER"), "vllm": os.environ.get("VLLM_ROUTER"), "litellm": os.environ.get("LITELLM")}
AFFINE = [pytest.param(name, marks=pytest.mark.skipif(not INSTALLED[name], reason=f"{name} is not installed")) for name in ("nginx", "sglang", "vllm")]
ALL = [*AFFINE, pytest.param("litellm", marks=pytest.mark.skipif(not INSTALLED["litellm"], reason="LITELLM is not set"))]


class Fleet:
    """Two servers and a router in front of them."""

    def __init__(self, router, folder):
        need_binary()
        self.servers = [Server("--served-model-name", "fluxd", "--max-num-seqs", "4") for _ in range(2)]
        port, command = ROUTERS[router](folder, [s.port for s in self.servers])
        self.url = f"http://127.0.0.1:{port}"
        env = {"FLUXD_1": f"{self.servers[0].url}/v1", "FLUXD_2": f"{self.servers[1].url}/v1", "FLUXD_API_KEY": "none", "LITELLM_MASTER_KEY": KEY}
        self.proc, self.log = launch(*command[1:], binary=command[0], env=env)
        wait_until(self.answers, lambda: read_log(self.log)[-4000:], 180)

    def answers(self):
        assert self.proc.poll() is None, read_log(self.log)[-4000:]
        time.sleep(0.3)
        with contextlib.suppress(requests.ConnectionError):
            return self.chat("0", [{"role": "user", "content": "Hi"}]).status_code == 200

    def chat(self, session, messages, **fields):
        body = {"model": "fluxd", "messages": messages, "max_tokens": 4, "temperature": 0, "ignore_eos": True, **fields}
        return requests.post(f"{self.url}/v1/chat/completions", json=body, headers={"X-Session-Id": session, "Authorization": f"Bearer {KEY}"},
                             stream=bool(fields.get("stream")), timeout=300)

    def close(self):
        self.proc.terminate()
        try:
            self.proc.wait(20)
        except Exception:
            self.proc.kill()
            self.proc.wait()
        for s in self.servers:
            s.kill()


@pytest.fixture
def fleet(request, tmp_path):
    f = Fleet(request.param, tmp_path)
    yield f
    f.close()


def talk(chat, i):
    """A conversation; its cached tokens, and the statuses of its turns."""
    messages, cached, statuses = [{"role": "user", "content": f"Conversation {i}. " + WORDS * 14}], 0, []
    for turn in range(N_TURN):
        r = chat(str(i), messages)
        statuses.append(r.status_code)
        if r.status_code != 200:
            break
        cached += r.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        messages += [r.json()["choices"][0]["message"] | {"refusal": None}, {"role": "user", "content": f"And then, {turn}? " + WORDS * 6}]
        messages[-2].pop("refusal")
    return cached, statuses


@pytest.mark.parametrize("fleet", AFFINE[:2], indirect=True)  # vLLM's router moves some conversations
def test_conversations_keep_their_prefix_hits(fleet, make_server):
    single = make_server("--served-model-name", "fluxd", "--max-num-seqs", "4")

    def alone(session, messages):
        return single.post("/v1/chat/completions", {"messages": messages, "max_tokens": 4, "temperature": 0, "ignore_eos": True}, timeout=300)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        through = list(pool.map(lambda i: talk(fleet.chat, i), range(N_TALK)))
        direct = list(pool.map(lambda i: talk(alone, i), range(N_TALK)))
    assert all(statuses == [200] * N_TURN for _, statuses in through + direct)
    assert sum(c for c, _ in direct) > 0
    assert sum(c for c, _ in through) >= 0.9 * sum(c for c, _ in direct), (through, direct)
    shares = [s.metrics()["fluxd_requests_accepted_total"] for s in fleet.servers]
    assert min(shares) >= N_TURN, f"both serve: {shares}"


@pytest.mark.parametrize("fleet", AFFINE, indirect=True)
def test_a_killed_server_costs_what_it_was_answering_and_no_more(fleet):
    """Each client's request either was open when its server died, or is answered."""
    killed = []

    def client(i):
        out = []
        for turn in range(6):
            after = bool(killed)
            try:
                status = fleet.chat(f"{i}", [{"role": "user", "content": f"{i} {turn}: Hello"}], max_tokens=8).status_code
            except requests.RequestException:
                status = 0
            out.append((after, status))
            if i == 0 and turn == 1:
                fleet.servers[0].kill()
                killed.append(True)
        return out

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        calls = [c for out in pool.map(client, range(6)) for c in out]
    lost = [after for after, status in calls if status != 200]
    assert len(calls) == 36 and True not in lost, "a request was lost that was sent after the server had died"
    assert len(lost) <= 5, "each of the other clients was being answered once when it died"


@pytest.mark.parametrize("fleet", ALL, indirect=True)
def test_streams_come_as_they_are_made_and_errors_come_through(fleet):
    r = fleet.chat("s", [{"role": "user", "content": "Count"}], stream=True, max_tokens=400)
    lines = r.iter_lines()
    first = next(line for line in lines if line.startswith(b"data: "))
    assert json.loads(first[6:])["choices"]
    assert sum(s.metrics()["fluxd_requests_running"] for s in fleet.servers) == 1, "the first frame is here while the answer is being made"
    r.close()
    for s in fleet.servers:
        s.wait_metric("fluxd_requests_running", 0, 60)
    bad = fleet.chat("s", [{"role": "user", "content": "Hi"}], temperature=-1)
    assert bad.status_code == 400 and "temperature" in bad.text
    through = fleet.chat("s", [{"role": "user", "content": "What is the capital of France?"}], max_tokens=12)
    straight = fleet.servers[0].chat("What is the capital of France?", max_tokens=12, ignore_eos=True)
    assert through.json()["choices"][0]["message"]["content"] == straight["choices"][0]["message"]["content"] != ""


@pytest.mark.parametrize("fleet", AFFINE[:1], indirect=True)
def test_a_proxys_errors_are_the_servers_own(fleet):
    check_error(fleet.chat("s", [{"role": "user", "content": "Hi"}], max_tokens=-1), 400)
    assert requests.get(fleet.url + "/metrics", timeout=30).status_code == 404
