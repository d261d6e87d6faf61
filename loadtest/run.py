#!/usr/bin/env python3
"""Runs scenarios against an OpenAI-compatible server, writes results and one HTML report. Needs Python 3.11 and nothing else.

    run.py http://127.0.0.1:8000                                      all of loadtest/scenarios
    run.py http://127.0.0.1:8000 chat agents my.toml --out results    some, and one of your own
    run.py --serve 'build/fluxd --model FILE' agents                  a server of its own, on a free port
    run.py --compare before/chat.json after/chat.json                 what changed

A scenario's lengths shrink to the model's context (max_model_len of /v1/models, or --context). Exit status: 0 when every request was
answered, 1 when one was not, 2 for wrong arguments or scenarios.
"""
import argparse
import asyncio
import contextlib
import glob
import json
import os
import sys
import time

from drive import Run, run_scenario
from measure import by_kind, compare, summarize
from report import write_report
from scenario import ScenarioError, load_scenario
from serve import served
from stream import Target, get_json

HERE = os.path.dirname(os.path.abspath(__file__))
FORMAT = 1  # of result files


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("scenarios", nargs="*", metavar="[url] [scenario ...]", help="http://host:port of the server, then names in loadtest/scenarios or files; default: all of them")
    p.add_argument("--serve", default="", metavar="COMMAND", help="fluxd with its flags, instead of a url")
    p.add_argument("--compare", nargs=2, metavar=("BEFORE", "AFTER"), help="two result files")
    p.add_argument("--out", default="loadtest-results", metavar="FOLDER", help="default: loadtest-results")
    p.add_argument("--model", default="", help="default: the first of /v1/models")
    p.add_argument("--key", default=os.environ.get("OPENAI_API_KEY", ""), help="API key; default: OPENAI_API_KEY")
    p.add_argument("--context", type=int, default=0, metavar="TOKENS", help="most tokens of a request; default: what /v1/models tells")
    p.add_argument("--sessions", type=int, default=0, help="instead of the scenario's number")
    p.add_argument("--seed", type=int, help="instead of the scenario's")
    p.add_argument("--save-bodies", action="store_true", help="each session's requests as OUT/SCENARIO-bodies/SESSION.jsonl, for programs that replay them")
    p.add_argument("--timeout", type=float, default=3600, metavar="S", help="for one request; default: 3600")
    a = p.parse_args()
    first = a.scenarios[0] if a.scenarios else ""
    a.url = a.scenarios.pop(0) if not a.serve and not a.compare and (":" in first or first.startswith("http")) else ""
    if not a.url and not a.serve and not a.compare:
        p.error("a url, --serve or --compare is needed")
    if a.sessions < 0 or a.context < 0:
        p.error("--sessions and --context are not below 0")
    return a


def find_scenarios(names):
    if not names:
        return sorted(glob.glob(os.path.join(HERE, "scenarios", "*.toml")))
    return [n if os.path.exists(n) else os.path.join(HERE, "scenarios", n + ".toml") for n in names]


async def find_model(target, a):
    """Name and context."""
    status, listed = await get_json(target, "/v1/models")
    if status != 200 or not listed.get("data"):
        raise OSError(f"/v1/models answers {status}: {str(listed)[:200]}")
    rows = [m for m in listed["data"] if m["id"] == a.model] if a.model else listed["data"]
    if not rows:
        raise OSError(f"the server has no model {a.model!r}, but {', '.join(m['id'] for m in listed['data'])}")
    return rows[0]["id"], a.context or rows[0].get("max_model_len") or 0


def tell(n):
    print(f"\r  {n} requests", end="", flush=True)


