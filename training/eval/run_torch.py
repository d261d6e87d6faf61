"""Evaluates routes with PyTorch: the trained router and static routes of its mean sparsity, by task and length.

    python -m training.eval.run_torch --model M --corpus C --router R.safetensors --out DIR

Writes DIR/<route>.jsonl (one line per prompt) and DIR/summary.json. Routes: full, sparse, routed, greedy and greedy-GOAL
(from a search on training tasks, see search.py), majority (the router's own most used layers), uniform, random (another
route in every batch). Static routes have the routed mean number of full layers; where that is no whole number, prompts get the
route of the number below or above in that proportion.
"""
from __future__ import annotations

import argparse
import json
import math
import os
import random
import time

import torch

from training.data.tasks import GROUP
from training.eval import static_routes, suite
from training.eval.runner import Runner
from training.router import Routers, ServingGate, StaticGate
from training.train import make_backbone


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--corpus")
    ap.add_argument("--prompts", help="prompts that suite.py wrote, instead of --corpus and what follows it")
    ap.add_argument("--router", required=True)
    ap.add_argument("--also", action="append", default=[], metavar="NAME=FILE", help="one more router file, route NAME")
    ap.add_argument("--out", required=True)
    ap.add_argument("--tasks", default=suite.TASKS)
    ap.add_argument("--lengths", default=suite.LENGTHS)
    ap.add_argument("--per-cell", type=int, default=200)
    ap.add_argument("--routes", default="full,routed,sparse,greedy,majority,uniform,random")
    ap.add_argument("--greedy", help="what search.py wrote")
    ap.add_argument("--full", help="full.jsonl of an earlier run with the same prompts, instead of running that route")
    ap.add_argument("--template", default="chatml")
    ap.add_argument("--tokens-per-batch", type=int, default=57344)
    ap.add_argument("--pad", type=int, default=2)
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--workers", type=int, default=4)
    ap.add_argument("--max-seconds", type=float, default=0, help="start no further route after this time")
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = ap.parse_args()
    begin = time.monotonic()
    os.makedirs(a.out, exist_ok=True)
    log = lambda text: print(f"{time.monotonic() - begin:7.1f} {text}", flush=True)
    routers = Routers.load(a.router)
    bb, tok = make_backbone(a.model, routers.sizes, a.device, True, False)
    also = {name: Routers.load(path) for name, path in (x.split("=", 1) for x in a.also)}
    for r in (routers, *also.values()):
        if any(r.sizes[k] != routers.sizes[k] for k in ("sink_size", "local_window_size")):
            ap.error("routers of one evaluation must share sink and window")
        r.to(bb.device)
    lengths, tasks, n_layer = [int(x) for x in a.lengths.split(",")], a.tasks.split(","), bb.spec.n_layer
    samples = suite.read(a.prompts) if a.prompts else suite.build(
        tok, a.corpus, "test", a.template, tasks, lengths, a.per_cell, a.seed, a.workers)
    runner, rows, static = Runner(bb, samples, a.tokens_per_batch, a.pad, a.per_cell), {}, {}
    log(f"samples={sum(len(part) for _, part, _ in runner.batches)}")
    if a.full:
        with open(a.full) as f:
            rows["full"] = [json.loads(line) for line in f]
    searched = {}
    if a.greedy:
        with open(a.greedy) as f:
            searched = json.load(f)["routes"]

    def gates(route):
        """-> a function that gives each batch its gate"""
        if route == "routed":
            return lambda: ServingGate(routers)
        if route in also:
            return lambda: ServingGate(also[route])
        if route in ("full", "sparse"):
            return lambda: StaticGate([int(route == "full")] * n_layer)
        n_full = suite.means(suite.summarise(rows["routed"]))["full_share_all"] * n_layer
        low, high, rng = math.floor(n_full), math.ceil(n_full), random.Random(a.seed)
        if route == "random":
            return lambda: static_routes.Between(static_routes.draw(n_layer, low, rng), static_routes.draw(n_layer, high, rng),
                                                 n_full - low, rng)
        if route == "uniform":
            found = {n: static_routes.uniform(n_layer, n) for n in (low, high)}
        elif route == "majority":
            often = [sum(int(r["route"][i]) for r in rows["routed"]) for i in range(n_layer)]
            found = {n: static_routes.top(often, n) for n in (low, high)}
        elif route == "greedy" or route.startswith("greedy-"):
            of = searched[route.partition("-")[2] or "all"]
            found = {n: [int(b) for b in of[str(n)]] for n in (low, high)}
        else:
            raise ValueError(f"unknown route '{route}'")
        static[route] = {n: "".join(map(str, found[n])) for n in (low, high)}
        return lambda: static_routes.Between(found[low], found[high], n_full - low, rng)

    for route in a.routes.split(","):
        if a.max_seconds and time.monotonic() - begin > a.max_seconds:
            log(f"route={route} skipped: time is up")
            continue
        rows[route] = runner.rows(gates(route))
        with open(os.path.join(a.out, f"{route}.jsonl"), "w") as f:
            f.writelines(json.dumps(r) + "\n" for r in rows[route])
        report(a, rows, static, log, route)


def report(a, rows, static, log, route):
    """Rewrites summary.json with what is known so far and prints the newest route."""
    full = rows.get("full")
    table = {name: suite.summarise(r, full) for name, r in rows.items()}
    out = dict(args=vars(a), static=static, means={n: suite.means(t) for n, t in table.items()}, tasks=table)
    with open(os.path.join(a.out, "summary.json"), "w") as f:
        json.dump(out, f, indent=1)
    log(f"route={route} " + " ".join(f"{k}={v:.4f}" for k, v in out["means"][route].items()))
    for task, row in table[route].items():
        log(f"  {GROUP[task]:9} {task:10} " + " ".join(
            f"{n}:{c['score']:.3f}({c.get('gap', c['nll']):.3f},full={c['full_share']:.2f})" for n, c in row.items()))


if __name__ == "__main__":
    main()
