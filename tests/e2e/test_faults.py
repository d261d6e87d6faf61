"""What clients and supervisors see of an engine that fails: the real server and engine, whose steps fail where a prompt asks for it
(tests/server/fault_app.c, built by `make build/tests/server/fault_app`; FAULT_APP names another build)."""
import concurrent.futures
import os
import signal

import pytest

from conftest import ROOT, Server, Stream, check_error, need_binary, on_gpu, wait_until

APP = os.environ.get("FAULT_APP", os.path.join(ROOT, "build/tests/server/fault_app"))
MARK, LOST, NAN, SLOW, PAGE, ADDRESS, SPIN, HELD, STARVED = 4242, 1, 2, 3, 4, 5, 6, 7, 8
END_S = 120  # only ends a test that hangs
gpu_only = pytest.mark.skipif(not on_gpu(), reason="a GPU that breaks")


@pytest.fixture
def make_faulty(make_server):
    need_binary(APP)
    return lambda *flags, **more: make_server(*flags, binary=APP, **more)


def fault(kind, argument=0, length=5):
    return dict(prompt=[MARK, MARK, kind, argument, *[5] * (length - 4)], max_tokens=40, temperature=0, ignore_eos=True)


def read(stream):
    """Text, the error frame's code, and whether [DONE] came."""
    text, code = "", None
    for _, f in stream:
        assert code is None, "nothing follows an error frame"
        if "error" in f:
            assert set(f["error"]) == {"message", "type", "param", "code"}
            code = f["error"]["code"]
        else:
            text += "".join(c["text"] for c in f["choices"])
    return text, code, stream.done


class Hold:
    """Holds the engine in the middle of a step, from fault(HELD) on until it is let go."""

    def __init__(self, folder):
        self.file = folder / "hold"
        self.file.touch()
        self.env = {"FAULT_HOLD": str(self.file)}

    def held(self):
        return os.path.exists(f"{self.file}.on")

    def wait(self):
        wait_until(self.held, "the engine is not held")

    def release(self):
        self.file.unlink(missing_ok=True)


@pytest.fixture
def hold(tmp_path):
    h = Hold(tmp_path)
    yield h
    h.release()


def test_a_lost_device_is_told_to_all_and_ends_the_process_with_70(make_faulty, hold):
    s = make_faulty("--max-num-seqs", "6", env=hold.env)
    long = dict(max_tokens=4000, ignore_eos=True, temperature=0)
    streams = [Stream(s, "/v1/completions", prompt=f"Stream {i}", **long) for i in range(4)] + [Stream(s, "/v1/completions", **{**fault(HELD), **long})]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        reading = [pool.submit(read, x) for x in streams]
        hold.wait()  # the fifth holds the engine up, so that the next ones come together
        doomed = pool.submit(s.post, "/v1/completions", {**fault(LOST, length=800), "priority": -1})
        s.wait_metric("fluxd_requests_accepted_total", 6)
        waiting = [pool.submit(s.post, "/v1/completions", {"prompt": "Waits", **long}) for _ in range(3)]
        s.wait_metric("fluxd_requests_accepted_total", 9)
        hold.release()
        check_error(doomed.result(), 500, "device_failure")
        for w in waiting:
            check_error(w.result(), 500, "device_failure")
        ends = [r.result() for r in reading]
    assert s.proc.wait(END_S) == 70
    for text, code, done in ends:
        assert text and code == "device_failure" and not done
    assert "engine is lost" in s.logged()
    again = make_faulty(port=s.port)
    assert again.complete("The capital of France is", max_tokens=3)["choices"][0]["text"]


@pytest.mark.real_model
def test_a_sequence_without_finite_logits_fails_alone(make_faulty):
    s = make_faulty()
    ask = dict(prompt="Once upon a time", max_tokens=60, temperature=0, ignore_eos=True)
    want = s.complete(**ask)["choices"][0]["text"]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        mates = [pool.submit(s.complete, **ask) for _ in range(3)]
        s.wait_metric("fluxd_requests_decoding", lambda v: v > 0)
        check_error(s.post("/v1/completions", fault(NAN)), 500, "model_output_invalid")
        with Stream(s, "/v1/completions", **fault(NAN)) as x:
            text, code, done = read(x)
        assert text and code == "model_output_invalid" and not done
        assert [m.result()["choices"][0]["text"] for m in mates] == [want] * 3
    assert s.metrics()['fluxd_requests_finished_total{reason="error"}'] == 2
    s.wait_free()
    assert s.complete(**ask)["choices"][0]["text"] == want


def test_a_page_of_nan_fails_its_own_request_alone(make_faulty):
    s = make_faulty()
    ask = dict(prompt="Once upon a time", max_tokens=60, temperature=0, ignore_eos=True, logprobs=1)
    want = s.complete(**ask)["choices"][0]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        mates = [pool.submit(s.complete, **ask) for _ in range(3)]
        s.wait_metric("fluxd_requests_decoding", lambda v: v > 0)
        with Stream(s, "/v1/completions", **fault(PAGE)) as x:
            text, code, done = read(x)
        assert text and code == "model_output_invalid" and not done
        assert [m.result()["choices"][0] for m in mates] == [want] * 3
    s.wait_free()
    for _ in range(3):  # the next owner of the page must not see what it held
        assert s.complete(**ask)["choices"][0] == want
    assert s.complete([7] * 700, max_tokens=4, ignore_eos=True)["usage"]["completion_tokens"] == 4
    assert s.metrics()['fluxd_requests_finished_total{reason="error"}'] == 1


