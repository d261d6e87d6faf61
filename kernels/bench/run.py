#!/usr/bin/env python3
"""All GPU benches in one run: our kernels and engine steps, cuBLASLt, and (where PyTorch is installed) cuDNN's attention and FlexAttention.

usage: run.py BUILD_FOLDER OUT.jsonl [kernels] [engine]

Prints progress as it comes and then one table: each figure beside its floor on this device (roofs are measured first), its share of it, and
the anchor's. OUT.jsonl gets a line a figure with the lowest SM clock and the highest power seen since the figure before."""
import json
import os
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
SMI = ["nvidia-smi", "--query-gpu=clocks.sm,power.draw", "--format=csv,noheader,nounits", "-lms", "50"]


class Watch:
    """nvidia-smi beside the benches: clock in MHz and power in W."""

    def __init__(self):
        self.seen, self.lock = [], threading.Lock()
        try:
            self.proc = subprocess.Popen(SMI, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            self.proc = None
            return
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.proc.stdout:
            try:
                clock, power = (float(x) for x in line.split(","))
            except ValueError:
                continue
            with self.lock:
                self.seen.append((clock, power))

    def since(self):
        with self.lock:
            seen, self.seen = self.seen, []
        busy = [s for s in seen if s[1] > 0.5 * max(p for _, p in seen)] if seen else []
        return {"sm_mhz": min(c for c, _ in busy), "watt": max(p for _, p in seen)} if busy else {}

    def stop(self):
        if self.proc:
            self.proc.terminate()


def run(command, watch, out, rows):
    print("==", " ".join(command), flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proc:
        for line in proc.stdout:
            if not line.startswith("{"):
                print(line, end="", flush=True)
                continue
            row = json.loads(line) | watch.since()
            rows.append(row)
            out.write(json.dumps(row) + "\n")
            out.flush()
    return proc.returncode


def have_torch():
    return subprocess.run([sys.executable, "-c", "import torch; assert torch.cuda.is_available()"], capture_output=True).returncode == 0


def kernel_table(rows, roof):
    anchors = {r["name"]: r for r in rows if "anchor" in r}
    read, product = roof["read_tbps"], roof["product_tflops"]
    print(f"\n{'kernel':<34} {'time, us':>11} {'rate':>15} {'of roof':>8}  anchor")
    for r in rows:
        kind, name, us, anchor = r.get("bench"), r.get("name"), r.get("us", 1e3 * r.get("ms", 0)), ""
        if kind == "attn":
            rate, share = (f"{r['tbps']:.2f} TB/s", r["tbps"] / read) if "tbps" in r else (f"{r['tflops']:.0f} TFLOP/s", r["tflops"] / product)
            a = anchors.get(name)
            anchor = f"{a['anchor']} {1e3 * a['ms']:.1f} us, {a['ms'] / r['ms']:.2f} x" if a else ""
        elif kind == "gemm":
            name, rate, share = f"product {r['n']} x {r['k']}, {r['t']} rows", f"{r['tbps']:.2f} TB/s", r["tbps"] / read
            anchor = f"cuBLASLt first {r['cublaslt_us'] / us:.2f} x, best {r['cublaslt_best_us'] / us:.2f} x"
        elif kind == "fp8":
            us = r["quant_us"]
            name, rate, share = f"FP8 product {r['n']} x {r['k']}, {r['t']} rows", f"{r['n'] * r['k'] / us * 1e-6:.2f} TB/s", r["n"] * r["k"] / us * 1e-6 / read
            anchor = f"quantisation counted; without {r['us']:.1f} us, cuBLASLt's best so {r['cublaslt_best_us']:.1f}"
        elif kind == "fp8_large":
            tflops = 2e-6 * r["t"] * r["n"] * r["k"] / us
            name, rate, share = f"FP8 product {r['n']} x {r['k']}, {r['t']} rows", f"{tflops:.0f} TFLOP/s", tflops / (2 * product)
            anchor = f"by block {r['block_us']:.1f} us; cuBLASLt {r['cublaslt_us'][3]:.1f}, by block {r['cublaslt_us'][5]:.1f} us"
        elif kind == "kv_fp8":
            tbps = r["rows"] * r["len"] * 2048 / us * 1e-6
            name, rate, share = f"decode over FP8 pages, {r['rows']} x {r['len']}", f"{tbps:.2f} TB/s", tbps / read
            anchor = f"over bf16 pages {r['bf16_us']:.1f} us"
        elif kind == "op":
            tbps = r["bytes"] / us * 1e-6
            name, rate, share = f"{r['op']}, {r['n_tok']} rows", f"{tbps:.2f} TB/s", tbps / read
        else:
            continue
        print(f"{name:<34} {us:11.1f} {rate:>15} {100 * share:7.0f}%  {anchor}")


def floor_ms(r, roof):
    return max(r["bytes"] / roof["read_tbps"] * 1e-9, (r["product_flop"] + r["attention_flop"]) / roof["product_tflops"] * 1e-9)


def engine_table(rows, roof):
    shares = [0, 25, 50, 75, 100]
    figure = {(r["bench"], r["sequences"], r["tokens"], r["sparse_percent"]): r for r in rows if r.get("bench") in ("decode", "prefill")}
    print("\nengine step, ms / its floor by bytes or operations, ms" + "".join(f"{s:>13}%" for s in shares) + "  of sparse layers")
    for what, n_seq, tokens in dict.fromkeys(k[:3] for k in figure):
        cells = [figure.get((what, n_seq, tokens, s)) for s in shares]
        print(f"{what:<8} {n_seq:3d} x {tokens:>7,} tokens{'':<26}" + "".join(f"{r['ms']:8.2f} /{floor_ms(r, roof):8.2f}" if r else f"{'':>18}" for r in cells))


def routes_table(rows):
    for r in (r for r in rows if r.get("bench") == "routes"):
        print(f"decode, {r['rows']} rows x {r['tokens']:,} tokens of {r['routes']} routes, {'ordered' if r['ordered'] else 'as they come'}: attention {r['attention_ms']:.2f} ms, "
              f"{r['over_percent']:.1f}% over its byte time; step {r['step_ms']:.2f} ms" + (f"; a pass for each route {r['split_ms']:.1f} ms" if r["split_ms"] else ""))


def main():
    folder, path, parts = sys.argv[1], sys.argv[2], sys.argv[3:] or ["kernels", "engine"]
    bench = lambda name, *args: [os.path.join(folder, "bench_" + name), *args]  # noqa: E731
    commands = [bench("device")]
    if "kernels" in parts:
        commands += [bench("attn", "prefill", "decode", "long", "routing"), bench("gemm"), bench("fp8"), bench("kv_fp8"), bench("ops")]
        if have_torch():
            commands.append([sys.executable, os.path.join(HERE, "anchor_attn.py"), "long"])
        else:
            print("no PyTorch with CUDA for", sys.executable, "- attention's anchors are left out")
    if "engine" in parts:
        commands += [bench("engine"), bench("engine", "routes")]
    watch, rows, failed = Watch(), [], []
    with open(path, "w") as out:
        for command in commands:
            if run(command, watch, out, rows) != 0:
                failed.append(" ".join(command))
    watch.stop()
    roof = next((r for r in rows if r.get("bench") == "roof"), None)
    if roof:
        print(f"\n{roof['device']}: reads {roof['read_tbps']:.2f} TB/s, copies {roof['copy_tbps']:.2f} TB/s, large bf16 product {roof['product_tflops']:.0f} TFLOP/s")
        kernel_table(rows, roof)
        engine_table(rows, roof)
        routes_table(rows)
    for f in failed:
        print("FAILED:", f)
    return bool(failed)


sys.exit(main())
