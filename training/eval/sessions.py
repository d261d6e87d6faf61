"""How much a rule for routes over the turns of a session costs: the last turn's answer under each rule.

    python -m training.eval.sessions --model M --corpus C --router R.safetensors --out DIR

Rules. exact: the route is decided at the end of the last turn's prompt and every row runs under it. pin: decided at the
end of the first turn's prompt. adapt: every turn is decided at the end of its own prompt, and its rows, answer included,
run under its route; what they attend to are the keys and values of all rows before, as those were computed. adapt-T: as
adapt, but a layer keeps its bit of the turn before unless the router's margin against it exceeds T. full, sparse: as
they say.

Writes DIR/<rule>.jsonl (a line a session, as run_torch's, with the number of turns and of layers that changed) and
DIR/summary.json.
"""
from __future__ import annotations

import argparse
import json
import math
import os
import time

import numpy as np
import torch

from training.data.sessions import SessionBuilder
from training.data.tasks import GROUP, SESSIONS
from training.eval import suite
from training.eval.runner import Runner
from training.eval.suite import TEXT_TASKS
from training.router import Routers, ServingGate, StaticGate, pool_queries
from training.train import make_backbone


def turn_tensors(samples, n_tok: int, device):
    """-> prompt ends [B, K] (a session with fewer turns repeats its last) and the turn of every row [B, T]"""
    most = max(len(s.meta["turns"]) for s in samples)
    ends, rows = torch.zeros(len(samples), most, dtype=torch.long), torch.zeros(len(samples), n_tok, dtype=torch.long)
    for b, s in enumerate(samples):
        turns = s.meta["turns"]
        ends[b] = torch.tensor([p for p, _ in turns] + [turns[-1][0]] * (most - len(turns)))
        for k, (_, end) in enumerate(turns[:-1]):
            rows[b, end:] = k + 1
    return ends.to(device), rows.to(device)


class TurnGate:
    """Bits by turn. hold: the margin that a change needs; pin: the first turn's bits are all turns'."""

    def __init__(self, routers: Routers, ends, rows, hold: float = 0.0, pin: bool = False):
        self.routers, self.ends, self.rows, self.hold, self.pin, self.bits = routers, ends, rows, hold, pin, []

    def __call__(self, i, q, prompt_len):
        bits, before = [], None
        for k in range(1 if self.pin else self.ends.shape[1]):
            with torch.autocast(q.device.type, enabled=False):
                margin = self.routers.layers[i](pool_queries(q, self.ends[:, k], self.routers.pool_size))
            bit = margin > 0
            if before is not None and self.hold > 0:
                bit = torch.where(margin.abs() > self.hold, bit, before)
            bits.append(bit)
            before = bit
        bits = torch.stack(bits, 1)
        self.bits.append(bits)
        return (bits[:, :1].expand(-1, self.rows.shape[1]) if self.pin else bits.gather(1, self.rows)).float()


class SessionRunner(Runner):
    def session_rows(self, rule: str, routers: Routers) -> list[dict]:
        n_layer, out, gates = self.bb.spec.n_layer, [], []
        batches = iter([turn_tensors([s for _, s in part] + [part[-1][1]] * (batch.tokens.shape[0] - len(part)), batch.tokens.shape[1],
                                     self.bb.device) for _, part, batch in self.batches])

        def gate():
            name, _, hold = rule.partition("-")
            turns = next(batches)
            gates.append(ServingGate(routers) if name == "exact" else StaticGate([int(name == "full")] * n_layer) if name in ("full", "sparse")
                         else TurnGate(routers, *turns, hold=float(hold or 0), pin=name == "pin"))
            return gates[-1]

        rows = iter(self.rows(gate))
        for g, (_, part, _) in zip(gates, self.batches):
            bits = torch.stack(g.bits, 2).cpu() if isinstance(g, TurnGate) else None      # [B, turn, layer]
            for b, (_, s) in enumerate(part):
                row, n = next(rows), len(s.meta["turns"])
                row["turns"] = n
                if bits is not None and bits.shape[1] > 1:
                    changed = (bits[b, 1:n] != bits[b, :n - 1]).sum(1)
                    row.update(layers_changed=int(changed.sum()), turns_changed=int((changed > 0).sum()))
                out.append(row)
        return out


