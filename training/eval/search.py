"""Greedy search for static routes, backward from the full route, on training prompts.

    python -m training.eval.suite --split train --per-cell 4 --model M --corpus C --out SEARCH.pkl.xz
    python -m training.eval.search --model M --prompts SEARCH.pkl.xz --window 512 --out GREEDY.json

GREEDY.json: for each goal (all tasks, retrieval, holistic) the best route found for every number of full layers, and
every measurement. run_torch --greedy takes its static routes from it.
"""
from __future__ import annotations

import argparse
import json
import time

import torch

from training.data.tasks import GROUP
from training.eval import static_routes, suite
from training.eval.runner import Runner, StaticValue
from training.train import make_backbone


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--prompts", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--sink", type=int, default=128)
    ap.add_argument("--window", type=int, default=512)
    ap.add_argument("--goals", default="all", help="all, retrieval, holistic")
    ap.add_argument("--down-to", type=int, default=5)
    ap.add_argument("--width", type=int, default=8)
    ap.add_argument("--tokens-per-batch", type=int, default=57344)
    ap.add_argument("--pad", type=int, default=2)
    ap.add_argument("--max-seconds", type=float, default=0, help="stop all searches after this time")
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = ap.parse_args()
    begin = time.monotonic()
    log = lambda text: print(f"{time.monotonic() - begin:7.1f} {text}", flush=True)
    bb, _ = make_backbone(a.model, dict(sink_size=a.sink, local_window_size=a.window), a.device, True, False)
    runner = Runner(bb, suite.read(a.prompts), a.tokens_per_batch, a.pad)
    log(f"batches={len(runner.batches)}")
    late = lambda: bool(a.max_seconds) and time.monotonic() - begin > a.max_seconds
    out = dict(args=vars(a), routes={}, measured=[])
    for goal in a.goals.split(","):
        target = StaticValue(runner)

        def of(route, keep=False):
            by_task = target.measure(route, keep)[0]
            scores = [v for t, v in by_task.items() if goal in ("all", GROUP[t])]
            out["measured"].append(dict(goal=goal, route="".join(map(str, route)), kept=keep, tasks=by_task))
            return sum(scores) / len(scores)
        found = static_routes.greedy(bb.spec.n_layer, a.down_to, of, a.width, backward=True, log=log,
                                     settle=lambda r: of(r, keep=True), stop=late)
        out["routes"][goal] = {n: "".join(map(str, r)) for n, r in found.items()}
        with open(a.out, "w") as f:
            json.dump(out, f)
        del target


if __name__ == "__main__":
    main()
