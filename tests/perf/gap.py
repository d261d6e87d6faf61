"""What a long prompt costs four running streams, and they it: p99 of the gaps between tokens, idle and beside the prefill, and the prefill's
time, alone and beside them, for several --itl-target-ms. One table on standard output.
usage: gap.py [--fluxd build/fluxd] [--model FILE] [--tokens 7000] [--targets 0,10,...] [-- more flags of fluxd]"""
import argparse
import asyncio
import os
import random
import socket
import subprocess
import sys
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
sys.path.insert(0, os.path.join(ROOT, "loadtest"))
from load import quantile  # noqa: E402
from stream import Answer, Target, ask, get_json, read_answer  # noqa: E402

STREAMS, IDLE_S = 4, 4


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


async def wait_ready(target):
    for _ in range(1200):
        try:
            if (await get_json(target, "/ready"))[0] == 200:
                return
        except (OSError, EOFError, ValueError):
            pass
        await asyncio.sleep(0.05)
    sys.exit("gap.py: the server does not become ready")


async def run_stream(target, prompt, answer):
    """A stream whose stamps can be read while it runs."""
    import json
    body = {"prompt": prompt, "max_tokens": 4000, "ignore_eos": True, "temperature": 0, "stream": True}
    reader, writer = await target.open()
    try:
        writer.write(target.request("POST", "/v1/completions", json.dumps(body).encode()))
        await read_answer(reader, answer)
    finally:
        writer.close()


def gaps_in(answers, begin, end):
    return [b - a for x in answers for a, b in zip(x.stamps, x.stamps[1:]) if begin <= a and b <= end]


async def prefill_s(target, n_tok, seed):
    rng = random.Random(seed)
    a = await ask(target, "/v1/completions", {"prompt": [rng.randrange(1000, 30_000) for _ in range(n_tok)], "max_tokens": 1, "temperature": 0}, 600)
    if not a.ok:
        sys.exit(f"gap.py: the prompt fails: {a.status} {a.error}")
    return a.sent, a.stamps[0]


async def measure(target, n_tok, seed):
    """Seconds: prefill alone, p99 gap idle, prefill beside the streams, p99 gap then."""
    await prefill_s(target, n_tok, seed) # the cost model sees its first steps
    t0, t1 = await prefill_s(target, n_tok, seed + 1)
    alone = t1 - t0
    answers = [Answer() for _ in range(STREAMS)]
    rng = random.Random(seed + 2)
    tasks = [asyncio.create_task(run_stream(target, [rng.randrange(1000, 30_000) for _ in range(40)], a)) for a in answers]
    while any(len(a.stamps) < 40 for a in answers):
        await asyncio.sleep(0.05)
    t0 = time.monotonic()
    await asyncio.sleep(IDLE_S)
    t1 = time.monotonic()
    begin, end = await prefill_s(target, n_tok, seed + 3)
    if any(t.done() for t in tasks):
        sys.exit("gap.py: a stream ended before the prompt did")
    for t in tasks:
        t.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    idle, busy = gaps_in(answers, t0, t1), gaps_in(answers, begin, end)
    return alone, quantile(idle, 0.99), end - begin, quantile(busy, 0.99), quantile(idle, 0.5), quantile(busy, 0.5)


def run_one(a, ms, more, seed):
    port = free_port()
    server = subprocess.Popen([a.fluxd, "--model", a.model, "--port", str(port), "--itl-target-ms", str(ms), "--log-level", "error", *more], stdout=subprocess.DEVNULL)

    async def all_of_it():
        target = Target(f"http://127.0.0.1:{port}")
        await wait_ready(target)
        return await measure(target, a.tokens, seed)

    try:
        return asyncio.run(all_of_it())
    finally:
        server.terminate()
        server.wait()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--fluxd", default=os.path.join(ROOT, "build/fluxd"))
    p.add_argument("--model", default=os.path.join(ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    p.add_argument("--tokens", type=int, default=7000)
    p.add_argument("--targets", default="0,8,12,16,24,40")
    p.add_argument("--repeat", type=int, default=1)
    a, more = p.parse_known_args()
    print(f"{STREAMS} streams beside a prompt of {a.tokens} tokens")
    print("| `--itl-target-ms` | p50 / p99 gap idle, ms | p50 / p99 gap beside it, ms | p99 ratio | prefill alone, s | beside, s | ratio |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for ms in a.targets.split(","):
        for r in range(a.repeat):
            alone, idle, beside, busy, idle50, busy50 = run_one(a, ms, [m for m in more if m != "--"], 10 + 10 * r)
            print(f"| {ms if float(ms) else '0 (default)'} | {idle50 * 1e3:.1f} / {idle * 1e3:.1f} | {busy50 * 1e3:.1f} / {busy * 1e3:.1f} | {busy / idle:.2f} "
                  f"| {alone:.2f} | {beside:.2f} | {beside / alone:.2f} |", flush=True)


main()
