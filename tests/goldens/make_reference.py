#!/usr/bin/env python3
"""Makes the goldens of tests/engine/test_golden.c from SmolLM2-135M-Instruct (needs torch, gguf, tokenizers; some minutes):
    python tests/goldens/make_reference.py models/SmolLM2-135M-Instruct.Q4_1.gguf [--check]
greedy.json: 12 prompts, 32 greedy tokens each, full attention. routes.json: long prompts under static routes. routers.json: bits,
margins and tokens under Layer Routers of hashed weights, softmax and sigmoid form. --check compares the reference itself with
transformers' Llama on the same file instead."""
import json
import os
import random
import sys

import gguf
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from reference import Model, Router, Sequence

HERE = os.path.dirname(os.path.abspath(__file__))
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

CHATS = ["What is the capital of France?", "Write a haiku about the sea.", "Name three prime numbers above 100.",
         "Explain in two sentences why the sky is blue.", "Translate to Spanish: good morning, my friend.",
         "Give me a recipe with eggs and tomatoes."]
TEXTS = ["The quick brown fox", "def fibonacci(n):\n    ", "In 1969, the first humans", "A",
         "1 2 3 4 5 6 7 8", "Dear Sir or Madam,\n\nI am writing to complain about"]


def tokenizer(path):
    f = gguf.GGUFReader(path).fields
    pieces, merges, kinds = (f["tokenizer.ggml." + k].contents() for k in ("tokens", "merges", "token_type"))
    t = Tokenizer(models.BPE({x: i for i, x in enumerate(pieces)}, [tuple(x.split(" ")) for x in merges]))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(p, special=True, normalized=False) for p, k in zip(pieces, kinds) if k == 3])
    return t


def chat(text):
    return f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def long_prompt(tok, n, seed):
    """A chat of exactly n tokens: many small facts, and a question about one of them at the end."""
    r = random.Random(seed)
    names = ["Ada", "Boris", "Chidi", "Dora", "Emil", "Farah", "Goro", "Hanna", "Ivan", "Jun"]
    things = ["a lantern", "two maps", "the red bicycle", "an old clock", "seven letters", "a jar of honey", "the blue kite"]
    places = ["harbour", "library", "north tower", "garden", "market", "mill", "railway station"]
    facts = ["%s left %s at the %s on day %d." % (r.choice(names), r.choice(things), r.choice(places), r.randint(1, 365))
             for _ in range(400)]
    code = str(r.randint(1000000, 9999999))
    facts.insert(20, f"The secret number is {code}.")
    ask = tok.encode("\nWhat is the secret number?<|im_end|>\n<|im_start|>assistant\n").ids
    head = tok.encode(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n" + " ".join(facts)).ids
    return head[:n - len(ask)] + ask


def save(name, what):
    path = os.path.join(HERE, name)
    with open(path, "w") as f:
        json.dump(what, f, separators=(",", ":"))
        f.write("\n")
    print(path, os.path.getsize(path), "bytes", flush=True)


def make_greedy(m, tok):
    cases = []
    for text in [chat(c) for c in CHATS] + TEXTS:
        s = Sequence(m, tok.encode(text).ids, [1] * m.L)
        s.prefill()
        cases.append({"prompt": s.ids[:], "out": s.greedy(32)})
        print(repr(tok.decode(s.ids[s.S:])), flush=True)
    save("greedy.json", {"cases": cases})


def make_routes(m, tok):
    prompts = [long_prompt(tok, n, n) for n in (1000, 1601, 2300)]
    few = [1 if l in (3, 11, 17, 24) else 0 for l in range(m.L)]
    routes = [[0] * m.L, [l % 2 for l in range(m.L)], few]
    cases = []
    for i, route in enumerate(routes):
        for j, window in enumerate((128, 256, 512)):
            p = (i + j) % 3  # every route and every window meets every length
            s = Sequence(m, prompts[p], route, window=window)
            s.prefill()
            cases.append({"prompt": p, "route": "".join(map(str, route)), "sink": 128, "window": window, "out": s.greedy(16)})
            print(p, window, repr(tok.decode(s.ids[s.S:])), flush=True)
    save("routes.json", {"prompts": prompts, "cases": cases})


def choose_bias(margins):
    """The bias that splits the prompts at the widest gap of their margins, so that bits are mixed and far from a tie."""
    s = sorted(margins)
    gap, mid = max((b - a, (a + b) / 2) for a, b in zip(s, s[1:]))
    return -round(mid, 4)


def make_router(m, tok, prompts, seed, n_out, pool):
    seqs = [Sequence(m, p, [None] * m.L, window=256) for p in prompts]
    last_bias, margins = [], [[] for _ in seqs]
    for l in range(m.L):
        qs = [s.queries(l) for s in seqs]
        bias = choose_bias([Router(seed, l, m.K, n_out).margin(q, pool) for q in qs])
        router = Router(seed, l, m.K, n_out, bias)
        last_bias.append(bias)
        for s, q, row in zip(seqs, qs, margins):
            row.append(round(router.margin(q, pool), 6))
            s.route[l] = 1 if row[-1] > 0 else 0
            s.layer(l)
    least = min(abs(x) for row in margins for x in row)
    print("outputs", n_out, "least margin", least, flush=True)
    return {"seed": seed, "n_out": n_out, "pool": pool, "sink": 128, "window": 256, "last_bias": last_bias, "least_margin": least,
            "cases": [{"prompt": i, "route": "".join(map(str, s.route)), "margin": margins[i], "out": s.greedy(4)}
                      for i, s in enumerate(seqs)]}


def make_routers(m, tok):
    prompts = [tok.encode("What is the capital of France, and which river runs by?").ids[:12]]
    prompts += [long_prompt(tok, n, n) for n in (150, 703, 1777, 2300)]
    save("routers.json", {"prompts": prompts, "forms": [make_router(m, tok, prompts, 1, 2, 100), make_router(m, tok, prompts, 2, 1, 150)]})


def check(m, tok):
    """The reference against transformers' Llama holding the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM
    V, D = m.w["token_embd.weight"].shape
    F = m.w["blk.0.ffn_up.weight"].shape[0]
    hf = LlamaForCausalLM(LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=F, num_hidden_layers=m.L, num_attention_heads=m.H, num_key_value_heads=m.G,
        rms_norm_eps=m.eps, rope_theta=m.rope_base, max_position_embeddings=8192, tie_word_embeddings=True)).float().eval()
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
             "ffn_norm": "post_attention_layernorm"}
    state = {"model.embed_tokens.weight": m.head, "lm_head.weight": m.head, "model.norm.weight": m.w["output_norm.weight"]}
    for l in range(m.L):
        for a, b in names.items():
            state[f"model.layers.{l}.{b}.weight"] = m.w[f"blk.{l}.{a}.weight"]
    hf.load_state_dict(state)
    ids = long_prompt(tok, 400, 5)
    s = Sequence(m, ids, [1] * m.L)
    s.prefill()
    diff = (m.logits(s.x).log_softmax(-1) - hf(torch.tensor([ids])).logits[0].log_softmax(-1)).abs().max()
    print("largest difference of any logprob to transformers:", float(diff))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    model, tk = Model(sys.argv[1]), tokenizer(sys.argv[1])
    if "--check" in sys.argv:
        check(model, tk)
    else:
        for make in (make_greedy, make_routes, make_routers):
            make(model, tk)