@gpu_only
def test_a_kernel_that_writes_nowhere_is_told_to_all_and_ends_the_process_with_70(make_faulty):
    s = make_faulty("--max-num-seqs", "4")
    long = dict(max_tokens=4000, ignore_eos=True, temperature=0)
    streams = [Stream(s, "/v1/completions", prompt=f"Stream {i}", **long) for i in range(3)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        reading = [pool.submit(read, x) for x in streams]
        s.wait_metric("fluxd_requests_decoding", 3)
        check_error(s.post("/v1/completions", fault(ADDRESS)), 500, "device_failure")
        ends = [r.result() for r in reading]
        assert s.proc.wait(END_S) == 70
    for text, code, done in ends:
        assert text and code == "device_failure" and not done
    assert "engine is lost" in s.logged() and "illegal memory access" in s.logged()
    again = make_faulty(port=s.port)
    assert again.complete("The capital of France is", max_tokens=3)["choices"][0]["text"]


@gpu_only
def test_a_kernel_that_never_ends_is_told_to_all_and_ends_the_process_with_70(make_faulty):
    s = make_faulty("--step-timeout-ms", "600")
    with Stream(s, "/v1/completions", prompt="Once", max_tokens=4000, ignore_eos=True) as mate, \
            Stream(s, "/v1/completions", **fault(SPIN)) as x, concurrent.futures.ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read, x), pool.submit(read, mate)]
        assert s.proc.wait(END_S) == 70
        for text, code, done in (r.result() for r in reading):
            assert code == "device_failure" and not done
    again = make_faulty(port=s.port)
    assert again.complete("The capital of France is", max_tokens=3)["choices"][0]["text"]


def test_a_stalled_engine_is_unhealthy_and_recovers(make_faulty, hold):
    s = make_faulty("--health-timeout-ms", "300", "--stream-ping-ms", "100", env=hold.env)
    with Stream(s, "/v1/completions", **fault(HELD)) as x, concurrent.futures.ThreadPoolExecutor(1) as pool:
        frames = pool.submit(lambda: x.open().read().decode())
        hold.wait()
        wait_until(lambda: s.get("/health").status_code == 503, "a held engine is healthy")
        for path in ("/health", "/ready"):
            r = s.get(path)
            check_error(r, 503, "overloaded")
            assert int(r.headers["Retry-After"]) >= 1
        first = s.metrics()["fluxd_engine_heartbeat_age_seconds"]
        assert s.metrics()["fluxd_engine_heartbeat_age_seconds"] > first and hold.held(), "a scrape does not wait for the engine"
        hold.release()
        body = frames.result()
    assert body.count(": ping\n\n") > 0 and body.endswith("data: [DONE]\n\n")
    wait_until(lambda: s.get("/health").status_code == s.get("/ready").status_code == 200, "healthy again")
    s.wait_free()


def test_a_step_that_never_ends_is_told_to_all_and_ends_the_process_with_70(make_faulty, hold):
    s = make_faulty("--step-timeout-ms", "600", env=hold.env)
    with Stream(s, "/v1/completions", prompt="Once", max_tokens=4000, ignore_eos=True) as mate, \
            Stream(s, "/v1/completions", **fault(HELD)) as x, concurrent.futures.ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read, x), pool.submit(read, mate)]
        assert s.proc.wait(END_S) == 70 and hold.file.exists(), "it does not wait for the step"
        for text, code, done in (r.result() for r in reading):
            assert code == "device_failure" and not done
    assert "the engine hangs" in s.logged()


def test_a_step_that_ends_too_late_ends_the_process_with_70(make_faulty, hold):
    s = make_faulty("--step-timeout-ms", "600", env=hold.env)
    with Stream(s, "/v1/completions", **fault(HELD)) as x, concurrent.futures.ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, x)
        wait_until(lambda: "the engine hangs" in s.logged(), "the hang is not seen")
        hold.release()  # the engine comes back while the end waits for it
        text, code, done = reading.result()
        assert code == "device_failure" and not done
    assert s.proc.wait(END_S) == 70, s.logged()


def test_a_step_that_waits_for_the_processor_does_not_hang(make_faulty):
    """It needs less than the limit, and the 24 others on its processor make it last for several limits. The ticks of the watch come on time."""
    s = make_faulty("--step-timeout-ms", "500", "--max-num-seqs", "4")
    ask = dict(prompt="Once upon a time", max_tokens=30, temperature=0, ignore_eos=True)
    want = s.complete(**ask)["choices"][0]["text"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        mate = pool.submit(s.complete, **ask)
        assert s.complete(**fault(STARVED, 60))["usage"]["completion_tokens"] == 40
        assert mate.result()["choices"][0]["text"] == want
    assert s.alive() and "the engine hangs" not in s.logged()


def test_an_engine_that_hangs_does_not_hold_up_the_end(make_faulty, hold):
    s = make_faulty(env=hold.env)
    with Stream(s, "/v1/completions", **fault(HELD)) as x, concurrent.futures.ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, x)
        hold.wait()
        s.proc.send_signal(signal.SIGTERM)
        s.wait_metric("fluxd_draining", 1)
        s.proc.send_signal(signal.SIGTERM)
        assert s.proc.wait(END_S) == 0 and hold.file.exists(), "it does not wait for the step"
        text, code, done = reading.result()
    assert text and code == "shutting_down" and not done
