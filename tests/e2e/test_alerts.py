"""Alerts fire when their cause is real: servers that are overloaded, held, broken, killed. Ranges are short, alerts fire at once, and
limits in seconds are lower, so that a cause may last seconds. The engine's faults come from fault_app, as in test_faults."""
import concurrent.futures
import contextlib
import os
import time

import pytest

from conftest import Server, Stream, free_port, need_binary
from monitoring import Prometheus
from test_faults import APP, NAN, SLOW, fault

pytestmark = pytest.mark.real_model  # its slowness

CHANGES = {"heartbeat_age_seconds > 10": "heartbeat_age_seconds > 1", "waiting_age_seconds > 30": "waiting_age_seconds > 1",
           "kv_usage_ratio > 0.95": "kv_usage_ratio > 0.7", "preemptions_total[5m]) > 0.1": "preemptions_total[5m]) > 0",
           'le=~"4(\\\\.0)?"': 'le="0.1"', 'le="0.25"': 'le="0.05"'}
SMALL = ["--kv-pool-bytes", "22M", "--default-max-tokens", "8", "--max-model-len", "264", "--prefill-chunk-tokens", "256", "--itl-stretch", "100", "--max-num-seqs", "6", "--queue-len", "2", "--prefix-cache-bytes", "0"]


@pytest.fixture
def watched(tmp_path):
    """watched(server, factor): a Prometheus that scrapes it, with ranges that last a factor-th of their time."""
    with contextlib.ExitStack() as stack:
        def make(server, factor=60):
            prom = stack.enter_context(Prometheus(tmp_path, [server.port], factor, CHANGES))
            prom.wait_up()
            prom.wait(lambda: not prom.firing(), "no alert")
            return prom
        yield make


@contextlib.contextmanager
def load(n, one):
    """n clients that do one() again and again while the block runs."""
    over = []

    def client(i):
        while not over:
            one(i)

    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        clients = [pool.submit(client, i) for i in range(n)]
        try:
            yield
        finally:
            over.append(True)
        for c in clients:
            c.result()


def grow(s, i):
    """An answer that outgrows its promise, and page; its client leaves after some frames."""
    message = {"role": "user", "content": f"{i} " + "The ships came in and left the harbour. " * 8}
    with Stream(s, "/v1/chat/completions", messages=[message], ignore_eos=True, route="full") as stream:
        stream.response = stream.conn.getresponse()
        if stream.response.status != 200:
            time.sleep(0.2)
            return
        for _ in zip(range(150), stream):
            pass


def test_too_much_load_fills_queue_and_pool_and_is_late(make_server, watched):
    s = make_server(*SMALL)
    prom = watched(s, 10)
    with load(10, lambda i: grow(s, i)):
        for name in ("FluxdQueueFilling", "FluxdQueueFull", "FluxdKvPoolFull", "FluxdPreempting", "FluxdTtftBudgetBurnsFast", "FluxdTtftBudgetBurns"):
            prom.wait_firing(name)


def test_a_held_and_a_broken_engine(watched):
    need_binary(APP)
    s = Server(binary=APP)
    try:
        prom = watched(s)
        with load(2, lambda i: s.post("/v1/completions", {**fault(SLOW, 4), "max_tokens": 4})):
            prom.wait_firing("FluxdGapBudgetBurnsFast")
            prom.wait_firing("FluxdGapBudgetBurns")
        with load(1, lambda i: s.post("/v1/completions", fault(NAN))):
            prom.wait_firing("FluxdErrors")
        with load(1, lambda i: s.post("/v1/completions", {**fault(SLOW, 80), "max_tokens": 4})):
            prom.wait_firing("FluxdNoProgress")
        assert s.stop() == 0
    finally:
        s.kill()


def test_prompts_that_stop_beginning_alike(make_server, watched):
    s = make_server()
    prom = watched(s, 20)
    shared = "The ships came in and left the harbour. " * 17
    ask = lambda prompt: s.complete(prompt, max_tokens=1)  # noqa: E731
    ask(shared)
    with load(1, lambda i: ask(shared)):
        prom.wait(lambda: [v for _, v in prom.ask("instance:fluxd_prefix_cached:ratio_rate6h") if v > 0.3], "hits")
        for _ in range(200):
            ask(shared)
    assert "FluxdPrefixHitsFalling" not in prom.firing()

    def miss(i):
        ask(os.urandom(8).hex() + shared)
        time.sleep(0.3)      # few enough that the long window still knows the hits when the alert is due

    with load(1, miss):
        prom.wait_firing("FluxdPrefixHitsFalling")


def test_a_server_that_starts_again_and_again_is_gone_or_unknown(watched):
    need_binary()
    port = free_port()
    made = [Server(port=port)]
    try:
        prom = watched(made[0], 3)
        for _ in range(2):
            made[-1].kill()
            made.append(Server(port=port))
            start = made[-1].metrics()["process_start_time_seconds"]
            prom.wait(lambda: [v for _, v in prom.ask("process_start_time_seconds")] == [start], "the new start is seen")
        prom.wait_firing("FluxdRestarts")
        assert made[-1].stop() == 0
        prom.wait_firing("FluxdDown")
        prom.set_targets([])
        prom.wait_firing("FluxdMissing")
    finally:
        for s in made:
            s.kill()
