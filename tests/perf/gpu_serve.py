#!/usr/bin/env python3
"""The whole server on one GPU, over HTTP, with placeholder weights of a known shape: what RESULTS.md says of serving comes from here.

usage: gpu_serve.py BIN [--shape qwen3-8b] [--flags "..."] [--out FILE] SCENARIO...

  start              seconds to ready, memory of the process
  short              64 x (1,024 in, 128 out)
  long               24 x (20,000 in, 1,000 out), three of four layers sparse
  capacity           requests of 20,000 + 200 tokens that run at once in 12 GiB of pages, all layers full and three of four sparse
  gap                8 streams while a prompt of 131,000 tokens comes, three of four layers sparse
  gaps               8 streams while 20 prompts of 20,000 tokens come at once
  turns              first token of prompts of 4,000 and 32,000 tokens, and of five that begin with each (its pages are cached), three of four layers sparse
All but capacity and turns run on one server, one after the other. Needs Python 3.11 and nothing else.
"""
import argparse
import asyncio
import json
import math
import multiprocessing
import os
import random
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
sys.path.insert(0, os.path.join(ROOT, "loadtest"))
from stream import Target, ask  # noqa: E402

LONGEST = 147_456  # tokens: the shapes' own limit may be less


def byte_symbols():
    """GPT-2's letters for the 256 bytes (Radford 2019, encoder.py's table)."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = iter(range(256, 512))
    return [chr(b if b in keep else next(extra)) for b in range(256)]


def make_model(folder, shape):
    with open(os.path.join(ROOT, "configs/shapes", shape + ".json")) as f:
        config = json.load(f)
    config["max_position_embeddings"] = max(config["max_position_embeddings"], LONGEST)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    tokenizer = {"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": {"type": "ByteLevel"},
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                           "byte_fallback": False, "vocab": {c: i for i, c in enumerate(byte_symbols())}, "merges": []}}
    with open(os.path.join(folder, "tokenizer.json"), "w") as f:
        json.dump(tokenizer, f)
    return config


class Server:
    def __init__(self, binary, model, flags):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = tempfile.NamedTemporaryFile(suffix=".log", delete=False)
        born = time.monotonic()
        self.proc = subprocess.Popen([binary, "--model", model, "--port", str(self.port), *flags], stdout=self.log, stderr=self.log,
                                     env={k: v for k, v in os.environ.items() if not k.startswith("FLUXD_")})
        self.ready_s = None
        while self.ready_s is None:
            if self.proc.poll() is not None:
                raise SystemExit(f"exit {self.proc.returncode}\n" + open(self.log.name).read()[-3000:])
            try:
                with urllib.request.urlopen(self.url + "/ready", timeout=5) as r:
                    self.ready_s = time.monotonic() - born if r.status == 200 else None
            except OSError:
                time.sleep(0.02)

    def metrics(self):
        with urllib.request.urlopen(self.url + "/metrics", timeout=30) as r:
            return {m[1]: float(m[2]) for m in re.finditer(r"^([^#\s]\S*) (\S+)$", r.read().decode(), re.M)}

    def memory_mib(self):
        """The process: all, what of it is files (programs and libraries), and the GPU's."""
        with open(f"/proc/{self.proc.pid}/status") as f:
            v = dict(re.findall(r"^(\w+):\s+(\d+) kB", f.read(), re.M))
        smi = ""
        try:
            smi = subprocess.run(["nvidia-smi", "--query-gpu=memory.used,clocks.sm,power.draw", "--format=csv,noheader"], capture_output=True, text=True, timeout=20).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
        return {k: int(v.get(k, 0)) // 1024 for k in ("VmRSS", "RssAnon", "RssFile", "RssShmem", "VmLck")} | {"gpu": smi}

    def stop(self):
        self.proc.terminate()
        try:
            self.proc.wait(40)
        except subprocess.TimeoutExpired:
            self.proc.kill()
        return self.proc.returncode


def quantile(values, q):
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)] if values else float("nan")


def sparse_route(n_layer, i):
    """Three of four layers sparse, shifted from request to request."""
    return "".join("1" if (layer + i) % 4 == 0 else "0" for layer in range(n_layer))


def body(rng, model, n_in, n_out, route):
    return {"model": model, "prompt": [rng.randint(1000, 30000) for _ in range(n_in)], "max_tokens": n_out, "temperature": 0, "ignore_eos": True,
            "return_token_ids": True, "route": route}


COUNTERS = {"steps": "fluxd_engine_steps_total", "run_s": "fluxd_engine_run_seconds_total", "idle_s": "fluxd_engine_idle_seconds_total",
            "allocated_bytes": "fluxd_engine_allocated_bytes_total", "preemptions": "fluxd_preemptions_total"}


