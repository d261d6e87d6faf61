"""Too many for the memory, too many for the queue, and clients that leave in every state. FLUXD_ARRIVALS and FLUXD_LEAVERS make it more."""
import concurrent.futures
import http.client
import json
import os
import random
import socket
import threading
import time

from conftest import Server, need_binary
from test_faults import APP, HELD, Hold, fault

ARRIVALS = int(os.environ.get("FLUXD_ARRIVALS", "32"))
LEAVERS = int(os.environ.get("FLUXD_LEAVERS", "40"))
SMALL = ("--kv-pool-bytes", "16M", "--max-num-seqs", "8", "--queue-len", str(ARRIVALS + 1), "--local-window-size", "128", "--prefill-chunk-tokens", "128", "--priority-aging-ms", "0")


def arrivals(seed):
    rng = random.Random(seed)
    return [dict(prompt=[rng.randrange(100, 40_000) for _ in range(rng.choice((5, 30, 90, 200, 300)))], max_tokens=rng.choice((1, 4, 12, 24)), temperature=0,
                 ignore_eos=True, return_token_ids=True, priority=rng.choice((0, 0, 0, 1)), route=rng.choice(("full", "sparse", "10" * 15))) for _ in range(ARRIVALS)]


def served(server, bodies):
    """Token ids in the order of bodies, and the places in which they ended."""
    ended, lock, out = [], threading.Lock(), [None] * len(bodies)

    def one(i):
        r = server.post("/v1/completions", bodies[i], timeout=900)
        assert r.status_code == 200, r.text
        out[i] = r.json()["choices"][0]["token_ids"]
        with lock:
            ended.append(i)

    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        list(pool.map(one, range(len(bodies))))
    return out, ended


def test_many_arrivals_in_a_pool_for_two_all_end_with_their_tokens(make_server, tmp_path):
    """All of them wait when the engine goes on. The bound on order: nobody is admitted before all of a better priority are, so when the first
    of the others ends at most seven of those still run."""
    need_binary(APP)
    bodies = arrivals(7)
    hold = Hold(tmp_path)
    small = Server(*SMALL, binary=APP, env=hold.env)
    try:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            held = pool.submit(small.post, "/v1/completions", fault(HELD))
            hold.wait()
            serving = pool.submit(served, small, bodies)
            small.wait_metric("fluxd_requests_accepted_total", 1 + ARRIVALS)
            hold.release()
            got, ended = serving.result()
            assert held.result().status_code == 200
        small.wait_free()
        assert small.stop() == 0
    finally:
        small.kill()
    large = make_server("--max-num-seqs", "8", "--queue-len", str(ARRIVALS), "--local-window-size", "128", "--prefill-chunk-tokens", "128", "--priority-aging-ms", "0")
    assert got == served(large, bodies)[0]
    favoured = sum(b["priority"] == 0 for b in bodies)
    first = next(k for k, i in enumerate(ended) if bodies[i]["priority"] == 1)
    assert first >= favoured - 7 - 1, (first, favoured)  # one more: the client's threads note the ends, not the server


def test_a_burst_beyond_the_queue_is_served_or_told_to_come_again(tmp_path):
    need_binary(APP)
    hold = Hold(tmp_path)
    s = Server("--queue-len", "8", "--max-num-seqs", "1", binary=APP, env=hold.env)
    try:
        with concurrent.futures.ThreadPoolExecutor(90) as pool:
            held = pool.submit(s.post, "/v1/completions", fault(HELD))
            hold.wait()
            sent = [pool.submit(s.post, "/v1/completions", {"prompt": f"{i}", "max_tokens": 2, "ignore_eos": True}) for i in range(80)]
            s.wait_metric('fluxd_requests_rejected_total{reason="queue_full"}', 72)
            hold.release()
            got = [x.result() for x in sent]
            assert held.result().status_code == 200
        told = [r for r in got if r.status_code == 429]
        good = [r for r in got if r.status_code == 200]
        assert len(told) + len(good) == 80 and len(good) == 8, (len(good), len(told))
        assert all(1 <= int(r.headers["Retry-After"]) <= 600 and r.json()["error"]["code"] for r in told)
        m = s.metrics()
        assert m['fluxd_requests_rejected_total{reason="queue_full"}'] == len(told) and m["fluxd_requests_accepted_total"] == 9
        s.wait_free()
        assert s.stop() == 0
    finally:
        s.kill()


def leave(server, body, when_s, reads):
    """A request whose client goes after so long, or as soon as it has read something."""
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    c.request("POST", "/v1/completions", json.dumps({"stream": True, **body}), {"Content-Type": "application/json"})
    if reads:
        c.sock.recv(1 << 12)
    time.sleep(when_s)
    c.sock.shutdown(socket.SHUT_RDWR)
    c.close()


def test_clients_that_leave_in_any_state_leave_nothing(make_server):
    """Queued, in the first and the last layers of a prompt, decoding, preempted for memory and swapped out."""
    s = make_server("--kv-pool-bytes", "24M", "--max-num-seqs", "4", "--queue-len", "64", "--default-max-tokens", "16", "--max-model-len", "600", "--swap-space-bytes", "16M",
                    "--prefill-chunk-tokens", "128", "--priority-aging-ms", "0")
    rng = random.Random(3)

    def some(n):
        bodies = [dict(prompt=[rng.randrange(100, 40_000) for _ in range(rng.choice((10, 130, 400)))], max_tokens=rng.choice((20, 150)), ignore_eos=True) for _ in range(n)]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda b: leave(s, b, rng.random() * rng.choice((0.02, 0.2, 1)), rng.random() < 0.4), bodies))
        s.wait_free()
        m = s.metrics()
        return m["process_resident_memory_bytes"], m["process_open_fds"]

    rss, fds = some(30)
    time.sleep(1.1)  # the process is looked at once a second
    rss, fds = some(4)
    some(LEAVERS)
    time.sleep(1.1)
    end_rss, end_fds = some(4)
    m = s.metrics()
    print(f"{LEAVERS} left: resident {rss / 1e6:.1f} -> {end_rss / 1e6:.1f} MB, descriptors {fds:.0f} -> {end_fds:.0f}")
    assert end_fds <= fds + 4 and end_rss < rss + 40e6
    assert m['fluxd_requests_finished_total{reason="cancelled"}'] > LEAVERS / 4
