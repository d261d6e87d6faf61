"""systemd's protocol, with a socket of the test's own: ready when requests are answered, stopping when the drain begins, and a watchdog that
falls silent with the engine; and the unit file."""
import os
import shutil
import socket
import subprocess
import threading

import pytest

from conftest import ROOT, Server, need_binary, wait_until
from test_faults import APP, SLOW, fault

UNIT = os.path.join(ROOT, "docker/systemd/fluxd.service")


@pytest.fixture
def manager(tmp_path):
    """A socket as NOTIFY_SOCKET, and what was heard on it."""
    heard = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        path = str(tmp_path / "notify")
        s.bind(path)
        s.settimeout(0.2)
        over = threading.Event()

        def listen():
            while not over.is_set():
                try:
                    heard.append(s.recv(4096).decode())
                except TimeoutError:
                    pass

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield path, heard
        finally:
            over.set()
            thread.join()


def test_ready_is_told_when_requests_are_answered_and_stopping_when_they_no_longer_are(manager):
    need_binary()
    path, heard = manager
    s = Server(env={"NOTIFY_SOCKET": path}, wait=False)
    try:
        wait_until(lambda: "READY=1" in heard, s.logged)
        assert s.complete("Hello")["choices"] and s.get("/ready").status_code == 200
        assert heard == ["READY=1"]
        assert s.stop() == 0
        wait_until(lambda: len(heard) > 1)
        assert heard == ["READY=1", "STOPPING=1"]
    finally:
        s.kill()


def test_a_server_that_cannot_start_is_never_ready(manager, tmp_path):
    need_binary()
    path, heard = manager
    s = Server("--model", tmp_path / "none.gguf", env={"NOTIFY_SOCKET": path}, wait=False)
    assert s.proc.wait(60) == 3 and "READY=1" not in heard


def test_the_watchdog_falls_silent_with_the_engine(manager):
    need_binary(APP)
    path, heard = manager
    s = Server(binary=APP, env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000000"})
    try:
        fed = lambda: heard.count("WATCHDOG=1")  # noqa: E731
        before = fed()
        wait_until(lambda: fed() > before + 2)
        held = threading.Thread(target=lambda: s.post("/v1/completions", fault(SLOW, 80)))
        held.start()
        age = lambda: s.metrics()["fluxd_engine_heartbeat_age_seconds"]  # noqa: E731
        wait_until(lambda: age() > 2)
        before = fed()
        wait_until(lambda: age() > 5)
        assert fed() == before, "the loop answers, but the engine gives no sign of life"
        held.join()
        wait_until(lambda: fed() > before)
        assert s.stop() == 0
    finally:
        s.kill()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_unit_is_hardened_and_fits_the_settings():
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=25", UNIT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    with open(UNIT) as f:
        unit = dict(line.strip().split("=", 1) for line in f if "=" in line and not line.startswith("#"))
    assert unit["Type"] == "notify" and unit["WatchdogSec"] == "180" and unit["RestartPreventExitStatus"] == "2 3 4"
    with open(os.path.join(ROOT, "configs/default.conf")) as f:
        default = {line.lstrip("#").partition("=")[0].strip(): line.partition("=")[2].strip() for line in f if "=" in line}
    assert 1000 * int(unit["TimeoutStopSec"]) > int(default["drain-timeout-ms"]) and 1000 * int(unit["WatchdogSec"]) > int(default["step-timeout-ms"])
