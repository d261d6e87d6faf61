"""Tables with 95% intervals from what run_torch or run_http wrote: each route, and routed against each of them.

    python -m training.eval.report DIR [DIR ...] [--json OUT.json]

Every DIR holds one <route>.jsonl a route; several DIRs are parts of one evaluation (other seeds, so other prompts).
Scores as in suite.py: the share of right answers; for texts exp(NLL under full - NLL), at most 1 a cell of task and length;
groups are means over cells. Intervals by bootstrap over the prompts within cells, differences paired by prompt; single
answered cells have Wilson's interval.
"""
from __future__ import annotations

import argparse
import json
import os

import numpy as np

from training.data.tasks import GROUP
from training.eval.stats import wilson
from training.eval.suite import TEXT_TASKS

ORDER = ["full", "routed", "greedy", "majority", "uniform", "random", "sparse"]
DRAWS = 2000


def read(folders: list[str]) -> dict[str, dict]:
    """-> route -> (folder, task, length, prompt) -> row"""
    rows: dict = {}
    for folder in folders:
        for file in sorted(os.listdir(folder)):
            if file.endswith(".jsonl"):
                with open(os.path.join(folder, file)) as f:
                    for r in map(json.loads, f):
                        rows.setdefault(file[:-6], {})[folder, r["task"], r["n_tok"], r["i"]] = r
    return {n: rows[n] for n in sorted(rows, key=lambda n: (ORDER.index(n) if n in ORDER else len(ORDER), n))}


class Scores:
    """One route on some prompts: a value a prompt, and DRAWS bootstrap scores a cell. Routes with the same prompts draw the
    same ones, so their differences are paired."""

    def __init__(self, rows: dict, full: dict, keys):
        cells: dict = {}
        for k in sorted(keys):
            value = rows[k]["nll"] - full[k]["nll"] if k[1] in TEXT_TASKS else rows[k]["hit"]
            cells.setdefault((k[1], k[2]), []).append((value, rows[k]["full_layers"]))
        self.value = {c: np.array([v for v, _ in vs], float) for c, vs in cells.items()}
        self.full_share = {c: float(np.mean([s for _, s in vs])) for c, vs in cells.items()}
        self.drawn = {}
        for j, (c, v) in enumerate(sorted(self.value.items())):
            pick = np.random.default_rng((0, j)).integers(0, len(v), (DRAWS, len(v)))
            self.drawn[c] = self.score(c[0], v[pick].mean(1))

    @staticmethod
    def score(task: str, mean):
        return np.minimum(np.exp(-mean), 1.0) if task in TEXT_TASKS else mean

    def pooled(self, keep):
        """-> score, its draws, share of full layers, of the cells that keep(task, length) names; None where there are none"""
        cells = [c for c in self.value if keep(*c)]
        if not cells:
            return None
        return (float(np.mean([self.score(c[0], self.value[c].mean()) for c in cells])),
                np.mean([self.drawn[c] for c in cells], 0), float(np.mean([self.full_share[c] for c in cells])))

    def perplexity(self, cell) -> dict:
        v = self.value[cell]
        pick = np.random.default_rng(1).integers(0, len(v), (DRAWS, len(v)))
        return dict(ppl_ratio=float(np.exp(v.mean())), ppl_ratio_ci=interval(np.exp(v[pick].mean(1))))


def interval(draws) -> list[float]:
    return [float(q) for q in np.percentile(draws, (2.5, 97.5))]


def views(rows: dict) -> dict:
    """What is reported: name -> which cells."""
    cells = sorted({(k[1], k[2]) for r in rows.values() for k in r})
    out = {"all": lambda t, n: True, "retrieval": lambda t, n: GROUP[t] == "retrieval", "holistic": lambda t, n: GROUP[t] == "holistic"}
    for length in sorted({n for _, n in cells}):
        out[f"recall@{length}"] = lambda t, n, length=length: GROUP[t] == "retrieval" and n == length
        out[f"texts@{length}"] = lambda t, n, length=length: t in TEXT_TASKS and n == length
    for cell in cells:
        out["{}@{}".format(*cell)] = lambda t, n, cell=cell: (t, n) == cell
    return out


