#!/usr/bin/env python3
"""Load for any OpenAI-compatible server (fluxd, vLLM, SGLang, llama.cpp): streams completions, prints time to first token, gaps between
tokens and throughput. Needs Python 3.11 and nothing else.

Lengths (--input, --output, in tokens) are a number, a range, or a mixture with weights:
  --input 1024    --input 200-2000    --input 200:80,8000:15,20000-30000:5

Prompts are random token ids (--prompts ids, /v1/completions: the lengths are exact, no tokenizer is needed) or random words
(--prompts words, also for --api chat: about one token a word).

Examples:
  load.py http://127.0.0.1:8000 --requests 64 --input 1024 --output 128                    all at once
  load.py http://127.0.0.1:8000 --requests 24 --input 20000 --output 1000 --body '{"route":"sparse"}'
  load.py http://127.0.0.1:8000 --requests 500 --rate 4 --input 200:80,4000:20 --output 16-256
  load.py http://127.0.0.1:8000 --requests 200 --concurrency 8 --api chat --prompts words --input 50-500 --output 100
  load.py http://127.0.0.1:8000 --requests 100 --shared 4000 --input 4100-4300             a common beginning of 4,000 tokens

Every request asks for exactly --output tokens (ignore_eos, greedy); servers that refuse ignore_eos: --stop-at-eos.
Exit status: 0 when every request was answered, 1 when one was not, 2 for wrong arguments.
"""
import argparse
import asyncio
import json
import random
import sys
import time

from measure import quantile
from scenario import WORDS, ScenarioError, draw_length, parse_lengths
from stream import Target, ask, get_json


def parse_prompt_lengths(text):
    try:
        rows = parse_lengths(text, "length")
    except ScenarioError as e:
        raise argparse.ArgumentTypeError(str(e)) from None
    if min(low for _, low, _ in rows) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: lengths are at least 1")
    return rows


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("url", help="http://host:port of the server, with or without /v1")
    p.add_argument("--model", default="", help="default: the first of /v1/models")
    p.add_argument("--key", default="", help="API key")
    p.add_argument("--api", choices=("completions", "chat"), default="completions")
    p.add_argument("--prompts", choices=("ids", "words"), default="ids", help="default: ids")
    p.add_argument("--requests", type=int, default=64, help="default: 64")
    p.add_argument("--concurrency", type=int, default=0, help="most requests in flight; 0, the default: all")
    p.add_argument("--rate", type=float, default=0, help="Poisson arrivals a second; 0, the default: as soon as --concurrency allows")
    p.add_argument("--input", type=parse_prompt_lengths, default="1024", metavar="TOKENS", help="default: 1024")
    p.add_argument("--output", type=parse_prompt_lengths, default="128", metavar="TOKENS", help="default: 128")
    p.add_argument("--shared", type=int, default=0, metavar="TOKENS", help="of each prompt that all have in common at the beginning; default: 0")
    p.add_argument("--ids", default="1000-30000", metavar="LOW-HIGH", help="random token ids come from here; default: 1000-30000")
    p.add_argument("--body", type=json.loads, default={}, metavar="JSON", help="more fields for every request")
    p.add_argument("--stop-at-eos", action="store_true", help="send no ignore_eos")
    p.add_argument("--warmup", type=int, default=1, help="requests before the measured ones, one after another; default: 1")
    p.add_argument("--timeout", type=float, default=3600, metavar="S", help="for one request; default: 3600")
    p.add_argument("--seed", type=int, default=0, help="of lengths, prompts and arrivals; default: 0")
    p.add_argument("--json", default="", metavar="FILE", help="the report as JSON too")
    a = p.parse_args()
    low, _, high = a.ids.partition("-")
    if not (low.isdigit() and high.isdigit() and int(low) <= int(high)):
        p.error(f"--ids {a.ids}: LOW-HIGH, two numbers that rise")
    a.ids = (int(low), int(high))
    if a.api == "chat" and a.prompts == "ids":
        p.error("--api chat needs --prompts words")
    if not isinstance(a.body, dict):
        p.error("--body is no object")
    if a.requests < 1 or a.concurrency < 0 or a.rate < 0 or a.shared < 0 or a.warmup < 0:
        p.error("counts and rates are not below 0, and there is at least one request")
    return a


def make_bodies(a, model, n, seed):
    rng, common = random.Random(seed), random.Random(a.seed)
    draw = (lambda r: r.randint(*a.ids)) if a.prompts == "ids" else (lambda r: r.choice(WORDS))
    shared = [draw(common) for _ in range(a.shared)]
    out = []
    for _ in range(n):
        size = draw_length(rng, a.input)
        items = shared[:size] + [draw(rng) for _ in range(size - len(shared))]
        prompt = items if a.prompts == "ids" else " ".join(items)
        body = {"model": model, "max_tokens": draw_length(rng, a.output), "temperature": 0}
        body.update({"prompt": prompt} if a.api == "completions" else {"messages": [{"role": "user", "content": prompt}]})
        out.append({**body, **({} if a.stop_at_eos else {"ignore_eos": True}), **a.body})
    return out


