"""Are the routes of a server in exact mode those of PyTorch in fp32? Two steps, on two machines if need be.

    python -m training.eval.bits reference --model M --corpus C --router R --out BITS.json
    fluxd --model M --router R --dtype f32 --device cpu &
    python -m training.eval.bits compare --bits BITS.json --url http://127.0.0.1:8000

The reference writes the prompts (held-out texts and tasks, lengths from --shortest to --longest evenly spread by their
logarithm) with every layer's margin. A layer's bit must agree wherever |margin| is over --safe. From the first layer on
whose bits differ at a smaller margin, two runs are two different networks: later layers of that prompt are not compared.
"""
from __future__ import annotations

import argparse
import json
import random
import sys
import urllib.request

TASKS = ("lm", "needle", "facts", "continue", "classify", "variables", "code", "quote")


def prompts(builder, n: int, shortest: int, longest: int, seed: int) -> list[tuple[str, list[int]]]:
    """-> (task, prompt tokens), deterministic. Prompts too short for a task's wording are plain text."""
    rng, out = random.Random(seed), []
    for i in range(n):
        n_tok = round(shortest * (longest / shortest) ** (i / max(n - 1, 1)))
        task = TASKS[i % len(TASKS)] if n_tok >= 300 else ("lm", "code")[i % 2]
        s = builder.build(task, n_tok, f"bits/{seed}/{i}")
        out.append((task, s.tokens[:s.prompt_len]))
    rng.shuffle(out)        # so that a part of the list is a sample of all lengths
    return out


def part(rows: list, which: str) -> list:
    lo, _, hi = which.partition(":")
    return rows[int(lo or 0):int(hi or len(rows))]


def reference(a):
    import torch
    from training.attention import Attention
    from training.backbone import Backbone
    from training.data.corpus import Corpus
    from training.data.tasks import Builder
    from training.router import Routers, ServingGate
    from training.weights import load
    torch.backends.cuda.matmul.allow_tf32 = False
    routers = Routers.load(a.router)
    spec, weights, tok = load(a.model)
    attention = Attention(routers.sizes["sink_size"], routers.sizes["local_window_size"])
    bb = Backbone(spec, weights, attention, a.device, torch.float32)
    routers.to(bb.device)
    rows = []
    chosen = prompts(Builder(tok, Corpus.read(a.corpus, "test"), a.template), a.n, a.shortest, a.longest, a.seed)
    for task, tokens in part(chosen, a.part):
        gate = ServingGate(routers)
        with torch.no_grad():
            bb.hidden(torch.tensor([tokens], device=bb.device), torch.tensor([len(tokens)], device=bb.device), gate)
        margins = [round(float(gate.margins[i]), 6) for i in range(spec.n_layer)]
        rows.append(dict(task=task, tokens=tokens, margins=margins))
    with open(a.out, "w") as f:
        json.dump(dict(args={k: str(v) for k, v in vars(a).items() if k != "run"}, torch=torch.__version__,
                       device=str(bb.device), rows=rows), f)


def judge(margins: list[float], mask: str, safe: float) -> tuple[int, list[tuple[int, float]], int]:
    """-> layers compared, differences (layer, margin) where the margin is safe, layers left out behind an unsafe difference."""
    wrong, compared = [], 0
    for i, (m, bit) in enumerate(zip(margins, mask)):
        if bit != str(int(m > 0)):
            if abs(m) <= safe:
                return compared, wrong, len(margins) - i
            wrong.append((i, m))
        compared += 1
    return compared, wrong, 0


def compare(a) -> int:
    rows = []
    for path in a.bits:
        with open(path) as f:
            rows += json.load(f)["rows"]
    rows = part(rows, a.part)
    bad = compared = left = low = 0
    off = 0.0
    for n, row in enumerate(rows):
        body = json.dumps(dict(prompt=row["tokens"], route="auto")).encode()
        request = urllib.request.Request(a.url.rstrip("/") + "/v1/route", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=a.timeout) as r:
            told = json.load(r)
        mask, margins = told["attention_route"]["mask"], told.get("margins", [])
        if len(mask) != len(row["margins"]):
            raise SystemExit(f"the server tells {len(mask)} layers, the reference {len(row['margins'])}")
        c, wrong, out = judge(row["margins"], mask, a.safe)
        compared, left, bad = compared + c, left + out, bad + len(wrong)
        low += sum(abs(m) <= a.safe for m in row["margins"])
        same = [abs(x - y) for x, y, b in zip(margins, row["margins"], mask) if b == str(int(y > 0))]
        off = max([off, *same]) if not out else off
        for layer, m in wrong:
            print(f"prompt={n} task={row['task']} n_tok={len(row['tokens'])} layer={layer} margin={m} server={mask[layer]}")
    lengths = [len(r["tokens"]) for r in rows]
    print(f"prompts={len(rows)} tokens={min(lengths)}..{max(lengths)} bits={compared} different={bad} "
          f"below_safe_margin={low} not_compared={left} largest_margin_difference={off:.6f}")
    return int(bad > 0)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(required=True)
    r = sub.add_parser("reference")
    r.add_argument("--model", required=True)
    r.add_argument("--corpus", required=True)
    r.add_argument("--router", required=True)
    r.add_argument("--out", required=True)
    r.add_argument("--n", type=int, default=200)
    r.add_argument("--shortest", type=int, default=100)
    r.add_argument("--longest", type=int, default=4000)
    r.add_argument("--seed", type=int, default=11)
    r.add_argument("--template", default="chatml")
    r.add_argument("--device", default="cpu")
    r.add_argument("--part", default="", metavar="LO:HI", help="only these prompts of the n")
    r.set_defaults(run=reference)
    c = sub.add_parser("compare")
    c.add_argument("--bits", required=True, nargs="+")
    c.add_argument("--url", required=True)
    c.add_argument("--safe", type=float, default=1e-3)
    c.add_argument("--part", default="", metavar="LO:HI", help="only these prompts")
    c.add_argument("--timeout", type=float, default=600)
    c.set_defaults(run=compare)
    a = ap.parse_args()
    sys.exit(a.run(a))


if __name__ == "__main__":
    main()