def against(rows: list[dict], base: list[dict], draws: int = 4000) -> dict:
    """Of retrieval's hits the ratio to base's with its lower 95% bound, paired by session; of texts the ratio of perplexities."""
    pairs = list(zip(rows, base))
    hits = np.array([(r["hit"], b["hit"]) for r, b in pairs if GROUP[r["task"]] == "retrieval"], float)
    gaps = np.array([r["nll"] - b["nll"] for r, b in pairs if r["task"] in TEXT_TASKS])
    rng, out = np.random.default_rng(0), {}
    if len(hits) and hits[:, 1].sum():
        drawn = hits[rng.integers(0, len(hits), (draws, len(hits)))].sum(1)
        out.update(n=len(hits), hit=hits[:, 0].mean(), ratio=hits[:, 0].sum() / hits[:, 1].sum(),
                   ratio_low=float(np.percentile(drawn[:, 0] / drawn[:, 1], 5)), differ=int((hits[:, 0] != hits[:, 1]).sum()))
    if len(gaps):
        out.update(ppl_ratio=math.exp(gaps.mean()),
                   ppl_ratio_high=math.exp(np.percentile(gaps[rng.integers(0, len(gaps), (draws, len(gaps)))].mean(1), 95)))
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--corpus")
    ap.add_argument("--prompts", help="sessions that an earlier run wrote with --write, instead of --corpus")
    ap.add_argument("--write", help="only write the sessions")
    ap.add_argument("--router")
    ap.add_argument("--out")
    ap.add_argument("--tasks", default=",".join(SESSIONS))
    ap.add_argument("--lengths", default="2048,4096,7168")
    ap.add_argument("--per-cell", type=int, default=140)
    ap.add_argument("--rules", default="exact,full,pin,adapt,sparse")
    ap.add_argument("--split", default="test", choices=("train", "test"))
    ap.add_argument("--tokens-per-batch", type=int, default=57344)
    ap.add_argument("--pad", type=int, default=2)
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--workers", type=int, default=4)
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = ap.parse_args()
    begin = time.monotonic()
    if a.prompts:
        samples = suite.read(a.prompts)
    else:
        from training.weights import load
        samples = suite.build(load(a.model)[2], a.corpus, a.split, "chatml", a.tasks.split(","), [int(n) for n in a.lengths.split(",")],
                              a.per_cell, a.seed, a.workers, SessionBuilder)
    if a.write:
        return suite.write(a.write, samples)
    os.makedirs(a.out, exist_ok=True)
    routers = Routers.load(a.router)
    bb, _ = make_backbone(a.model, routers.sizes, a.device, a.device == "cuda", False)
    routers.to(bb.device)
    runner, rows = SessionRunner(bb, samples, a.tokens_per_batch, a.pad), {}
    for rule in a.rules.split(","):
        rows[rule] = runner.session_rows(rule, routers)
        with open(os.path.join(a.out, f"{rule}.jsonl"), "w") as f:
            f.writelines(json.dumps(r) + "\n" for r in rows[rule])
        told = against(rows[rule], rows[a.rules.split(",")[0]])
        turns = sum(r["turns"] - 1 for r in rows[rule])
        told.update(full_share=sum(r["full_layers"] for r in rows[rule]) / len(rows[rule]))
        if any("layers_changed" in r for r in rows[rule]):
            told.update(layers_changed=sum(r["layers_changed"] for r in rows[rule]) / turns,
                        turns_changed=sum(r["turns_changed"] for r in rows[rule]) / turns)
        print(f"{time.monotonic() - begin:7.1f} {rule:10} " + " ".join(f"{k}={v:.4f}" for k, v in told.items()), flush=True)
        cells = suite.summarise(rows[rule], rows.get("full") or rows[a.rules.split(",")[0]])
        for task, row in cells.items():
            print(f"        {task:14} " + " ".join(f"{n}:{c['score']:.3f}({c['full_share']:.2f})" for n, c in row.items()), flush=True)
        with open(os.path.join(a.out, "summary.json"), "w") as f:
            json.dump({r: dict(against(rows[r], rows[a.rules.split(',')[0]]), cells=suite.summarise(rows[r], rows.get("full"))) for r in rows}, f, indent=1)


if __name__ == "__main__":
    main()
