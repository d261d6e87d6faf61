"""The held-out evaluation: which prompts, and how an answer is scored. Same prompts for every runner and route.

    python -m training.eval.suite --model M --corpus C --split test --per-cell 200 --out PROMPTS.pkl.xz

writes the prompts once, for runs that share them (run_torch --prompts, search --prompts).

An answered task counts a sample as right when greedy decoding would write exactly the answer; with the answer as input
that is: every answer token is the argmax at its place. Text tasks score the mean negative log-likelihood of their
scored half, reported against the full route.
"""
from __future__ import annotations

import argparse
import lzma
import math
import pickle

from torch.utils.data import DataLoader, Dataset

from training.data.corpus import Corpus
from training.data.tasks import GROUP, LM_TASKS, Builder, Sample
from training.eval.stats import bootstrap, wilson

TEXT_TASKS = LM_TASKS + ("continue",)
TASKS = "needle,multikey,records,facts,quote,variables,lm,code,continue,classify"
LENGTHS = "1024,2048,4096,7168"


class _Jobs(Dataset):
    """Prompt number i of the suite, built wherever a loader's worker runs."""

    def __init__(self, builder: Builder, jobs):
        self.builder, self.jobs = builder, jobs

    def __len__(self):
        return len(self.jobs)

    def __getitem__(self, i) -> Sample:
        return self.builder.build(*self.jobs[i])


def build(tok, corpus: str, split: str, template: str, tasks, lengths, per_cell: int, seed: int,
          workers: int = 4) -> dict[int, list[Sample]]:
    """-> length -> samples; sample i of a cell is the same whatever per_cell, the order or the number of workers."""
    jobs = [(t, n, f"{seed}/{i}") for n in lengths for t in tasks for i in range(per_cell)]
    builder = Builder(tok, Corpus.read(corpus, split), template)
    loader = DataLoader(_Jobs(builder, jobs), batch_size=32, collate_fn=list, num_workers=workers,
                        multiprocessing_context="fork" if workers else None)
    samples = [s for part in loader for s in part]
    out: dict[int, list[Sample]] = {n: [] for n in lengths}
    for (_, n, _), s in zip(jobs, samples):
        out[n].append(s)
    return out


def summarise(rows: list[dict], full: list[dict] | None = None) -> dict:
    """Per-sample rows (task, n_tok, hit, nll, full_layers) of one route -> task -> length -> figures.

    'score' lies in [0, 1] for every task: recall or accuracy, and for texts exp(nll under full - nll), at most 1."""
    cells: dict = {}
    base = {(r["task"], r["n_tok"], r["i"]): r for r in full or rows}
    for r in rows:
        cells.setdefault((r["task"], r["n_tok"]), []).append(r)
    out: dict = {}
    for (task, n_tok), rs in sorted(cells.items()):
        pairs = [(r, base[(task, n_tok, r["i"])]) for r in rs if (task, n_tok, r["i"]) in base]
        cell = dict(n=len(rs), full_share=sum(r["full_layers"] for r in rs) / len(rs))
        if task in TEXT_TASKS:
            gaps = [r["nll"] - b["nll"] for r, b in pairs]
            gap = sum(gaps) / len(gaps)
            lo, hi = bootstrap(gaps)
            cell.update(nll=sum(r["nll"] for r in rs) / len(rs), gap=gap, ppl_ratio=math.exp(gap),
                        ppl_ratio_ci=[math.exp(lo), math.exp(hi)], score=min(math.exp(-gap), 1.0))
        else:
            hits = sum(r["hit"] for r in rs)
            cell.update(score=hits / len(rs), ci=list(wilson(hits, len(rs))), nll=sum(r["nll"] for r in rs) / len(rs))
        out.setdefault(task, {})[n_tok] = cell
    return out


def means(summary: dict) -> dict:
    """Means over cells: all tasks, each group, and the share of full layers; groups weigh by their tasks."""
    def mean(key, group=None):
        v = [c[key] for t, row in summary.items() if group in (None, GROUP[t]) for c in row.values()]
        return sum(v) / len(v) if v else float("nan")
    return {f"{key}_{g or 'all'}": mean(key, g) for key in ("score", "full_share") for g in (None, "retrieval", "holistic")}


def write(path: str, samples: dict[int, list[Sample]]):
    plain = {n: [(s.task, s.tokens, s.prompt_len, s.score, s.depth, s.meta) for s in group] for n, group in samples.items()}
    with lzma.open(path, "wb", preset=0) as f:
        pickle.dump(plain, f)


def read(path: str) -> dict[int, list[Sample]]:
    """Only for files that write() made here: a pickle is trusted."""
    with lzma.open(path, "rb") as f:
        return {n: [Sample(*row) for row in group] for n, group in pickle.load(f).items()}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True, help="GGUF file or Hugging Face directory (its tokenizer is used)")
    ap.add_argument("--corpus", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--split", default="test", choices=("train", "test"))
    ap.add_argument("--tasks", default=TASKS)
    ap.add_argument("--lengths", default=LENGTHS)
    ap.add_argument("--per-cell", type=int, default=200)
    ap.add_argument("--template", default="chatml")
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--workers", type=int, default=4)
    a = ap.parse_args()
    from training.weights import load
    write(a.out, build(load(a.model)[2], a.corpus, a.split, a.template, a.tasks.split(","),
                       [int(n) for n in a.lengths.split(",")], a.per_cell, a.seed, a.workers))


if __name__ == "__main__":
    main()
