"""Evaluates any OpenAI-compatible server over HTTP with the prompts of run_torch.

    python -m training.eval.run_http --url http://127.0.0.1:8080 --model NAME --tokenizer TOKENIZER.json --corpus C --out DIR
        [--route auto|full|sparse|0101...]

Answered tasks: /v1/completions, temperature 0, as many tokens as the answer has; right if the text begins with the
answer. Text tasks: echo with log-probabilities; the mean over the scored half. A fluxd server also reports each
request's route, which is kept. Writes DIR/<name>.jsonl and prints the table; other servers simply have no route.
"""
from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import urllib.request

from tokenizers import Tokenizer

from training.eval import suite


class Client:
    def __init__(self, url: str, model: str, route: str | None, timeout_s: float, key: str | None):
        self.url, self.model, self.route, self.timeout_s = url.rstrip("/"), model, route, timeout_s
        self.head = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def complete(self, prompt: list[int], **kw) -> dict:
        body = dict(model=self.model, prompt=prompt, temperature=0, **kw)
        if self.route:
            body["route"] = self.route
        request = urllib.request.Request(self.url + "/v1/completions", json.dumps(body).encode(), self.head)
        with urllib.request.urlopen(request, timeout=self.timeout_s) as r:
            return json.load(r)

    def score(self, tok, s, n_tok: int, i: int) -> dict:
        lo, hi = s.score
        if s.task in suite.TEXT_TASKS:
            # max_tokens 1 rather than 0, which some servers refuse; the written token lies behind position hi.
            answer = self.complete(s.tokens[:hi], max_tokens=1, echo=True, logprobs=1)
            logp = answer["choices"][0]["logprobs"]["token_logprobs"][lo:hi]
            hit, nll = 0, -sum(logp) / len(logp)
        else:
            answer = self.complete(s.tokens[:lo], max_tokens=hi - lo)
            hit, nll = int(answer["choices"][0]["text"].startswith(tok.decode(s.tokens[lo:hi]))), 0.0
        mask = answer.get("usage", {}).get("attention_route", {}).get("mask", "")
        return dict(task=s.task, n_tok=n_tok, i=i, hit=hit, nll=nll, depth=s.depth, route=mask,
                    full_layers=mask.count("1") / len(mask) if mask else float("nan"))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--url", required=True)
    ap.add_argument("--model", required=True)
    ap.add_argument("--tokenizer", required=True, help="tokenizer.json of the served model, or its GGUF file")
    ap.add_argument("--corpus", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--route", help="fluxd's request field; leave out for other servers")
    ap.add_argument("--name", help="file name, default the route or 'server'")
    ap.add_argument("--baseline", help="jsonl of the full route, for perplexity ratios")
    ap.add_argument("--tasks", default="needle,records,lm")
    ap.add_argument("--lengths", default="2048")
    ap.add_argument("--per-cell", type=int, default=40)
    ap.add_argument("--template", default="chatml")
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--parallel", type=int, default=1)
    ap.add_argument("--timeout", type=float, default=600)
    a = ap.parse_args()
    if a.tokenizer.endswith(".gguf"):
        from training.weights import load
        tok = load(a.tokenizer)[2]
    else:
        tok = Tokenizer.from_file(a.tokenizer)
    samples = suite.build(tok, a.corpus, "test", a.template, a.tasks.split(","), [int(n) for n in a.lengths.split(",")],
                          a.per_cell, a.seed, 0)
    client = Client(a.url, a.model, a.route, a.timeout, os.environ.get("OPENAI_API_KEY"))
    jobs = [(s, n, i) for n, group in samples.items() for i, s in enumerate(group)]
    with concurrent.futures.ThreadPoolExecutor(a.parallel) as pool:
        rows = list(pool.map(lambda j: client.score(tok, *j), jobs))
    os.makedirs(a.out, exist_ok=True)
    with open(os.path.join(a.out, (a.name or a.route or "server") + ".jsonl"), "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)
    full = None
    if a.baseline:
        with open(a.baseline) as f:
            full = [json.loads(line) for line in f]
    print(json.dumps(suite.summarise(rows, full), indent=1))


if __name__ == "__main__":
    main()
