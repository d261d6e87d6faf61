"""The process: start, readiness, memory, idleness, signals, exit codes."""
import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests

from conftest import BIN, DEVICE, MODEL, ROOT, Server, Stream, check_error, cpu_only, free_port, launch, need_binary, on_gpu, processor_s, read_log, wait_until

MIB = 1 << 20


@pytest.fixture(autouse=True)
def binary():
    need_binary()


def exit_of(*args, timeout=120, **more):
    """Exit status and output of a start that must fail."""
    proc, log = launch(*args, **more)
    try:
        return proc.wait(timeout), read_log(log)
    finally:
        if proc.poll() is None:
            proc.kill()
            proc.wait()


# --- the start

@pytest.mark.parametrize("flags", [["--no-such-flag"], ["--port", "99999"], ["--port", "x"], ["--max-num-seqs", "0"], ["--dtype", "f64"], ["--route", "fast"],
                                   ["--route", "1" * 29], ["--prefill-chunk-tokens", "100"], ["--kv-pool-bytes", "-5"], ["--host", "nowhere"], ["--port"], ["stray"],
                                   ["--max-model-len", "9000000"], ["--api-key-file", "/nonexistent"], ["--chat-template", "/nonexistent"], ["--itl-target-ms", "nan"],
                                   ["--max-num-seqs", "1e1"], ["--max-header-bytes", "128K"], ["--port", "80 "], ["--sink-size", "-2"]], ids=" ".join)
def test_bad_settings_exit_with_2_and_name_the_flag(flags):
    code, text = exit_of("--model", MODEL, "--port", free_port(), *flags)
    assert code == 2, text
    assert flags[0].lstrip("-") in text.splitlines()[-1], text


@pytest.mark.parametrize("flags,words", [
    (["--route", "fast"], "30 characters"), (["--route", "1" * 31], "30 characters"), (["--route", ""], "30 characters"), (["--route", "FULL"], "30 characters"),
    (["--triangle-n-last", "0"], "at least 1 token"), (["--local-window-size", "0"], "at least 1 token"), (["--router-pool-size", "9000"], "1..8192"),
    (["--kv-pool-bytes", "1K"], "at least"), (["--swap-space-bytes", "1000000G"], "MiB"), (["--layer-plan", "30:full"], "30"),
    (["--chat-template", os.path.join(ROOT, "README.md")], "never reads messages"), (["--chat-template", "/dev/null"], "never reads messages"), (["--chat-template", ROOT], "file"), (["--chat-template", MODEL], "file")], ids=lambda v: " ".join(v)[-40:] if isinstance(v, list) else v)
def test_what_the_model_or_machine_refuses_is_refused_before_weights_are_read(flags, words):
    code, text = exit_of("--model", MODEL, "--port", free_port(), *flags)
    last = text.splitlines()[-1]
    assert code == 2 and last.startswith(f"fluxd: {flags[0]}: ") and words in last, text
    assert "loading" not in text, text


@cpu_only("the pool is the host's memory")
def test_a_pool_that_the_machine_does_not_have_is_refused():
    code, text = exit_of("--model", MODEL, "--port", free_port(), "--kv-pool-bytes", "100000G", "--max-num-seqs", "4096")
    assert code == 2 and "--kv-pool-bytes: must be less than this machine's memory" in text.splitlines()[-1] and "loading" not in text, text


gpu_only = pytest.mark.skipif(not on_gpu(), reason="of the GPU's engine and its memory")


def shape(folder, **changes):
    """A model of placeholder weights in the folder: Llama 3.1 8B's sizes but for the changes."""
    sys.path.insert(0, os.path.join(ROOT, "tests/perf"))
    from gpu_serve import make_model

    (folder / "config.json").write_text(json.dumps({**make_model(str(folder), "llama-3.1-8b"), **changes}))
    return folder


HUGE = dict(hidden_size=16384, intermediate_size=16384, num_attention_heads=128, num_key_value_heads=16, num_hidden_layers=64, vocab_size=256)


@gpu_only
@pytest.mark.parametrize("changes, flags, words", [({"num_hidden_layers": 2}, ["--kv-pool-bytes", "4000G", "--max-num-seqs", "256"], ["KV pool", "lower it", "--kv-pool-bytes"]),
                                                   ({}, ["--gpu-memory-utilization", "0.05"], ["no room for KV pages", "raise it", "--gpu-memory-utilization"]),
                                                   (HUGE, [], ["weights do not fit"])], ids=["pool", "share", "weights"])
def test_what_does_not_fit_the_device_is_named_and_what_to_set(changes, flags, words, tmp_path):
    code, text = exit_of("--model", shape(tmp_path, **changes), "--load-format", "dummy", "--device", DEVICE, "--port", free_port(), *flags, timeout=60)
    last = text.splitlines()[-1]
    assert code == 2 and "MiB" in last and all(w in last for w in words), text