async def run_one(path, a, target, model, context):
    s = load_scenario(path)
    if a.sessions:
        s.sessions = a.sessions
    if a.seed is not None:
        s.seed = a.seed
    factor = s.shrink(context) if context else 1.0
    print(f"{s.name}: {s.sessions} sessions, {s.arrivals['kind']} arrivals, lengths x {factor:.3f}", flush=True)
    run = Run(target, model, s.arrivals["think_s"], a.timeout, tell if sys.stdout.isatty() else None)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    rows = await run_scenario(s, run)
    if a.save_bodies:
        save_bodies(os.path.join(a.out, f"{s.name}-bodies"), run.bodies)
    return {"format": FORMAT, "scenario": s.name, "model": model, "url": a.url, "started": started, "seed": s.seed, "context": context, "scale": factor,
            "arrivals": s.arrivals, "objectives": s.objectives, "summary": summarize(rows, s.objectives), "kinds": by_kind(rows, s.objectives), "rows": rows}


def save_bodies(folder, bodies):
    os.makedirs(folder, exist_ok=True)
    for session, sent in bodies.items():
        with open(os.path.join(folder, f"{session:06}.jsonl"), "w", encoding="utf-8") as f:
            f.writelines(json.dumps(b) + "\n" for b in sent)


def show(value):
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def print_summary(result):
    s = result["summary"]
    print(f"\r  answered {s['answered']} of {s['requests']} in {s['wall_s']:.1f} s" + "".join(f"; failed {n} x {why}" for why, n in s["failed"].items()))
    print(f"  tokens: {s['prompt_tok']} in ({s['cached_tok']} cached), {s['answer_tok']} out, {s['answer_tok_s']:.1f} a second;"
          f" within objectives {s['met']} ({100 * s['met_share']:.0f}%), {s['goodput_s']:.2f} a second")
    for name in ("ttft_ms", "gap_ms", "e2e_ms"):
        print(f"  {name:<8}" + "".join(f"{p} {show(s[name].get(p)):>10}   " for p in ("p50", "p90", "p95", "p99", "max")))


def read_result(path):
    with open(path, encoding="utf-8") as f:
        result = json.load(f)
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise ScenarioError(f"{path} is no result of this program (format {FORMAT})")
    return result


def compare_files(a):
    one, two = (read_result(p) for p in a.compare)
    if one["scenario"] != two["scenario"] or one["seed"] != two["seed"] or one["scale"] != two["scale"]:
        print(f"not the same load: {one['scenario']} seed {one['seed']} x {one['scale']:.3f}, {two['scenario']} seed {two['seed']} x {two['scale']:.3f}")
    for name, x, y, verdict in compare(one, two):
        print(f"{name:<18}{show(x):>14}{show(y):>14}  {verdict}")
    os.makedirs(a.out, exist_ok=True)
    write_report(os.path.join(a.out, "compare.html"), [("before", one), ("after", two)])
    print(f"report: {os.path.join(a.out, 'compare.html')}")
    return 0


async def run_all(a):
    target = Target(a.url, a.key)
    model, context = await find_model(target, a)
    results = []
    os.makedirs(a.out, exist_ok=True)
    for path in find_scenarios(a.scenarios):
        result = await run_one(path, a, target, model, context)
        print_summary(result)
        with open(os.path.join(a.out, result["scenario"] + ".json"), "w", encoding="utf-8") as f:
            json.dump(result, f)
        results.append((result["scenario"], result))
        write_report(os.path.join(a.out, "report.html"), results)
    print(f"report: {os.path.join(a.out, 'report.html')}")
    return 0 if all(r["summary"]["answered"] == r["summary"]["requests"] for _, r in results) else 1


def main():
    a = arguments()
    try:
        if a.compare:
            sys.exit(compare_files(a))
        with served(a.serve) if a.serve else contextlib.nullcontext(a.url) as a.url:
            sys.exit(asyncio.run(run_all(a)))
    except (ScenarioError, FileNotFoundError) as e:
        print(f"run.py: {e}", file=sys.stderr)
        sys.exit(2)
    except (OSError, TimeoutError, ValueError, EOFError) as e:
        print(f"run.py: {a.url or 'compare'}: {type(e).__name__} {e}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
