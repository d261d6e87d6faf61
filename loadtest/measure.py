"""Figures of requests that ran: percentiles, rates, goodput, and whether two results differ. Pure.

A row is one request: {session, turn, kind, planned_s, sent_s, ended_s, status, error, ttft_ms, gaps_ms, e2e_ms, prompt_tok, cached_tok,
answer_tok, full_layers, layers}; seconds count from the beginning of the measured part."""
import math
import random

PERCENTILES = (50, 90, 95, 99)
TIMES = ("ttft_ms", "gap_ms", "e2e_ms")


def quantile(values, q):
    """The smallest value that at least the share q does not exceed."""
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)] if values else None


def spread(values):
    if not values:
        return {"n": 0}
    return {"n": len(values), "mean": sum(values) / len(values), **{f"p{p}": quantile(values, p / 100) for p in PERCENTILES}, "max": max(values)}


def values_of(rows, name):
    """All observations of a time: a request has one first token and one end, but many gaps."""
    good = [r for r in rows if not r["error"]]
    if name == "gap_ms":
        return [g for r in good for g in r["gaps_ms"]]
    return [r[name] for r in good if r[name] is not None]


def meets(row, objectives):
    """Answered, and within every objective given (0: none). gap_ms holds for 99% of the request's gaps."""
    if row["error"]:
        return False
    gap = quantile(row["gaps_ms"], 0.99)
    got = {"ttft_ms": row["ttft_ms"], "gap_ms": gap, "e2e_ms": row["e2e_ms"]}
    return all(limit == 0 or got[name] is None or got[name] <= limit for name, limit in objectives.items())


def failures(rows):
    out = {}
    for r in rows:
        if r["error"]:
            why = str(r["status"]) if r["status"] not in (0, 200) else r["error"][:80]
            out[why] = out.get(why, 0) + 1
    return out


def summarize(rows, objectives):
    good = [r for r in rows if not r["error"]]
    wall = max((r["ended_s"] for r in rows), default=0) - min((r["sent_s"] for r in rows), default=0)
    met = sum(meets(r, objectives) for r in rows)
    layers = sum(r["layers"] for r in good)
    total = {name: sum(r[name] for r in good) for name in ("prompt_tok", "cached_tok", "answer_tok")}
    rate = {"requests_s": len(good), "answer_tok_s": total["answer_tok"], "prompt_tok_s": total["prompt_tok"], "goodput_s": met}
    return {"requests": len(rows), "answered": len(good), "failed": failures(rows), "wall_s": wall, **total,
            **{name: n / wall if wall > 0 else 0.0 for name, n in rate.items()}, "met": met, "met_share": met / len(rows) if rows else 0.0,
            "full_layer_share": sum(r["full_layers"] for r in good) / layers if layers else None,
            **{name: spread(values_of(rows, name)) for name in TIMES}}


def by_kind(rows, objectives):
    return {kind: summarize([r for r in rows if r["kind"] == kind], objectives) for kind in sorted({r["kind"] for r in rows})}


def median_ratio(a, b, n=400, seed=1):
    """Median of b over that of a, with the interval that 95% of resamplings keep to; None where one has no values."""
    if not a or not b:
        return None
    rng = random.Random(seed)
    a, b = [v if len(v) <= 2000 else rng.sample(v, 2000) for v in (a, b)]
    middle = quantile(b, 0.5) / max(quantile(a, 0.5), 1e-9)
    drawn = sorted(quantile(rng.choices(b, k=len(b)), 0.5) / max(quantile(rng.choices(a, k=len(a)), 0.5), 1e-9) for _ in range(n))
    return {"ratio": middle, "low": drawn[int(0.025 * n)], "high": drawn[int(0.975 * n) - 1]}


def compare(a, b):
    """[(name, figure of a, figure of b, verdict)] of two results."""
    out = []
    for name in ("requests", "answered", "prompt_tok", "cached_tok", "answer_tok", "requests_s", "answer_tok_s", "goodput_s", "met_share", "full_layer_share"):
        out.append((name, a["summary"][name], b["summary"][name], ""))
    for name in TIMES:
        r = median_ratio(values_of(a["rows"], name), values_of(b["rows"], name))
        verdict = ""
        if r:
            seen = "no difference seen" if r["low"] <= 1 <= r["high"] else "faster" if r["ratio"] < 1 else "slower"
            verdict = f"median x {r['ratio']:.2f} ({r['low']:.2f} to {r['high']:.2f}): {seen}"
        for p in PERCENTILES:
            out.append((f"{name} p{p}", a["summary"][name].get(f"p{p}"), b["summary"][name].get(f"p{p}"), verdict if p == 50 else ""))
    return out
