#!/usr/bin/env python3
"""How exact the server is on a device, against the CPU's exact mode and against transformers, with the small model's real weights.

usage: gpu_precision.py save  BIN MODEL.gguf FILE [--router FILE] [--flags "..."]   on any machine: tokens, logprobs, routes and margins of the exact mode
       gpu_precision.py check BIN MODEL.gguf FILE [--router FILE] [--flags "..."]   on the device: the same with --dtype f32, then bf16
       gpu_precision.py torch BIN MODEL.gguf [--flags "..."]                        on the device: logprobs of prompts, beside transformers' (needs PyTorch,
                                                                                    transformers, gguf; PYTHONPATH must hold this tree's root)
"""
import argparse
import json
import math
import os
import random
import shlex
import sys
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gpu_serve import ROOT, Server  # noqa: E402

TEXTS = ["README.md", "engine/forward.c", "scheduler/plan.c", "training/README.md", "tests/perf/RESULTS.md"]
CLEAR = 0.02  # a router's margin from which on its bit must be the same
LENGTHS = [17, 60, 128, 129, 300, 511, 700, 1000, 1500, 2500]


def post(server, path, body):
    r = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(r, timeout=300) as f:
        return json.loads(f.read())


def make_prompts(server):
    """Pieces of this tree's own text, as token ids."""
    rng, out = random.Random(3), []
    for i, n in enumerate(LENGTHS):
        with open(os.path.join(ROOT, TEXTS[i % len(TEXTS)]), encoding="utf-8") as f:
            text = f.read()
        at = rng.randrange(max(1, len(text) - 6 * n))
        ids = post(server, "/tokenize", {"prompt": text[at:at + 8 * n]})["tokens"]
        ids += post(server, "/tokenize", {"prompt": text})["tokens"]
        out.append(ids[:n])
    return out


def answers(server, prompts):
    out = []
    for ids in prompts:
        r = post(server, "/v1/completions", {"prompt": ids, "max_tokens": 32, "temperature": 0, "ignore_eos": True, "logprobs": 1, "return_token_ids": True})
        c, told = r["choices"][0], post(server, "/v1/route", {"prompt": ids})
        mask = r["usage"]["attention_route"]["mask"]
        assert mask == told["attention_route"]["mask"]
        out.append({"ids": c["token_ids"], "logprobs": c["logprobs"]["token_logprobs"], "mask": mask, "margins": told["margins"]})
    return out


def start(a, *more):
    return Server(a.bin, a.model, ["--served-model-name", "m", "--local-window-size", "512", *(["--router", a.router] if a.router else []), *a.flags, *more])


def save(a):
    s = start(a, "--dtype", "f32")
    try:
        prompts = make_prompts(s)
        with open(a.file, "w") as f:
            json.dump({"prompts": prompts, "answers": answers(s, prompts)}, f)
    finally:
        s.stop()


def check(a):
    with open(a.file) as f:
        want = json.load(f)
    for dtype in ("f32", "bf16"):
        s = start(a, "--dtype", dtype)
        try:
            got = answers(s, want["prompts"])
        finally:
            s.stop()
        same, worst, margin, clear, kept, near = 0, 0.0, 0.0, 0, 0, 0
        for g, w in zip(got, want["answers"]):
            n = next((i for i, (x, y) in enumerate(zip(g["ids"], w["ids"])) if x != y), 32)
            same += n == 32
            worst = max([worst, *(abs(x - y) for x, y in zip(g["logprobs"][:n], w["logprobs"][:n]))])
            if w["margins"] and all(m is not None for m in w["margins"]):
                clear += sum(abs(m) > CLEAR for m in w["margins"])
                kept += sum(abs(m) > CLEAR and x == y for m, x, y in zip(w["margins"], w["mask"], g["mask"]))
                near += sum(abs(m) <= CLEAR and x != y for m, x, y in zip(w["margins"], w["mask"], g["mask"]))
                margin = max([margin, *(abs(x - y) for x, y in zip(g["margins"], w["margins"]))])
        print(json.dumps({"dtype": dtype, "answers": len(got), "same_tokens": same, "worst_logprob_difference": worst, "clear_bits": clear, "of_them_equal": kept,
                          "others_that_differ": near, "worst_margin_difference": margin}), flush=True)


def errors(got, want):
    d = [abs(x - y) for x, y in zip(got, want)]
    return {"n": len(d), "mean": sum(d) / len(d), "rms": math.sqrt(sum(x * x for x in d) / len(d)), "max": max(d)}


def theirs(weights, spec, prompts, dtype, device):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.backends.cuda.matmul.allow_tf32 = False
    config = LlamaConfig(hidden_size=spec.d, intermediate_size=spec.d_ffn, num_hidden_layers=spec.n_layer, num_attention_heads=spec.n_head,
                         num_key_value_heads=spec.n_kv, head_dim=spec.head, vocab_size=spec.vocab, rms_norm_eps=spec.eps, rope_theta=spec.rope_theta,
                         max_position_embeddings=8192, tie_word_embeddings="lm_head.weight" not in weights)
    config.rope_parameters = {"rope_type": "default", "rope_theta": spec.rope_theta}
    model = LlamaForCausalLM(config)
    missing, extra = model.load_state_dict(weights, strict=False)
    assert not extra and set(missing) <= {"lm_head.weight"}, (missing, extra)
    model.tie_weights()
    model = model.to(dtype=dtype, device=device).eval()
    out = []
    with torch.no_grad():
        for ids in prompts:
            x = torch.tensor([ids], device=device)
            lp = torch.log_softmax(model(x).logits[0].float(), -1)
            out += lp[:-1].gather(1, x[0, 1:, None])[:, 0].tolist()
    return out


def ours(server, prompts):
    out = []
    for ids in prompts:
        r = post(server, "/v1/completions", {"prompt": ids, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1, "route": "full"})
        out += r["choices"][0]["logprobs"]["token_logprobs"][1:len(ids)]
    return out


def torch_beside(a):
    import torch
    from training.weights import load

    spec, weights, _ = load(a.model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    s = start(a, "--dtype", "bf16")
    try:
        prompts = make_prompts(s)
        mine = ours(s, prompts)
    finally:
        s.stop()
    exact = theirs(weights, spec, prompts, torch.float32, device)
    half = theirs(weights, spec, prompts, torch.bfloat16, device)
    m, t = errors(mine, exact), errors(half, exact)
    print(json.dumps({"device": device, "fluxd_bf16": m, "transformers_bf16": t, "ratio_mean": m["mean"] / t["mean"], "ratio_rms": m["rms"] / t["rms"]}), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=("save", "check", "torch"))
    p.add_argument("bin")
    p.add_argument("model")
    p.add_argument("file", nargs="?", default="")
    p.add_argument("--router", default="")
    p.add_argument("--flags", default="", type=shlex.split)
    a = p.parse_args()
    {"save": save, "check": check, "torch": torch_beside}[a.what](a)


main()
