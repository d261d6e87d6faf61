#!/usr/bin/env python3
"""A checkpoint of random bf16 weights of a known shape as Hugging Face lays it out (shards, index, configuration, tokenizer), to measure loading.

usage: gpu_weights.py SHAPE FOLDER      (needs PyTorch and safetensors; Qwen3 and Llama shapes of configs/shapes)
"""
import json
import os
import sys

import torch
from safetensors.torch import save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gpu_serve import make_model  # noqa: E402

SHARD_BYTES = 4 << 30


def shapes(c):
    """(name, shape) in the order of the model."""
    d, f, h, g = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"], c["num_key_value_heads"]
    k = c.get("head_dim") or d // h
    yield "model.embed_tokens.weight", (c["vocab_size"], d)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (d,)
        yield p + "post_attention_layernorm.weight", (d,)
        if c["model_type"] == "qwen3":
            yield p + "self_attn.q_norm.weight", (k,)
            yield p + "self_attn.k_norm.weight", (k,)
        for name, shape in (("q_proj", (h * k, d)), ("k_proj", (g * k, d)), ("v_proj", (g * k, d)), ("o_proj", (d, h * k))):
            yield p + f"self_attn.{name}.weight", shape
        for name, shape in (("gate_proj", (f, d)), ("up_proj", (f, d)), ("down_proj", (d, f))):
            yield p + f"mlp.{name}.weight", shape
    yield "model.norm.weight", (d,)
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", (c["vocab_size"], d)


def main():
    shape, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    config = make_model(folder, shape)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    shards, now, size = [], {}, 0
    for name, s in shapes(config):
        t = torch.ones(s, dtype=torch.bfloat16) if len(s) == 1 else (torch.randn(s, device=device, dtype=torch.bfloat16) * s[1] ** -0.5).cpu()
        now[name] = t
        size += t.numel() * 2
        if size >= SHARD_BYTES:
            shards.append(now)
            now, size = {}, 0
    if now:
        shards.append(now)
    where, total = {}, 0
    for i, part in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(part, os.path.join(folder, file), metadata={"format": "pt"})
        where.update(dict.fromkeys(part, file))
        total += sum(t.numel() * 2 for t in part.values())
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": where}, f)
    print(f"{total / 1e9:.1f} GB in {len(shards)} files")


main()
