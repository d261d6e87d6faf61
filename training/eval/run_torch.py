"""Evaluates routes with PyTorch: the trained router and static routes of its mean sparsity, by task and length.

    python -m training.eval.run_torch --model M --corpus C --router R.safetensors --out DIR

Writes DIR/<route>.jsonl (one line per prompt) and DIR/summary.json. Routes: full, sparse, routed, forward and backward
(greedy searches on training tasks), majority (the router's own most used layers), uniform, random (another route in
every batch). Static routes have the routed mean number of full layers; where that is no whole number, prompts get the
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
import torch.nn.functional as F

from training.data.batches import collate
from training.data.tasks import GROUP
from training.eval import static_routes, suite
from training.router import Routers, ServingGate, StaticGate
from training.train import make_backbone


class Runner:
    def __init__(self, backbone, tokens_per_batch: int, pad: int, log=print):
        self.bb, self.tokens_per_batch, self.pad, self.log = backbone, tokens_per_batch, pad, log

    @torch.no_grad()
    def rows(self, samples: dict[int, list], gate_of) -> list[dict]:
        """gate_of() gives the gate of each batch. -> one row per sample."""
        out = []
        for n_tok, group in samples.items():
            size = max(self.tokens_per_batch // n_tok, 1)
            padded = -(-n_tok // 128) * 128
            for at in range(0, len(group), size):
                part = group[at:at + size]
                # A short last batch is filled up: one shape per length means one compiled kernel per length.
                full = part + [part[-1]] * (size - len(part)) if self.bb.device.type == "cuda" else part
                out += self.score(collate(full, padded, self.pad), part, n_tok, gate_of(), at)
        return out

    def score(self, batch, part, n_tok, gate, first) -> list[dict]:
        batch = batch.to(self.bb.device)
        h, z = self.bb.hidden(batch.tokens, batch.prompt_len, gate)
        n = len(batch.task)
        nll = torch.zeros(n, device=h.device)
        wrong, count = torch.zeros(n, device=h.device), torch.zeros(n, device=h.device)
        for rows, target, owner in zip(batch.rows.split(4096), batch.target.split(4096), batch.owner.split(4096)):
            logits = self.bb.logits(h[rows])
            nll.index_add_(0, owner, F.cross_entropy(logits, target, reduction="none"))
            wrong.index_add_(0, owner, (logits.argmax(-1) != target).float())
            count.index_add_(0, owner, torch.ones_like(target, dtype=torch.float))
        margins = None
        if isinstance(gate, ServingGate):
            margins = torch.stack([gate.margins[i] for i in range(self.bb.spec.n_layer)], 1).abs().min(1).values.cpu()
        nll, wrong, z = (nll / count).cpu(), wrong.cpu(), z.cpu()
        return [dict(task=s.task, n_tok=n_tok, i=first + b, hit=int(wrong[b] == 0), nll=round(float(nll[b]), 5),
                     depth=round(s.depth, 3), full_layers=round(float(z[b].mean()), 5),
                     route="".join(str(int(x)) for x in z[b]),
                     **({} if margins is None else {"min_margin": round(float(margins[b]), 4)}))
                for b, s in enumerate(part)]

    def value(self, samples):
        """What the greedy search raises: minus the mean over tasks of the loss that a static route adds to full's.
        Losses move with every layer; hits do not until several layers work together."""
        full = {(r["n_tok"], r["i"]): r["nll"] for r in self.rows(samples, lambda: StaticGate([1] * self.bb.spec.n_layer))}

        def of(route):
            gaps: dict = {}
            for r in self.rows(samples, lambda: StaticGate(route)):
                gaps.setdefault(r["task"], []).append(r["nll"] - full[r["n_tok"], r["i"]])
            return -sum(sum(g) / len(g) for g in gaps.values()) / len(gaps)
        return of


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--corpus", required=True)
    ap.add_argument("--router", required=True)
    ap.add_argument("--also", action="append", default=[], metavar="NAME=FILE", help="one more router file, route NAME")
    ap.add_argument("--out", required=True)
    ap.add_argument("--tasks", default="needle,multikey,records,facts,quote,variables,lm,code,classify,listsum")
    ap.add_argument("--lengths", default="1024,2048,4096,7168")
    ap.add_argument("--per-cell", type=int, default=200)
    ap.add_argument("--routes", default="full,routed,sparse,backward,forward,majority,uniform,random")
    ap.add_argument("--greedy-per-cell", type=int, default=8, help="training prompts per task for the search")
    ap.add_argument("--greedy-lengths", default="2048,4096")
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
    samples = suite.build(tok, a.corpus, "test", a.template, tasks, lengths, a.per_cell, a.seed, a.workers)
    log(f"samples={sum(map(len, samples.values()))}")
    runner, rows, static = Runner(bb, a.tokens_per_batch, a.pad, log), {}, {}

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
        elif route in ("forward", "backward"):
            search = suite.build(tok, a.corpus, "train", a.template, tasks, [int(x) for x in a.greedy_lengths.split(",")],
                                 a.greedy_per_cell, a.seed, a.workers)
            back = route == "backward"
            found = static_routes.greedy(n_layer, low if back else high, runner.value(search), backward=back, log=log)
        else:
            raise ValueError(f"unknown route '{route}'")
        static[route] = {n: "".join(map(str, found[n])) for n in (low, high)}
        return lambda: static_routes.Between(found[low], found[high], n_full - low, rng)

    for route in a.routes.split(","):
        if a.max_seconds and time.monotonic() - begin > a.max_seconds:
            log(f"route={route} skipped: time is up")
            continue
        rows[route] = runner.rows(samples, gates(route))
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
