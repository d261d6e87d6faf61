"""The CPU engine beside llama.cpp on the same model, cores and run: one table, also put into tests/perf/RESULTS.md.
usage: bench.py BENCH MODEL LLAMA_BIN   (BENCH: build/tests/perf/bench; LLAMA_BIN: the folder of llama-bench and llama-batched-bench)"""
import datetime
import json
import os
import platform
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "RESULTS.md")
TITLE = "## CPU engine beside llama.cpp"
PREFILL, DEPTH, SEQUENCES, SHARES = (128, 512, 2048, 4096, 8064), (16, 2048, 4096), (1, 4, 16), (0, 50, 75)


def run(*words):
    print("+", " ".join(words), file=sys.stderr, flush=True)
    return subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True).stdout


def lines(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def ours(bench, model, n, kind):
    """{(kind, tokens, sequences, share): tok/s}, `n` numbers of one kind at a time so that both engines see the same machine."""
    rows = lines(run(bench, model, "auto", kind, str(n)))
    return {(r["bench"], r["tokens"], r["sequences"], r["sparse_percent"]): r["tok_s"] for r in rows}


def llama_prefill(where, model, n, threads):
    out = run(os.path.join(where, "llama-bench"), "-m", model, "-t", threads, "-p", str(n), "-n", "0", "-r", "3" if n <= 2048 else "1", "-o", "jsonl")
    return lines(out)[0]["avg_ts"]


def llama_decode(where, model, depth, threads):
    """{(kind, depth, sequences): tokens a second of all sequences together}; the prompt is shared, as bench's is."""
    out = run(os.path.join(where, "llama-batched-bench"), "-m", model, "-t", threads, "-c", str(depth + 16 * 72 + 64), "-npp", str(depth), "-ntg", "64",
              "-npl", ",".join(map(str, SEQUENCES)), "-pps", "--kv-unified", "--output-format", "jsonl")
    return {("decode", depth, row["pl"]): row["speed_tg"] for row in lines(out)}


def keep_best(into, rates):
    for key, rate in rates.items():
        into[key] = max(into.get(key, 0), rate)


def measure(bench, model, where, threads):
    mine, theirs = {}, {}
    for n in PREFILL:
        mine.update(ours(bench, model, n, "prefill"))
        theirs["prefill", n, 1] = llama_prefill(where, model, n, threads)
    for d in DEPTH:
        for _ in range(3 if d < 1000 else 2):
            keep_best(mine, ours(bench, model, d, "decode"))
            keep_best(theirs, llama_decode(where, model, d, threads))
    return mine, theirs


def table(mine, theirs):
    rows = ["| | llama.cpp tok/s | all full | ratio | 50% sparse | 75% sparse | 75% against full |", "|---|---|---|---|---|---|---|"]
    for key, other in theirs.items():
        full, half, most = (mine[(*key, s)] for s in SHARES)
        kind, n, seqs = key
        name = f"prefill {n}" if kind == "prefill" else f"decode at depth {n}, {seqs} sequence{'s' * (seqs > 1)}"
        rows.append(f"| {name} | {other:,.0f} | {full:,.0f} | {full / other:.2f} | {half:,.0f} | {most:,.0f} | {most / full:.2f} |")
    return "\n".join(rows)


def cpu_name():
    with open("/proc/cpuinfo") as f:
        found = re.search(r"model name\s*:\s*(.*)", f.read())
    return found.group(1) if found else platform.machine()


def main():
    bench, model, where = sys.argv[1:]
    threads = str(len(os.sched_getaffinity(0)))
    mine, theirs = measure(bench, model, where, threads)
    text = (f"{TITLE}, {datetime.date.today()}, {cpu_name()}, {threads} threads: `make bench`\n\n{os.path.basename(model)}; each figure and its llama.cpp one are measured one "
            f"after the other; tokens a second, decode: of all sequences together, which share a prompt in both, the best of two or three runs of each. Sparse layers: sink 128, window 1024.\n\n{table(mine, theirs)}\n")
    print(text)
    with open(RESULTS) as f:
        old = f.read()
    start = old.find(TITLE)
    end = old.find("\n## ", start + 1) + 1 if start >= 0 else 0
    new = old[:start] + text + "\n" + old[end or len(old):] if start >= 0 else old.rstrip("\n") + "\n\n" + text
    with open(RESULTS, "w") as f:
        f.write(new)


main()