def report(rows: dict) -> dict:
    """-> routes -> view -> score, ci, full_share, n (texts: perplexity over full's); routed_minus -> route -> view"""
    full, out = rows["full"], dict(routes={}, routed_minus={})
    for name, mine in rows.items():
        s, table = Scores(mine, full, mine.keys() & full.keys()), {}
        for view, keep in views(rows).items():
            if (got := s.pooled(keep)) is None:
                continue
            cells = [c for c in s.value if keep(*c)]
            row = table[view] = dict(n=sum(len(s.value[c]) for c in cells), score=got[0], ci=interval(got[1]), full_share=got[2])
            if "@" in view and view.split("@")[0] in GROUP:
                if cells[0][0] in TEXT_TASKS:
                    row.update(s.perplexity(cells[0]))
                else:
                    v = s.value[cells[0]]
                    row["ci"] = list(wilson(int(v.sum()), len(v)))
        out["routes"][name] = table
    for name in rows:
        if name == "routed" or "routed" not in rows:
            continue
        keys, table = rows["routed"].keys() & rows[name].keys() & full.keys(), {}
        mine, other = (Scores(rows[n], full, keys) for n in ("routed", name))
        for view, keep in views(rows).items():
            if got := mine.pooled(keep):
                than = other.pooled(keep)
                table[view] = dict(difference=got[0] - than[0], ci=interval(got[1] - than[1]))
                if than[0] > 0:
                    table[view].update(ratio=got[0] / than[0], ratio_ci=interval(got[1] / np.maximum(than[1], 1e-9)))
        out["routed_minus"][name] = table
    margins = [r["min_margin"] for r in rows.get("routed", {}).values() if "min_margin" in r]
    out["prompts_by_smallest_margin"] = {f"below {x}": sum(m < x for m in margins) for x in (1e-3, 1e-2, 1e-1)} | {"all": len(margins)}
    return out


def show(x: float, ci, sign: str = "") -> str:
    return f"{x:{sign}.3f} [{ci[0]:{sign}.3f}, {ci[1]:{sign}.3f}]"


def tables(r: dict) -> str:
    groups, names, lines = ("all", "retrieval", "holistic"), list(r["routes"]), []

    def head(*columns):
        lines.extend(["", "| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)])
    head("route", "prompts", "full layers, all", *groups[1:], "score, all", *groups[1:])
    for n in names:
        t = [r["routes"][n].get(g) for g in groups]
        lines.append(f"| {n} | {t[0]['n']} | " + " | ".join(f"{e['full_share']:.3f}" if e else "" for e in t) + " | "
                     + " | ".join(show(e["score"], e["ci"]) if e else "" for e in t) + " |")
    head("routed minus", *groups)
    for n, table in r["routed_minus"].items():
        lines.append(f"| {n} | " + " | ".join(show(table[g]["difference"], table[g]["ci"], "+") if g in table else "" for g in groups) + " |")
    head("score (one text task: perplexity over full's)", *names, "routed over full", "full layers, routed")
    for view in r["routes"]["full"]:
        if "@" in view:
            e, over = [r["routes"][n].get(view) for n in names], r["routed_minus"].get("full", {}).get(view, {})
            cells = [show(x.get("ppl_ratio", x["score"]), x.get("ppl_ratio_ci", x["ci"])) if x else "" for x in e]
            cells += [show(over["ratio"], over["ratio_ci"]) if "ratio" in over else "",
                      f"{r['routes']['routed'][view]['full_share']:.3f}" if view in r["routes"].get("routed", {}) else ""]
            lines.append(f"| {view} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Prompts by smallest margin: {r['prompts_by_smallest_margin']}"])


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("folder", nargs="+")
    ap.add_argument("--json", help="write every figure there")
    a = ap.parse_args()
    rows = read(a.folder)
    if "full" not in rows:
        ap.error(f"no full.jsonl in {', '.join(a.folder)}: everything is measured against the full route")
    result = report(rows)
    if a.json:
        with open(a.json, "w") as f:
            json.dump(result, f, indent=1)
    print(tables(result))


if __name__ == "__main__":
    main()
