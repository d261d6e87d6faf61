"""A start with too little: few threads, few files, standard streams that nobody reads. The law: the server is ready and serves, or it says why in
one line and exits with the code for it."""
import concurrent.futures
import contextlib
import fcntl
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import tempfile
import threading

import pytest
import requests

from conftest import BIN, DEVICE, MODEL, free_port, need_binary, plain_environment, wait_until

CODES = {2, 3, 4, 70}  # of the README


@pytest.fixture(autouse=True)
def binary():
    need_binary()


@pytest.fixture(scope="module")
def open_to_all():
    """Paths of the binary and the model that every user may reach."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)

        def reach(path):
            at = path
            while at != "/":
                at = os.path.dirname(at)
                if not os.stat(at).st_mode & stat.S_IXOTH:
                    return shutil.copy(path, folder)
            return path

        yield reach(BIN), reach(os.path.realpath(MODEL))


def serves(port):
    """Whether it answers a completion whole."""
    r = requests.post(f"http://127.0.0.1:{port}/v1/completions", json={"prompt": "Hello", "max_tokens": 3, "ignore_eos": True}, timeout=60)
    return r.status_code == 200 and r.json()["usage"]["completion_tokens"] == 3


def ready_or_exit(proc, port):
    """True when it is ready, False when it has exited."""
    def look():
        if proc.poll() is not None:
            return True
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"http://127.0.0.1:{port}/ready", timeout=60).status_code == 200
        return False

    wait_until(look, "neither ready nor gone")
    return proc.poll() is None


def start_and_look(before, paths=(BIN, MODEL), flags=()):
    """Starts it, `before` run in the new process; None when it served and ended clean, else its code and what it said."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        proc = subprocess.Popen([paths[0], "--model", paths[1], "--port", str(port), "--device", DEVICE, *flags], stdin=subprocess.DEVNULL, stdout=log,
                                stderr=log, env=plain_environment(), preexec_fn=before, cwd="/")
        try:
            if ready_or_exit(proc, port):
                for _ in range(3):
                    assert serves(port)
                assert requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).status_code == 200
                assert proc.poll() is None
                proc.terminate()
                assert proc.wait(60) == 0
                return None
        finally:
            if proc.poll() is None:
                proc.kill()
            proc.wait()
        log.seek(0)
        return proc.returncode, log.read().decode()


def at_once(look, limits):
    """Some starts side by side, for each of the limits."""
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        return list(pool.map(look, limits))


def is_one_line_and_a_code(end):
    code, text = end
    lines = [line for line in text.splitlines() if not line[:2] == "20"]  # the log's lines begin with their time
    return code in CODES and len(lines) == 1 and lines[0].startswith("fluxd: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="the limit is one of the user: it takes root to become another, whose threads are none but these")
@pytest.mark.parametrize("flags", [(), ("--threads", "1"), ("--threads", "4")], ids=" ".join)
def test_with_few_threads_it_serves_or_says_so_and_exits_with_70(open_to_all, flags):
    def become_another(n):
        uid = random.SystemRandom().randrange(1 << 20, 1 << 24)
        os.setgroups([])
        os.setgid(uid)
        resource.setrlimit(resource.RLIMIT_NPROC, (n, n))
        os.setuid(uid)

    ends = at_once(lambda n: start_and_look(lambda: become_another(n), open_to_all, flags), [*range(1, 13), 20])
    assert ends[-1] is None, "20 are enough"
    for end in ends:
        if end is not None:
            assert is_one_line_and_a_code(end) and end[0] == 70 and "thread" in end[1].splitlines()[-1], end
    served = [end is None for end in ends]
    assert served == sorted(served) and not served[0], f"more threads never hinder: {served}"


def test_with_few_files_it_serves_or_says_so_and_exits():
    ends = at_once(lambda n: start_and_look(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))), [8, 9, 10, 12, 14, 16, 18, 20, *range(22, 36), 40, 64])
    assert ends[-1] is None, "64 are enough"
    for end in ends:
        if end is not None:
            assert is_one_line_and_a_code(end), end
    served = [end is None for end in ends]
    assert served == sorted(served) and not served[0], f"more files never hinder: {served}"


# --- streams