async def read_stamps(target, b, stamps):
    reader, writer = await target.open()
    try:
        writer.write(target.request("POST", "/v1/completions", json.dumps({**b, "stream": True}).encode()))
        rest = b""
        while part := await reader.read(1 << 16):
            now = time.monotonic()
            *frames, rest = (rest + part).split(b"\n\n")
            stamps += [now] * sum(b"data: {" in f for f in frames)
    finally:
        writer.close()


def watch(url, bodies, pipe):
    """A process of its own, so that what the others send does not hold up its clock: arrival times of every stream's tokens."""
    async def go():
        stamps = [[] for _ in bodies]
        tasks = [asyncio.create_task(read_stamps(Target(url), b, s)) for b, s in zip(bodies, stamps)]
        while not pipe.poll():
            await asyncio.sleep(0.2)
        for t in tasks:
            t.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return stamps

    pipe.send(asyncio.run(go()))


class Run:
    def __init__(self, server, model, n_layer):
        self.server, self.model, self.n_layer = server, model, n_layer
        self.rng = random.Random(7)
        self.before = server.metrics()

    def counters(self):
        now, was = self.server.metrics(), self.before
        self.before = now
        out = {k: round(now.get(v, 0) - was.get(v, 0), 4) for k, v in COUNTERS.items()}
        out["idle_percent"] = round(100 * out["idle_s"] / out["run_s"], 2) if out["run_s"] else None
        return out

    async def all(self, bodies):
        target = Target(self.server.url)
        for b in (body(self.rng, self.model, 300, 4, "full"), body(self.rng, self.model, 9000, 4, sparse_route(self.n_layer, 0))):
            answer = await ask(target, "/v1/completions", b, 60)
            assert answer.ok, answer.error
        self.counters()
        return await self.together(bodies)

    async def together(self, bodies):
        target = Target(self.server.url)
        return await asyncio.gather(*(ask(target, "/v1/completions", b, 300) for b in bodies))

    def throughput(self, n, n_in, n_out, sparse):
        bodies = [body(self.rng, self.model, n_in, n_out, sparse_route(self.n_layer, i) if sparse else "full") for i in range(n)]
        answers = asyncio.run(self.all(bodies))
        failed = [a.error for a in answers if not a.ok]
        begin, end = min(a.sent for a in answers), max(a.ended for a in answers)
        gaps = [g * 1e3 for a in answers for g in a.gaps]
        firsts = [a.stamps[0] - begin for a in answers if a.stamps]
        return {"requests": n, "in": n_in, "out": n_out, "sparse": sparse, "failed": failed[:3], "wall_s": round(end - begin, 3),
                "output_tok_s": round(sum(a.tok for a in answers) / (end - begin), 1), "ttft_s": [round(quantile(firsts, q), 3) for q in (0.5, 1)],
                "gap_ms": [round(quantile(gaps, q), 2) for q in (0.5, 0.99, 1)], **self.counters()}

    def streams_and(self, prompts, seconds):
        """p99 gaps of 8 streams: idle for some seconds, then while the prompts run; and the prompts' own time."""
        here, there = multiprocessing.Pipe()
        long = [body(self.rng, self.model, 100, 20000, sparse_route(self.n_layer, i)) for i in range(8)]
        watcher = multiprocessing.Process(target=watch, args=(self.server.url, long, there), daemon=True)
        watcher.start()
        time.sleep(2)
        self.counters()
        t0 = time.monotonic()
        time.sleep(seconds)
        t1 = time.monotonic()
        idle_counters = self.counters()
        done = asyncio.run(self.together(prompts))
        t2 = time.monotonic()
        counters = self.counters()
        here.send("enough")
        answers = here.recv()
        watcher.join()
        assert all(a.ok for a in done), [a.error for a in done]
        assert len(answers) == 8 and all(a and a[0] < t0 and a[-1] > t2 for a in answers), "a stream was not there all the time"

        def gaps(begin, end):
            out = []
            for stamps in answers:
                inside = [t for t in stamps if begin <= t <= end]
                out += [(b - a) * 1e3 for a, b in zip(inside, inside[1:])]
            return out

        idle, busy = gaps(t0, t1), gaps(t1, t2)
        return {"idle_gap_ms": [round(quantile(idle, q), 2) for q in (0.5, 0.99)], "busy_gap_ms": [round(quantile(busy, q), 2) for q in (0.5, 0.99, 1)],
                "n": [len(idle), len(busy)], "p99_ratio": round(quantile(busy, 0.99) / quantile(idle, 0.99), 2),
                "p99_to_idle_median": round(quantile(busy, 0.99) / quantile(idle, 0.5), 2), "prompts_s": round(t2 - t1, 2), "idle": idle_counters, "busy": counters}

    def gap(self, n, n_in):
        prompts = [body(self.rng, self.model, n_in, 1, sparse_route(self.n_layer, i)) for i in range(n)]
        alone = asyncio.run(self.all(prompts))
        begin, end = min(a.sent for a in alone), max(a.ended for a in alone)
        self.counters()
        out = {"prompts": n, "tokens": n_in, "alone_s": round(end - begin, 2), **self.streams_and(prompts, 2.5)}
        time.sleep(0.5)
        return out

    def turns(self, n_in):
        async def first_tokens():
            target, one = Target(self.server.url), body(self.rng, self.model, n_in, 1, sparse_route(self.n_layer, 0))
            more = [{**one, "prompt": one["prompt"] + [self.rng.randint(1000, 30000) for _ in range(100)]} for _ in range(5)]
            return [await ask(target, "/v1/completions", b, 60) for b in (one, *more)]

        cold, *warm = asyncio.run(first_tokens())
        again = quantile([a.ttft for a in warm], 0.5)
        return {"tokens": n_in, "cold_s": round(cold.ttft, 4), "again_s": round(again, 4), "cached": min(a.cached_tok for a in warm), "ratio": round(cold.ttft / again, 1)}

    def held(self, sparse):
        """Most requests that ran at once, of more than fit."""
        most = {"running": 0, "usage": 0.0}

        async def poll():
            while True:
                m = await asyncio.to_thread(self.server.metrics)
                most["running"] = max(most["running"], m["fluxd_requests_running"])
                most["usage"] = max(most["usage"], m["fluxd_kv_usage_ratio"])
                await asyncio.sleep(0.05)

        async def go():
            task = asyncio.create_task(poll())
            n = 16 if sparse else 6
            got = await self.all([body(self.rng, self.model, 20000, 200, sparse_route(self.n_layer, i) if sparse else "full") for i in range(n)])
            task.cancel()
            assert all(a.ok for a in got), [a.error for a in got]

        asyncio.run(go())
        return most


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("bin")
    p.add_argument("scenario", nargs="+", choices=("start", "short", "long", "capacity", "gap", "gaps", "turns"))
    p.add_argument("--shape", default="qwen3-8b")
    p.add_argument("--model", default="", help="a directory with weights instead of placeholders")
    p.add_argument("--flags", default="", type=shlex.split)
    p.add_argument("--out", default="", help="the server's log goes there in the end")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = make_model(folder, a.shape)
        n_layer = config["num_hidden_layers"]
        flags = ["--served-model-name", a.shape, "--local-window-size", "2048"]
        if "turns" not in a.scenario:
            flags += ["--prefix-cache-bytes", "0"]  # the same prompts run alone and beside streams
        flags += a.flags
        flags += [] if a.model else ["--load-format", "dummy"]
        if "capacity" in a.scenario:
            flags += ["--kv-pool-bytes", "12G"]
        s = Server(a.bin, a.model or folder, flags)
        print(json.dumps({"scenario": "start", "flags": " ".join(flags), "ready_s": round(s.ready_s, 2), "memory_mib": s.memory_mib(),
                          "kv_pages": s.metrics()["fluxd_kv_pages"], "page_bytes": s.metrics()["fluxd_kv_page_bytes"]}), flush=True)
        try:
            run = Run(s, a.shape, n_layer)
            for name in a.scenario:
                if name == "short":
                    out = run.throughput(64, 1024, 128, False)
                elif name == "long":
                    out = run.throughput(24, 20000, 1000, True)
                elif name == "gap":
                    out = run.gap(1, 131_000)
                elif name == "gaps":
                    out = run.gap(20, 20_000)
                elif name == "turns":
                    run.turns(4000)  # the device wakes
                    out = {"of": [run.turns(n) for n in (4000, 32000)]}
                elif name == "capacity":
                    out = {"full": run.held(False), "sparse": run.held(True)}
                else:
                    continue
                print(json.dumps({"scenario": name, **out}), flush=True)
            print(json.dumps({"scenario": "end", "memory_mib": s.memory_mib()}), flush=True)
        finally:
            code = s.stop()
            print(json.dumps({"exit": code}), flush=True)
            if a.out:
                os.replace(s.log.name, a.out) if os.stat(s.log.name).st_dev == os.stat(os.path.dirname(a.out) or ".").st_dev else subprocess.run(["cp", s.log.name, a.out])


if __name__ == "__main__":
    main()
