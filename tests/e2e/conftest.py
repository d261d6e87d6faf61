"""Servers for the end-to-end tests: the real binary, a model, a free port of 127.0.0.1.

Most tests ask nothing of an answer's sense. They get build/small/SmolLM2-135M-Instruct.Q4_1.gguf, which has the real model's tokenizer, template, layers and pages but
random weights of a twentieth of its cost (tests/make_small_model.py), and a server with one thread, since they run side by side. Tests of
what is said are marked real_model. On a GPU all servers have the real one.

FLUXD_BIN names the binary (else build/fluxd), FLUXD_ASAN_BIN its sanitizer build (else build/asan/fluxd; hostile inputs go there
when it exists), FLUXD_MODEL the model of all servers, FLUXD_FLAGS more flags for every server, FLUXD_START_S the seconds a start may take.
FLUXD_TEST_DEVICE=cuda runs every server on the GPU. What only the CPU engine has is skipped there by cpu_only, which says what it is.
"""
import atexit
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

import pytest
import requests

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
BIN = os.environ.get("FLUXD_BIN", os.path.join(ROOT, "build/fluxd"))
ASAN_BIN = os.environ.get("FLUXD_ASAN_BIN", os.path.join(ROOT, "build/asan/fluxd"))
DEVICE = os.environ.get("FLUXD_TEST_DEVICE", "cpu")
REAL = os.environ.get("FLUXD_MODEL", os.path.join(ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
MODEL = REAL if DEVICE == "cuda" or "FLUXD_MODEL" in os.environ else os.path.join(ROOT, "build/small/SmolLM2-135M-Instruct.Q4_1.gguf")
START_S = float(os.environ.get("FLUXD_START_S", "300"))
ERROR_KEYS = {"message", "type", "param", "code"}


def on_gpu():
    return DEVICE == "cuda"


def cpu_only(what):
    """Mark of tests of what the GPU's engine does not have; what: it, in words."""
    return pytest.mark.skipif(on_gpu(), reason=f"the CPU engine's alone: {what}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def plain_environment():
    """Ours without FLUXD_...: a variable of the tests is no setting of the server's."""
    return {k: v for k, v in os.environ.items() if not k.startswith("FLUXD_")}


def launch(*args, binary=BIN, env=None, **more):
    """The process alone, with its output in a file; killed at the latest when the tests end. env: name -> value or None."""
    environment = {k: v for k, v in {**plain_environment(), **(env or {})}.items() if v is not None}
    log = tempfile.TemporaryFile()
    proc = subprocess.Popen([binary, *map(str, args)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, **more)
    atexit.register(lambda: proc.poll() is None and proc.kill())
    return proc, log


def read_log(log):
    log.seek(0)
    return log.read().decode(errors="replace")


def wait_until(test, what="", timeout=120):
    """What the test gives, as soon as it gives something true. The time only ends a test that hangs."""
    end = time.monotonic() + timeout
    while not (got := test()):
        assert time.monotonic() < end, f"waited in vain: {what() if callable(what) else what}"
        time.sleep(0.01)
    return got


def processor_s(proc):
    """The processor time of another process: for comparisons within a run."""
    return time.clock_gettime(~proc.pid << 3 | 2)


def seconds_of(work):
    """How long work takes: to compare two situations within a run, never for a bound of its own."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def assert_linear(proc, work, what="", times=8, slack=3, tries=12):
    """work(1) and work(times) make the process do the same for sizes that are as 1 to times. Compares the processor time it takes for
    both, the least of several runs each: what is linear costs `times` as much, what is quadratic times² of it."""

    def used(n):
        before = processor_s(proc)
        work(n)
        return processor_s(proc) - before

    small, large = [], []
    for i in range(tries):
        small.append(used(1))
        large.append(used(times))
        if i > 0 and min(large) <= slack * times * min(small):
            return
    raise AssertionError(f"{what}: {times} times the size costs {min(large) / min(small):.1f} times as much")


class Server:
    """One running fluxd. Its log stands in a file until it stops."""

    def __init__(self, *flags, model=MODEL, port=None, env=None, binary=BIN, wait=True, **more):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = requests.Session()
        args = ["--model", model, "--port", self.port, "--device", DEVICE, "--threads", 1, *os.environ.get("FLUXD_FLAGS", "").split(), *flags]
        self.proc, self.log = launch(*args, binary=binary, env=env, **more)
        if wait:
            self.wait_ready()

    def is_ready(self):
        assert self.proc.poll() is None, f"exited with {self.proc.returncode}\n{self.logged()}"
        with contextlib.suppress(requests.RequestException):
            return self.session.get(self.url + "/ready", timeout=5).status_code == 200
        return False

    def wait_ready(self):
        try:
            wait_until(self.is_ready, lambda: f"not ready in {START_S} s\n{self.logged()}", START_S)
        except AssertionError:
            self.kill()
            raise

    def logged(self):
        return read_log(self.log)

    def post(self, path, json=None, timeout=600, **more):
        """A connection of its own, so that threads may share the server."""
        return requests.post(self.url + path, json=json, timeout=timeout, **more)

    def get(self, path, timeout=120, **more):
        return requests.get(self.url + path, timeout=timeout, **more)

    def complete(self, prompt="Hello", **fields):
        """The whole answer of a completion that must succeed."""
        r = self.post("/v1/completions", {"prompt": prompt, "max_tokens": 8, "temperature": 0, **fields})
        assert r.status_code == 200, r.text
        return r.json()

    def chat(self, text="Hello", **fields):
        r = self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0, **fields})
        assert r.status_code == 200, r.text
        return r.json()

    def ids(self, text):
        return self.post("/tokenize", {"prompt": text}).json()["tokens"]

    def client(self):
        import openai

        return openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0, timeout=120)

    def metrics(self):
        """Samples by the text before the value: metrics()['fluxd_requests_running']."""
        out = {}
        for line in self.get("/metrics").text.splitlines():
            m = re.match(r"^([^#\s]\S*(?:\{[^}]*\})?)\s+(\S+)$", line)
            if m:
                out[m.group(1)] = float(m.group(2))
        return out

    def wait_metric(self, name, test, timeout=120):
        """Waits until the metric is the value (or passes the test); a failed assertion when it does not."""
        got = []

        def look():
            got[:] = [self.metrics()[name]]
            return test(got[0]) if callable(test) else got[0] == test

        wait_until(look, lambda: f"{name} is still {got} after {timeout} s", timeout)

    def pages_used(self):
        m = self.metrics()
        return m['fluxd_kv_pages_used{kind="full"}'] + m['fluxd_kv_pages_used{kind="sparse"}']

    def wait_free(self, timeout=120):
        """No request runs or waits, and no page is held."""
        self.wait_metric("fluxd_requests_running", 0, timeout)
        self.wait_metric("fluxd_requests_waiting", 0, timeout)
        self.wait_metric("fluxd_kv_usage_ratio", 0, timeout)
        assert self.pages_used() == 0

    def alive(self):
        return self.proc.poll() is None

    def stop(self, timeout=120):
        """SIGTERM; the exit status."""
        if self.alive():
            self.proc.send_signal(signal.SIGTERM)
        try:
            code = self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            print(self.logged()[-20000:])
            self.kill()
            raise
        text = self.logged()
        if code != 0 or "Sanitizer" in text:
            print(text[-20000:])
        assert "Sanitizer" not in text and "runtime error" not in text, "the sanitizer reported"
        return code

    def kill(self):
        if self.alive():
            self.proc.kill()
            self.proc.wait()


class Stream:
    """An answer in frames, read as they come: iterating gives (its number, parsed frame); done is set by [DONE].
    Leaving the with block early is the client that leaves."""

    def __init__(self, server, path, timeout=600, **body):
        self.conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
        self.conn.request("POST", path, json.dumps({"stream": True, **body}), {"Content-Type": "application/json"})
        self.response = None
        self.done = False

    def open(self):
        """Waits for the head of the answer."""
        if self.response is None:
            self.response = self.conn.getresponse()
            assert self.response.status == 200, self.response.read()
        return self.response

    def __iter__(self):
        self.open()
        rest, n = b"", 0
        while part := self.response.read1(1 << 16):
            *frames, rest = (rest + part).split(b"\n\n")
            for frame in frames:
                if frame.startswith(b": "):
                    continue
                assert frame.startswith(b"data: ") and not self.done, frame
                if frame == b"data: [DONE]":
                    self.done = True
                else:
                    n += 1
                    yield n, json.loads(frame[6:])
        assert rest == b"", rest

    def close(self):
        if self.response is not None:
            self.response.close()
        self.conn.close()

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()


def check_error(r, status, code=None, param=None):
    """An answer that is the error object, with all four keys and nothing beside it."""
    assert r.status_code == status, f"{r.status_code}: {r.text[:400]}"
    assert r.headers["Content-Type"].startswith("application/json")
    body = r.json()
    assert set(body) == {"error"} and set(body["error"]) == ERROR_KEYS, body
    e = body["error"]
    assert isinstance(e["message"], str) and e["message"] and isinstance(e["type"], str) and e["type"], e
    assert code is None or e["code"] == code, e
    assert param is None or e["param"] == param, e
    return e


def need_binary(binary=BIN):
    if not os.path.exists(binary):
        pytest.fail(f"{binary} is not built")
    for model in {MODEL, REAL}:
        if not os.path.exists(model):
            pytest.fail(f"{model} is not there")


def pytest_configure(config):
    config.addinivalue_line("markers", "real_model: asks what is said, or how long it takes: the real model's servers")


def model_of(request):
    return REAL if request.node.get_closest_marker("real_model") else MODEL


@pytest.fixture(scope="session")
def shared():
    """The servers that the tests share, by model."""
    need_binary()
    made = {}
    try:
        yield made
        for s in made.values():
            assert s.stop() == 0
    finally:
        for s in made.values():
            s.kill()


@pytest.fixture
def server(shared, request):
    """One for all tests that need nothing special. It must survive each; when a test has killed it, that test fails and the next gets another."""
    model = model_of(request)
    if model not in shared or not shared[model].alive():
        shared[model] = Server(model=model)
    yield shared[model]
    assert shared[model].alive(), shared[model].logged()[-20000:]


@pytest.fixture
def make_server(request):
    """make_server("--flag", "value", ...): servers of one test, stopped after it."""
    need_binary()
    made = []

    def make(*flags, **more):
        made.append(Server(*flags, **{"model": model_of(request), **more}))
        return made[-1]

    try:
        yield make
        for s in made:
            if s.alive():
                assert s.stop() == 0
    finally:
        for s in made:
            s.kill()