@gpu_only
def test_more_sequences_than_the_device_takes_are_refused_before_weights_are_read():
    code, text = exit_of("--model", MODEL, "--device", DEVICE, "--port", free_port(), "--max-num-seqs", "257", timeout=60)
    assert code == 2 and "--max-num-seqs: must be in 1..256" in text.splitlines()[-1] and "loading" not in text, text


def test_no_model_named_exits_with_2():
    code, text = exit_of("--port", free_port(), env={"FLUXD_MODEL": None})
    assert code == 2 and "--model" in text


def broken(tmp_path, name, cut=None, patch=()):
    """A copy of the model's first bytes, broken."""
    path = tmp_path / name
    with open(MODEL, "rb") as f:
        data = bytearray(f.read(cut if cut is not None else 3 * MIB))
    for at, value in patch:
        data[at:at + len(value)] = value
    path.write_bytes(data)
    return str(path)


MODELS = {
    "missing": lambda d: str(d / "no.gguf"), "folder": str, "empty": lambda d: broken(d, "e.gguf", 0), "4 bytes": lambda d: broken(d, "f.gguf", 4),
    "text": lambda d: broken(d, "t.gguf", 64, [(0, b"Once")]), "version 9": lambda d: broken(d, "v.gguf", None, [(4, b"\x09")]),
    "2^63 tensors": lambda d: broken(d, "n.gguf", None, [(8, b"\xff" * 8)]), "2^63 keys": lambda d: broken(d, "k.gguf", None, [(16, b"\xff" * 7 + b"\x7f")]),
    "key of 2^60 bytes": lambda d: broken(d, "l.gguf", None, [(24, b"\0" * 7 + b"\x10")]), "cut in metadata": lambda d: broken(d, "c.gguf", 100_000),
    "cut in weights": lambda d: broken(d, "w.gguf", os.path.getsize(MODEL) // 2), "cut 1 byte": lambda d: broken(d, "b.gguf", os.path.getsize(MODEL) - 1),
}


@pytest.mark.parametrize("what", MODELS)
def test_bad_model_files_exit_with_3_and_are_named(tmp_path, what):
    path = MODELS[what](tmp_path)
    code, text = exit_of("--model", path, "--port", free_port())
    assert code == 3, text
    assert os.path.basename(path) in text.splitlines()[-1], text


def test_a_broken_template_file_is_refused_before_weights_are_read(tmp_path):
    path = tmp_path / "broken.jinja"
    path.write_text("{% for m in messages %}\n{{ m.content }\n{% endfor %}")
    code, text = exit_of("--model", MODEL, "--port", free_port(), "--chat-template", path)
    assert code == 2 and "--chat-template: " in text.splitlines()[-1] and "broken.jinja: line 2" in text.splitlines()[-1] and "loading" not in text, text


def test_a_broken_template_in_the_model_is_refused_before_weights_are_read(tmp_path):
    with open(MODEL, "rb") as f:
        data = bytearray(f.read())
    at = data.index(b"{% for message in messages %}")
    data[at:at + 8] = b"{% fork "
    path = tmp_path / "template.gguf"
    path.write_bytes(data)
    code, text = exit_of("--model", path, "--port", free_port())
    assert code == 3 and "template.gguf: chat template: line 1" in text.splitlines()[-1] and "loading" not in text, text


def test_a_bad_router_file_is_refused(tmp_path):
    path = tmp_path / "r.safetensors"
    path.write_bytes(b"\xff" * 64)
    code, text = exit_of("--model", MODEL, "--port", free_port(), "--router", path)
    assert code in (2, 3) and "r.safetensors" in text, text


def test_a_port_in_use_exits_with_4():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = exit_of("--model", MODEL, "--port", port)
    assert code == 4 and str(port) in text


def test_few_descriptors_no_home_and_a_read_only_folder_do_not_hinder(make_server, tmp_path):
    import resource

    folder = tmp_path / "ro"
    folder.mkdir(mode=0o555)
    s = make_server(env={"HOME": None, "XDG_CACHE_HOME": None}, cwd=str(folder), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: s.post("/v1/completions", {"prompt": "a", "max_tokens": 2}).status_code, range(40)))
    assert set(answers) <= {200, 503} and answers.count(200) > 10
    assert s.complete("a")["choices"]