def full_pipe():
    """Both ends of a pipe without any room. Not O_NONBLOCK at the writer's end: as shells make them."""
    r, w = os.pipe()
    fcntl.fcntl(w, fcntl.F_SETPIPE_SZ, 4096)
    os.write(w, b"x" * 4096)
    return r, w


def full_terminal():
    """Both ends of a terminal whose other side reads nothing any more."""
    r, w = os.openpty()
    flags = fcntl.fcntl(w, fcntl.F_GETFL)
    fcntl.fcntl(w, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(w, b"x" * 256)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(w, b"x")
    fcntl.fcntl(w, fcntl.F_SETFL, flags)
    return r, w


def full_socket():
    import socket

    a, b = socket.socketpair()
    b.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            b.send(b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            b.send(b"x")
    b.setblocking(True)
    return a.detach(), b.detach()


FULL = {"pipe": full_pipe, "terminal": full_terminal, "socket": full_socket}


@pytest.mark.parametrize("which", ["stdout", "stderr", "both"])
@pytest.mark.parametrize("kind", FULL)
def test_a_standard_stream_that_nobody_reads_hinders_nothing(kind, which):
    port = free_port()
    r, w = FULL[kind]()
    flags = fcntl.fcntl(w, fcntl.F_GETFL)
    streams = {s: w if which in (s, "both") else subprocess.DEVNULL for s in ("stdout", "stderr")}
    proc = subprocess.Popen([BIN, "--model", MODEL, "--port", str(port), "--device", DEVICE, "--log-level", "debug"], stdin=subprocess.DEVNULL, env=plain_environment(), **streams)
    try:
        assert ready_or_exit(proc, port)
        for _ in range(3):
            assert serves(port)
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code == 200
        proc.send_signal(signal.SIGHUP)
        assert serves(port)
        lost = [x for x in requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text.splitlines() if x.startswith("fluxd_log_lines_dropped_total ")]
        assert (float(lost[0].split()[1]) > 0) == (which != "stdout"), "lost lines are counted"
        assert fcntl.fcntl(w, fcntl.F_GETFL) == flags, "what others share is left as it was"
        proc.terminate()
        assert proc.wait(60) == 0
    finally:
        proc.kill()
        proc.wait()
        os.close(r)
        os.close(w)


def read_all(fd, into):
    while part := os.read(fd, 1 << 16):
        into.append(part)


def test_lost_lines_are_told_once_there_is_room():
    port = free_port()
    r, w = full_pipe()
    proc = subprocess.Popen([BIN, "--model", MODEL, "--port", str(port), "--device", DEVICE], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=w, env=plain_environment())
    os.close(w)
    parts = []
    reader = threading.Thread(target=read_all, args=(r, parts))
    try:
        assert ready_or_exit(proc, port) and serves(port)
        reader.start()
        wait_until(lambda: b"log lines lost" in b"".join(parts), "lost lines are told")
        assert serves(port)
        proc.terminate()
        assert proc.wait(60) == 0
        reader.join(60)
        text = b"".join(parts).lstrip(b"x").decode()
        assert "ready" not in text and text.count("log lines lost") == 1 and text.splitlines()[-1].endswith("end exit=0"), text
        assert "request" in text, "lines flow again"
    finally:
        proc.kill()
        proc.wait()
        os.close(r)


@pytest.mark.parametrize("kind", FULL)
@pytest.mark.parametrize("flags,code", [(["--port", "x"], 2), (["--model", "/nonexistent"], 3)], ids=["settings", "model"])
def test_last_words_that_nobody_reads_do_not_hold_up_the_end(kind, flags, code):
    r, w = FULL[kind]()
    try:
        args = [BIN, *([] if "--model" in flags else ["--model", MODEL]), *([] if "--port" in flags else ["--port", "0"]), "--device", DEVICE, *flags]
        assert subprocess.run(args, stdin=subprocess.DEVNULL, stdout=w, stderr=w, env=plain_environment(), timeout=60).returncode == code
    finally:
        os.close(r)
        os.close(w)


def test_last_words_wait_a_moment_for_a_slow_reader():
    r, w = full_pipe()
    proc = subprocess.Popen([BIN, "--model", MODEL, "--port", "x"], stdin=subprocess.DEVNULL, stdout=w, stderr=w, env=plain_environment())
    os.close(w)
    parts = []
    read_all(r, parts)
    os.close(r)
    assert proc.wait(60) == 2 and b"--port" in b"".join(parts)
