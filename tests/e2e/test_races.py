"""A server built with ThreadSanitizer under mixed work: no two threads touch one place without a lock or an atomic between them."""
import concurrent.futures
import itertools
import os

import pytest

from conftest import ROOT, Server, Stream

TSAN_BIN = os.environ.get("FLUXD_TSAN_BIN", os.path.join(ROOT, "build/tsan/fluxd"))
LARGE = "The ships came in and left the harbour. " * 400

pytestmark = pytest.mark.skipif(not os.path.exists(TSAN_BIN), reason="`make races` builds the server with ThreadSanitizer")


def whole(s, i):
    assert s.complete(f"Request {i}", max_tokens=12, n=2)["choices"][1]["text"]


def streamed(s, i):
    with Stream(s, "/v1/chat/completions", messages=[{"role": "user", "content": f"Stream {i}"}], max_tokens=12, ignore_eos=True) as x:
        assert sum(1 for _ in x) >= 12


def left(s, i):
    with Stream(s, "/v1/completions", prompt=f"Left {i}", max_tokens=1500, ignore_eos=True) as x:
        next(iter(x))


def large(s, _):
    assert s.post("/tokenize", {"prompt": LARGE}).json()["count"] > 3000


def scraped(s, _):
    assert s.metrics()["fluxd_requests_accepted_total"] >= 0


def refused(s, _):
    assert s.post("/v1/completions", {"prompt": "", "max_tokens": -1}).status_code == 400


def test_nothing_races_under_mixed_work_and_a_drain():
    s = Server("--max-num-seqs", "6", "--kv-pool-bytes", "48M", binary=TSAN_BIN, env={"TSAN_OPTIONS": "exitcode=66"})
    try:
        jobs = list(itertools.islice(itertools.cycle([whole, streamed, left, large, scraped, refused]), 36))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(job, s, i) for i, job in enumerate(jobs)]:
                done.result()
            with Stream(s, "/v1/completions", prompt="Drained", max_tokens=30, ignore_eos=True) as x:
                frames = iter(x)
                next(frames)
                stopped = pool.submit(s.stop)
                assert sum(1 for _ in frames) > 20 and x.done
                assert stopped.result() == 0, s.logged()[-20000:]
    finally:
        s.kill()
    assert "ThreadSanitizer" not in s.logged(), s.logged()[-20000:]
