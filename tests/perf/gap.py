"""What a long prompt costs four running streams, and they it: quantiles of the gaps between tokens, idle (before it, and after it, when the streams
are longer) and beside the prefill, and the prefill's time, alone and beside them, for several --itl-target-ms (10) or --itl-stretch (x2).
One table on standard output; ratios are to the idle gaps before. The client is one thread that waits in epoll, so that it
takes little from a server that runs on the same cores. Every token has a frame (its ids are asked for: a character's first bytes are no text yet).
usage: gap.py [--fluxd build/fluxd] [--model FILE] [--tokens 7000] [--targets 0,x2,25,...] [--repeat N] [--steps] [-- more flags of fluxd]"""
import argparse
import gc
import http.client
import json
import math
import os
import random
import re
import select
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
STREAMS, IDLE_S, AFTER_S, WARM_TOK = 4, 4, 2, 40
FRAME = b"data: {"


def quantile(values, q):
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)] if values else float("nan")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_ready(port):
    for _ in range(1200):
        try:
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            c.request("GET", "/ready")
            if c.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit("gap.py: the server does not become ready")


class Client:
    """Streams that are read by one thread. stamps: arrival of every frame, by stream."""

    def __init__(self, port):
        self.port, self.epoll, self.socks, self.stamps, self.ended = port, select.epoll(), {}, [], []

    def send(self, n_tok, max_tokens, seed):
        rng = random.Random(seed)
        body = json.dumps({"prompt": [rng.randrange(1000, 30_000) for _ in range(n_tok)], "max_tokens": max_tokens, "ignore_eos": True, "temperature": 0,
                           "stream": True, "return_token_ids": True}).encode()
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        sock.setblocking(False)
        self.socks[sock.fileno()] = (sock, len(self.stamps))
        self.epoll.register(sock.fileno(), select.EPOLLIN)
        self.stamps.append([])
        self.ended.append(False)
        return len(self.stamps) - 1

    def read_until(self, test):
        while not test():
            for fd, _ in self.epoll.poll(0.05):
                sock, i = self.socks[fd]
                data = sock.recv(1 << 16)
                now = time.monotonic()
                if n := data.count(FRAME):
                    self.stamps[i].extend([now] * n)
                if not data:
                    self.ended[i] = True
                    self.epoll.unregister(fd)
                    sock.close()

    def prefill(self, n_tok, seed):
        """Begin and end of a prompt's prefill; the other streams are read meanwhile."""
        begin = time.monotonic()
        i = self.send(n_tok, 1, seed)
        self.read_until(lambda: self.ended[i])
        if not self.stamps[i]:
            sys.exit("gap.py: the prompt fails")
        return begin, self.stamps[i][0]

    def close(self):
        for sock, _ in self.socks.values():
            sock.close()


def gaps_in(streams, begin, end):
    return [b - a for s in streams for a, b in zip(s, s[1:]) if begin <= a and b <= end]


def measure(port, n_tok, seed):
    """Gaps idle, beside the prompt and after it, in seconds; its seconds alone and beside the streams; when it began and ended."""
    c = Client(port)
    c.prefill(n_tok, seed)  # the cost model sees its first steps
    t0, t1 = c.prefill(n_tok, seed + 1)
    alone = t1 - t0
    ids = [c.send(WARM_TOK, 6000, seed + 2 + k) for k in range(STREAMS)]
    streams = [c.stamps[i] for i in ids]
    c.read_until(lambda: all(len(s) >= WARM_TOK for s in streams))
    t0 = time.monotonic()
    c.read_until(lambda: time.monotonic() >= t0 + IDLE_S)
    t1 = time.monotonic()
    begin, end = c.prefill(n_tok, seed + 9)
    if any(c.ended[i] for i in ids):
        sys.exit("gap.py: a stream ended before the prompt did")
    c.read_until(lambda: time.monotonic() >= end + AFTER_S)
    c.close()
    return gaps_in(streams, t0, t1), gaps_in(streams, begin, end), gaps_in(streams, end, end + AFTER_S), alone, end - begin, (t0, begin, end)


STEP = re.compile(r" step begin_us=(\d+) us=(\d+) decode_us=(\d+) idle_us=\d+ rows=(\d+) pieces=(\d+) planned_prefill_ms=(\S+)")


def show_steps(log, window):
    """What the server's own log says of its steps: its clock is the client's."""
    t0, begin, end = window
    log.seek(0)
    steps = [tuple(map(float, m.groups())) for m in STEP.finditer(log.read().decode())]
    for name, a, b in (("idle", t0, begin), ("beside", begin, end), ("after", end, end + AFTER_S)):
        some = [s for s in steps if a <= s[0] * 1e-6 <= b and s[3] == STREAMS]
        for what, v in (("decode", [s[2] / 1e3 for s in some]), ("prefill", [(s[1] - s[2]) / 1e3 for s in some if s[4]]),
                        ("measured / planned", [(s[1] - s[2]) / 1e3 / s[5] for s in some if s[4]]), ("step", [s[1] / 1e3 for s in some]),
                        ("between steps", [(y[0] - x[0] - x[1]) / 1e3 for x, y in zip(some, some[1:])])):
            if v:
                print(f"  {name}: {what}: {len(v)} steps, p10 {quantile(v, .1):.2f} p50 {quantile(v, .5):.2f} p90 {quantile(v, .9):.2f} p99 {quantile(v, .99):.2f} sum {sum(v):.0f}")


def setting(word):
    return () if word == "0" else ("--itl-stretch", word[1:]) if word[0] == "x" else ("--itl-target-ms", word)


def run_one(a, ms, more, seed):
    port = free_port()
    log = tempfile.TemporaryFile()
    server = subprocess.Popen([a.fluxd, "--model", a.model, "--port", str(port), *setting(ms), "--log-level", "debug" if a.steps else "error", *more],
                              stdout=subprocess.DEVNULL, stderr=log)
    try:
        wait_ready(port)
        got = measure(port, a.tokens, seed)
    finally:
        server.terminate()
        server.wait()
    return *got, log


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--fluxd", default=os.path.join(ROOT, "build/fluxd"))
    p.add_argument("--model", default=os.path.join(ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    p.add_argument("--tokens", type=int, default=7000)
    p.add_argument("--targets", default="0,x2,x3,x4,15,25,40")
    p.add_argument("--repeat", type=int, default=1)
    p.add_argument("--steps", action="store_true", help="what the server logs of its steps, too (its log costs time)")
    a, more = p.parse_known_args()
    gc.disable()
    print(f"{STREAMS} streams beside a prompt of {a.tokens} tokens")
    print("| setting | p50 / p99 gap idle, ms | beside it | after it | p50 ratio | p99 ratio | prefill alone, s | beside, s | ratio |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for ms in a.targets.split(","):
        for r in range(a.repeat):
            idle, busy, after, alone, beside, window, log = run_one(a, ms, [m for m in more if m != "--"], 10 + 10 * r)
            i50, i99, b50, b99, a50, a99 = (1e3 * quantile(v, q) for v in (idle, busy, after) for q in (0.5, 0.99))
            print(f"| {' '.join(setting(ms)) or 'default'} | {i50:.1f} / {i99:.1f} | {b50:.1f} / {b99:.1f} | {a50:.1f} / {a99:.1f} | {b50 / i50:.2f} | {b99 / i99:.2f} "
                  f"| {alone:.2f} | {beside:.2f} | {beside / alone:.2f} |", flush=True)
            if a.steps:
                show_steps(log, window)


main()