async def drive(a, target, path, bodies):
    """Answers in the order of bodies."""
    gate = asyncio.Semaphore(a.concurrency or len(bodies))
    rng = random.Random(a.seed + 1)

    async def one(body):
        async with gate:
            return await ask(target, path, body, a.timeout)

    tasks = []
    for body in bodies:
        tasks.append(asyncio.create_task(one(body)))
        if a.rate:
            await asyncio.sleep(rng.expovariate(a.rate))
    return await asyncio.gather(*tasks)


def spread(name, values, scale=1e3):
    return {"name": name, "n": len(values), "mean": scale * sum(values) / len(values) if values else float("nan"),
            **{f"p{q}": scale * quantile(values, q / 100) if values else float("nan") for q in (50, 90, 99)}, "max": scale * max(values, default=float("nan"))}


def full_share(answers):
    """Mean share of full layers in the routes that the server tells; None where it tells none."""
    routes = [r for x in answers if x.route for r in (x.route if isinstance(x.route, list) else [x.route])]
    layers = sum(r["full_layers"] + r["sparse_layers"] for r in routes)
    return sum(r["full_layers"] for r in routes) / layers if layers else None


def make_report(answers):
    good = [x for x in answers if x.ok]
    start, end = min(x.sent for x in answers), max(x.ended for x in answers)
    wall = end - start
    tpot = [(x.stamps[-1] - x.stamps[0]) / (x.tok - 1) for x in good if x.tok > 1 and len(x.stamps) > 1]
    failed = {}
    for x in answers:
        if not x.ok:
            why = str(x.status) if x.status != 200 and x.status else x.error[:80]
            failed[why] = failed.get(why, 0) + 1
    return {"requests": len(answers), "answered": len(good), "failed": failed, "wall_s": wall,
            "prompt_tokens": sum(x.prompt_tok for x in good), "cached_tokens": sum(x.cached_tok for x in good), "output_tokens": sum(x.tok for x in good),
            "output_tok_s": sum(x.tok for x in good) / wall, "total_tok_s": sum(x.tok + x.prompt_tok for x in good) / wall, "requests_s": len(good) / wall,
            "full_layer_share": full_share(good),
            "times_ms": [spread("TTFT", [x.ttft for x in good if x.stamps]), spread("ITL (gap between frames)", [g for x in good for g in x.gaps]),
                         spread("TPOT (mean gap of a request)", tpot), spread("whole request", [x.ended - x.sent for x in good])]}


def print_report(r):
    print(f"answered {r['answered']} of {r['requests']} in {r['wall_s']:.2f} s" + "".join(f"; failed {n} x {why}" for why, n in r["failed"].items()))
    share = "" if r["full_layer_share"] is None else f"; full layers {100 * r['full_layer_share']:.1f}%"
    print(f"tokens: {r['prompt_tokens']} in ({r['cached_tokens']} cached), {r['output_tokens']} out{share}")
    print(f"throughput: {r['output_tok_s']:.1f} output tok/s, {r['total_tok_s']:.1f} tok/s in and out, {r['requests_s']:.2f} requests/s")
    print(f"{'ms':<30}{'n':>8}{'mean':>11}{'p50':>11}{'p90':>11}{'p99':>11}{'max':>11}")
    for t in r["times_ms"]:
        print(f"{t['name']:<30}{t['n']:>8}" + "".join(f"{t[k]:>11.2f}" for k in ("mean", "p50", "p90", "p99", "max")))


async def run(a):
    target = Target(a.url, a.key)
    model = a.model
    if not model:
        status, listed = await get_json(target, "/v1/models")
        if status != 200:
            sys.exit(f"load.py: /v1/models answers {status}: {listed}")
        model = listed["data"][0]["id"]
    path = "/v1/completions" if a.api == "completions" else "/v1/chat/completions"
    for body in make_bodies(a, model, a.warmup, a.seed + 2):
        answer = await ask(target, path, body, a.timeout)
        if not answer.ok:
            sys.exit(f"load.py: the first request fails: {answer.status} {answer.error}")
    bodies = make_bodies(a, model, a.requests, a.seed + 3)
    print(f"{model} at {a.url}: {a.requests} requests, seed {a.seed}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)
    report = make_report(await drive(a, target, path, bodies))
    print_report(report)
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"arguments": {k: v for k, v in vars(a).items() if k != "key"}, **report}, f, indent=1)
    return report


def main():
    a = arguments()
    try:
        report = asyncio.run(run(a))
    except (OSError, TimeoutError, ValueError, EOFError) as e:
        sys.exit(f"load.py: {a.url}: {type(e).__name__} {e}")
    sys.exit(0 if report["answered"] == report["requests"] else 1)


if __name__ == "__main__":
    main()