def test_settings_come_from_flag_environment_file_in_this_order(make_server, tmp_path):
    text = subprocess.run([BIN, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--max-num-seqs" in text and "--prefill-chunk-tokens" in text
    s = make_server("--max-num-seqs", "7", env={"FLUXD_MAX_NUM_SEQS": "9", "FLUXD_QUEUE_LEN": "11", "FLUXD_SERVED_MODEL_NAME": "me"})
    limits = s.get("/v1/limits").text
    assert re.search(r'"max_num_seqs"[^}]*?\b7\b', limits) and re.search(r'"queue_len"[^}]*?\b11\b', limits), limits
    assert s.get("/v1/models").json()["data"][0]["id"] == "me"
    assert s.complete("a", model="me")["model"] == "me"


def test_before_ready_the_door_is_open_and_says_loading():
    s = Server("--dtype", "f32", wait=False)
    try:
        seen = set()

        def look():
            try:
                r = s.get("/ready")
            except OSError:
                return False
            if r.status_code == 200:
                return True
            check_error(r, 503, "loading")
            assert int(r.headers["Retry-After"]) >= 1
            early = s.post("/v1/completions", {"prompt": "a", "max_tokens": 1})
            if early.status_code != 200:
                seen.add(check_error(early, 503, "loading")["code"])
            assert s.get("/health").status_code == 200
            return False

        wait_until(look, "it is never ready")
        assert seen, "the load was over before the first look"
        assert s.complete("a")["choices"]
        assert s.stop() == 0
    finally:
        s.kill()


def test_sigterm_while_loading_ends_at_once():
    s = Server("--dtype", "f32", wait=False)
    try:
        wait_until(lambda: "loading" in s.logged(), "it does not load")
        assert s.stop() == 0
        assert " ready" not in s.logged(), "it does not load to the end first"
    finally:
        s.kill()


@cpu_only("the pool is the host's memory")
def test_a_pool_that_may_not_be_taken_is_refused():
    import resource

    code, text = exit_of("--model", MODEL, "--port", free_port(), "--kv-pool-bytes", "3G", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)))
    assert code == 2 and "--kv-pool-bytes" in text.splitlines()[-1] and "lower it" in text.splitlines()[-1], text


def test_a_log_that_may_not_grow_ends_nothing(make_server):
    import resource

    s = make_server(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)))
    assert s.complete("a")["choices"] and s.get("/health").status_code == 200 and len(s.logged()) <= 64


