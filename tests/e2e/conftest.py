"""Servers for the end-to-end tests: the real binary, the small model, a free port of 127.0.0.1.

FLUXD_BIN names the binary (else build/fluxd), FLUXD_MODEL the model file, FLUXD_FLAGS more flags for every server (a sanitizer
build is slow to load: FLUXD_START_S gives it more seconds).
"""
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
MODEL = os.environ.get("FLUXD_MODEL", os.path.join(ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
START_S = float(os.environ.get("FLUXD_START_S", "30"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """One running fluxd. Its log stands in a file until it stops."""

    def __init__(self, *flags, env=None):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = tempfile.TemporaryFile()
        args = [BIN, "--model", MODEL, "--port", str(self.port), *os.environ.get("FLUXD_FLAGS", "").split(), *flags]
        self.proc = subprocess.Popen(args, stdout=self.log, stderr=self.log, env={**os.environ, **(env or {})})
        self.session = requests.Session()
        self.wait_ready()

    def wait_ready(self):
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self.proc.poll() is None, f"exited with {self.proc.returncode}\n{self.logged()}"
            try:
                if self.session.get(self.url + "/ready", timeout=2).status_code == 200:
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"not ready in {START_S} s\n{self.logged()}")

    def logged(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def post(self, path, json=None, timeout=120, **more):
        """A connection of its own, so that threads may share the server."""
        return requests.post(self.url + path, json=json, timeout=timeout, **more)

    def get(self, path, timeout=30, **more):
        return requests.get(self.url + path, timeout=timeout, **more)

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

    def wait_metric(self, name, value, timeout=10):
        """A failed assertion when the metric does not come to the value."""
        end = time.monotonic() + timeout
        while True:
            got = self.metrics()[name]
            if got == value:
                return
            assert time.monotonic() < end, f"{name} is {got}, not {value}, after {timeout} s"
            time.sleep(0.01)

    def alive(self):
        return self.proc.poll() is None

    def stop(self, timeout=40):
        """SIGTERM; the exit status."""
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        try:
            code = self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        if code != 0 or "Sanitizer" in self.logged():
            print(self.logged()[-20000:])
        return code

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()


def need_binary():
    if not os.path.exists(BIN):
        pytest.skip(f"{BIN} is not built")
    if not os.path.exists(MODEL):
        pytest.skip(f"{MODEL} is not there")


@pytest.fixture(scope="session")
def server():
    """One for all tests that need nothing special. It must survive them all and exit with 0."""
    need_binary()
    s = Server()
    yield s
    assert s.alive(), s.logged()[-20000:]
    assert s.stop() == 0


@pytest.fixture
def make_server():
    """make_server("--flag", "value", ...): servers of one test, stopped after it."""
    need_binary()
    made = []

    def make(*flags, env=None):
        made.append(Server(*flags, env=env))
        return made[-1]

    yield make
    for s in made:
        if s.alive():
            assert s.stop() == 0
        s.kill()
