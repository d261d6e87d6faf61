"""Times routes of a fluxd server on held-out prompts, the routes in turn within one run.

    fluxd --model M --router R --prefix-cache-bytes 0 &
    python -m training.eval.timing --url http://127.0.0.1:8000 --tokenizer M --corpus C [--tokens 8000] [--routes full,auto]

Two kinds of prompt: prose, a text alone, and question, a text with a question behind it. One request at a time over
/v1/completions, streamed; every round has prompts of its own, which both routes get. Prints for each kind and route the
median over rounds: time to the first token, median gap between tokens, KV memory and full layers as the server tells them.
"""
from __future__ import annotations

import argparse
import json
import statistics
import time
import urllib.request

from tokenizers import Tokenizer

from training.data.corpus import Corpus
from training.data.tasks import Builder

KINDS = {"prose": "lm", "question": "needle"}


def ask(url: str, prompt: list[int], route: str, n_new: int, timeout_s: float) -> dict:
    """-> ttft_ms, gap_ms (median), full_layers, kv_bytes of one streamed request."""
    body = dict(prompt=prompt, route=route, max_tokens=n_new, temperature=0, ignore_eos=True, stream=True,
                stream_options={"include_usage": True})
    request = urllib.request.Request(url.rstrip("/") + "/v1/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    begin, stamps, usage = time.monotonic(), [], {}
    with urllib.request.urlopen(request, timeout=timeout_s) as r:
        for line in r:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise SystemExit(f"the server says: {event['error']}")
            if any(c.get("text") for c in event.get("choices", [])):
                stamps.append(time.monotonic())
            usage = event.get("usage") or usage
    if len(stamps) < 2:
        raise SystemExit(f"{len(stamps)} pieces of text came: too few to time")
    told = usage.get("attention_route", {})
    return dict(ttft_ms=1000 * (stamps[0] - begin), gap_ms=1000 * statistics.median(b - a for a, b in zip(stamps, stamps[1:])),
                full_layers=told.get("full_layers", float("nan")), kv_bytes=told.get("kv_bytes", float("nan")))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--url", required=True)
    ap.add_argument("--tokenizer", required=True, help="tokenizer.json of the served model, or its GGUF file")
    ap.add_argument("--corpus", required=True)
    ap.add_argument("--tokens", type=int, default=8000, help="prompt length")
    ap.add_argument("--new", type=int, default=48, help="tokens to write")
    ap.add_argument("--routes", default="full,auto")
    ap.add_argument("--kinds", default=",".join(KINDS))
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--template", default="chatml")
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--timeout", type=float, default=600)
    a = ap.parse_args()
    if a.tokenizer.endswith(".gguf"):
        from training.weights import load
        tok = load(a.tokenizer)[2]
    else:
        tok = Tokenizer.from_file(a.tokenizer)
    builder, routes, seen = Builder(tok, Corpus.read(a.corpus, "test"), a.template), a.routes.split(","), {}
    ask(a.url, builder.build("lm", min(512, a.tokens), "warm").tokens, routes[0], 8, a.timeout)
    for i in range(a.rounds):
        for kind in a.kinds.split(","):
            s = builder.build(KINDS[kind], a.tokens, f"timing/{a.seed}/{i}")
            for route in routes[::-1] if i % 2 else routes:
                seen.setdefault((kind, route), []).append(ask(a.url, s.tokens[:s.prompt_len], route, a.new, a.timeout))
    print("| prompt | route | full layers | first token ms: median (all) | gap ms: median (all) | KV MB |\n|" + " --- |" * 6)
    for (kind, route), rows in seen.items():
        both = [f"{statistics.median(r[k] for r in rows):.{d}f} ({', '.join(f'{r[k]:.{d}f}' for r in rows)})"
                for k, d in (("ttft_ms", 1), ("gap_ms", 2))]
        layers, mb = (statistics.mean(r[k] for r in rows) for k in ("full_layers", "kv_bytes"))
        print(f"| {kind} | {route} | {layers:.1f} | {both[0]} | {both[1]} | {mb / 1e6:.0f} |")


if __name__ == "__main__":
    main()