def test_without_standard_files_no_line_of_the_log_goes_elsewhere():
    port = free_port()
    proc, _ = launch("-c", 'exec "$0" "$@" <&- >&- 2>&-', BIN, "--model", MODEL, "--port", port, "--device", DEVICE, binary="sh")
    try:
        def is_ready():
            assert proc.poll() is None
            with contextlib.suppress(OSError):
                return requests.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 200

        wait_until(is_ready)
        assert requests.post(f"http://127.0.0.1:{port}/v1/completions", json={"prompt": "a", "max_tokens": 2}, timeout=30).status_code == 200
        proc.send_signal(signal.SIGHUP)  # it is logged
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=60).json() == {"status": "ok"}
        assert [os.readlink(f"/proc/{proc.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
        proc.terminate()
        assert proc.wait(120) == 0
    finally:
        proc.kill()
        proc.wait()


# --- memory and idleness

def resident(server):
    """Memory of its own: file pages of the program and its libraries count too, shared memory of others does not."""
    with open(f"/proc/{server.proc.pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) / 1024


@pytest.mark.real_model
@cpu_only("weights and pages in host memory")
def test_resident_memory_is_weights_and_pages_in_use_and_150_mib(make_server):
    s = make_server()
    m = re.search(r"weights_mib=([\d.]+).* kv_pool_mib=([\d.]+).* resident_mib=([\d.]+)", s.logged())
    assert m, s.logged()
    weights, pool, logged = map(float, m.groups())
    now = resident(s)
    print(f"weights {weights} MiB, pool {pool} MiB, resident {logged} MiB as logged, {now:.1f} MiB seen")
    assert weights > 60 and abs(now - logged) < 60 and now < weights + 150
    page = s.metrics()["fluxd_kv_page_bytes"]
    with Stream(s, "/v1/completions", prompt=[1000 + i % 900 for i in range(2000)], max_tokens=200, ignore_eos=True) as stream:
        next(iter(stream))
        used = s.pages_used() * page / MIB
        now = resident(s)
        print(f"{used:.1f} MiB of pages in use: resident {now:.1f} MiB")
        assert used > 20 and now < weights + used + 150
        for i, _ in enumerate(stream):
            if i > 20:
                break
    s.wait_free()
    wait_until(lambda: resident(s) < weights + 150, lambda: f"after it: resident {resident(s):.1f} MiB")
    wait_until(lambda: abs(s.metrics()["process_resident_memory_bytes"] / MIB - resident(s)) < 30, "the metric tells something else")


@gpu_only
def test_host_memory_with_a_gpu_is_under_1_gib_and_flat(make_server):
    s = make_server()
    first = resident(s)
    ask = dict(prompt=[1000 + i % 900 for i in range(2000)], max_tokens=100, ignore_eos=True)
    for _ in range(3):
        s.complete(**ask)
    warm = resident(s)
    for _ in range(20):
        s.complete(**ask)
    print(f"resident {first:.0f} MiB when ready, {warm:.0f} after 3 requests, {resident(s):.0f} after 23")
    assert resident(s) < 1024 and resident(s) < warm + 16


def test_an_idle_server_uses_no_cpu(server):
    """Less than a short answer takes: what spins or polls uses many times as much."""
    server.complete("warm", max_tokens=20)
    server.wait_free()

    def spent(work):
        before = processor_s(server.proc)
        work()
        return processor_s(server.proc) - before

    answer = spent(lambda: server.complete("warm", max_tokens=100, ignore_eos=True))
    server.wait_free()
    idle = spent(lambda: time.sleep(3))
    print(f"idle: {idle / answer:.3f} of an answer of 100 tokens")
    assert idle < answer / 4


# --- the end

def read_stream(stream):
    """Frames, whether [DONE] came, and the error frame's code."""
    finish, code, n = None, None, 0
    for _, f in stream:
        if "error" in f:
            assert code is None and set(f["error"]) == {"message", "type", "param", "code"}
            code = f["error"]["code"]
            continue
        assert code is None, "nothing follows an error frame"
        n += 1
        finish = f["choices"][0]["finish_reason"] or finish
    return n, finish, code, stream.done


def open_streams(server, n, **ask):
    streams = [Stream(server, "/v1/completions", prompt=f"Stream {i} says", ignore_eos=True, **ask) for i in range(n)]
    for s in streams:
        s.open()
    return streams


def test_sigterm_lets_20_streams_end_whole():
    s = Server("--drain-timeout-ms", "300000")
    try:
        streams = open_streams(s, 20, max_tokens=60)
        with concurrent.futures.ThreadPoolExecutor(21) as pool:
            reading = [pool.submit(read_stream, x) for x in streams]
            s.wait_metric("fluxd_requests_decoding", lambda v: v > 0)
            stopping = pool.submit(s.stop)
            refusals = []
            while not stopping.done():
                try:
                    refusals += [s.post("/v1/completions", {"prompt": "late", "max_tokens": 1}), s.get("/ready")]
                except OSError:
                    break
                time.sleep(0.05)
            ends = [r.result() for r in reading]
            assert stopping.result() == 0
        late = [r for r in refusals if r.status_code != 200]
        assert late, "new requests are refused while the streams go on"
        for r in late:
            check_error(r, 503, "shutting_down")
            assert int(r.headers["Retry-After"]) >= 1
        for n, finish, code, done in ends:
            assert (finish == "length" and done and not code) or (code and not done), (n, finish, code, done)
        assert sum(done for *_, done in ends) == 20, "60 tokens fit into the drain's time"
    finally:
        s.kill()


@pytest.mark.parametrize("how", ["second signal", "deadline"])
def test_the_end_of_patience_is_an_error_frame_to_each(how):
    s = Server("--drain-timeout-ms", "400" if how == "deadline" else "3000000")
    try:
        streams = open_streams(s, 20, max_tokens=4000)
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            reading = [pool.submit(read_stream, x) for x in streams]
            s.wait_metric("fluxd_requests_accepted_total", 20)
            s.proc.send_signal(signal.SIGTERM)
            wait_until(lambda: "draining" in s.logged())
            if how == "second signal":
                s.proc.send_signal(signal.SIGTERM)
            ends = [r.result() for r in reading]
            code = s.proc.wait(120)
        assert code == 0, s.logged()
        assert all(e == "shutting_down" and not done for _, _, e, done in ends), ends
    finally:
        s.kill()


def test_signals_that_mean_nothing_change_nothing(server):
    want = server.complete("Signals", max_tokens=30)["choices"][0]["text"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        got = pool.submit(server.complete, "Signals", max_tokens=30)
        while not got.done():
            for meaningless in (signal.SIGHUP, signal.SIGPIPE, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2):
                server.proc.send_signal(meaningless)
            time.sleep(0.01)
    assert got.result()["choices"][0]["text"] == want


def test_a_stopped_process_goes_on_when_continued(server):
    with Stream(server, "/v1/completions", prompt="Pause", max_tokens=2000, temperature=0, ignore_eos=True) as s:
        frames = iter(s)
        next(frames)
        server.proc.send_signal(signal.SIGSTOP)
        time.sleep(1)
        server.proc.send_signal(signal.SIGCONT)
        assert sum(1 for _ in frames) > 10 and s.done


def test_killed_and_started_again_it_serves(make_server):
    s = make_server()
    want = s.complete("Again")["choices"][0]["text"]
    s.kill()
    again = make_server(port=s.port)
    assert again.complete("Again")["choices"][0]["text"] == want
