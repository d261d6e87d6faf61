"""Draws what training and evaluation wrote, as PNG or SVG.

    python -m training.plot training LOG.jsonl OUT.png
    python -m training.plot layers EVAL_DIR OUT.png          share of full layers by task and layer
    python -m training.plot recall EVAL_DIR ROUTE OUT.png    recall by length and depth of the retrieval tasks

EVAL_DIR may be several folders, a comma between them: parts of one evaluation.
"""
from __future__ import annotations

import json
import lzma
import os
import sys

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

from training.data.tasks import GROUP


def read(path: str) -> list[dict]:
    with (lzma.open(path, "rt") if path.endswith(".xz") else open(path)) as f:
        return [json.loads(line) for line in f]


def read_all(folders: str, route: str) -> list[dict]:
    return [r for folder in folders.split(",") for r in read(os.path.join(folder, route + ".jsonl"))]


def smooth(values, width: int = 15):
    """Running mean over the last `width` points that are there."""
    return [sum(v := values[max(0, i - width + 1):i + 1]) / len(v) for i in range(len(values))]


def training(log: str, out: str):
    rows = read(log)
    fig, (a, b, c) = plt.subplots(1, 3, figsize=(15, 4.2))
    for name in ("loss", "quality"):
        a.plot([r["step"] for r in rows], smooth([r[name] for r in rows]), label=name)
    a.set(title="loss and its answer part (mean of 15 steps)", xlabel="step")
    a.legend()
    for i, task in enumerate(sorted({t for r in rows for t in r["share"]})):
        seen = [r for r in rows if task in r["share"]]
        b.plot([r["step"] for r in seen], smooth([r["share"][task] for r in seen]), color=f"C{i % 10}",
               ls="-" if GROUP[task] == "retrieval" else "--", label=task)
    for i, name in enumerate(sorted(rows[0]["lam1"])):      # one per task, or per group of tasks
        c.plot([r["step"] for r in rows], [r["lam1"][name] for r in rows], color=f"C{i % 10}",
               ls="-" if GROUP.get(name, name) == "retrieval" else "--", label=name)
    b.set(title="share of sparse layers (dashed: holistic)", xlabel="step", ylim=(0, 1))
    c.set(title="multipliers (lambda 1 of each task, or the price of a layer)", xlabel="step")
    b.legend(fontsize=7, ncol=2)
    c.legend(fontsize=7, ncol=2)
    save(fig, out)


def layers(folders: str, out: str):
    rows = read_all(folders, "routed")
    tasks = sorted({r["task"] for r in rows}, key=lambda t: (GROUP[t], t))
    table = []
    for t in tasks:
        routes = [r["route"] for r in rows if r["task"] == t]
        table.append([sum(int(x[i]) for x in routes) / len(routes) for i in range(len(routes[0]))])
    fig, ax = plt.subplots(figsize=(10, 0.4 * len(tasks) + 1.4))
    image = ax.imshow(table, vmin=0, vmax=1, aspect="auto", cmap="viridis")
    ax.set(title="share of prompts with the layer full", xlabel="layer", yticks=range(len(tasks)), yticklabels=tasks)
    fig.colorbar(image)
    save(fig, out)


def recall(folders: str, route: str, out: str, n_bins: int = 5):
    rows = [r for r in read_all(folders, route) if r["depth"] >= 0]
    lengths = sorted({r["n_tok"] for r in rows})
    table, counts = [], []
    for b in range(n_bins):
        cells = [[r["hit"] for r in rows if r["n_tok"] == n and min(int(r["depth"] * n_bins), n_bins - 1) == b]
                 for n in lengths]
        table.append([sum(c) / len(c) if c else float("nan") for c in cells])
        counts.append([len(c) for c in cells])
    fig, ax = plt.subplots(figsize=(6, 4))
    image = ax.imshow(table, vmin=0, vmax=1, aspect="auto", cmap="RdYlGn")
    for b, line in enumerate(table):
        for i, v in enumerate(line):
            ax.text(i, b, f"{v:.2f}\nn={counts[b][i]}", ha="center", va="center", fontsize=8)
    ax.set(title=f"recall, {route}", xlabel="prompt tokens", ylabel="depth", xticks=range(len(lengths)),
           xticklabels=lengths, yticks=range(n_bins), yticklabels=[f"{b / n_bins:.1f}" for b in range(n_bins)])
    fig.colorbar(image)
    save(fig, out)


def save(fig, out: str):
    fig.tight_layout()
    fig.savefig(out, dpi=80)


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("training", "layers", "recall"):
        sys.exit(__doc__)
    {"training": training, "layers": layers, "recall": recall}[sys.argv[1]](*sys.argv[2:])
