"""Reads backbones: a GGUF file or a Hugging Face directory -> (Spec, weights under Hugging Face names, Tokenizer)."""
from __future__ import annotations

import json
import os

import torch
from safetensors import safe_open
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from training.backbone import Spec

GGUF_NAMES = {
    "attn_norm.weight": "input_layernorm.weight", "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight", "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    "attn_q.weight": "self_attn.q_proj.weight", "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight", "attn_output.weight": "self_attn.o_proj.weight",
    "attn_q.bias": "self_attn.q_proj.bias", "attn_k.bias": "self_attn.k_proj.bias",
    "attn_v.bias": "self_attn.v_proj.bias",
    "attn_q_norm.weight": "self_attn.q_norm.weight", "attn_k_norm.weight": "self_attn.k_norm.weight",
}
GGUF_TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
            "output.weight": "lm_head.weight"}
FAMILIES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3",
            "LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3",
            "PawLlamaForCausalLM": "llama", "PawQwen3ForCausalLM": "qwen3"}


def unpermute_rope_rows(w: torch.Tensor, n_head: int) -> torch.Tensor:
    """Llama GGUF files keep the rows of q and k in rotary pairs (2i, 2i+1); Hugging Face order pairs (i, i + K/2)."""
    rows, rest = w.shape[0], w.shape[1:]
    return w.view(n_head, rows // n_head // 2, 2, *rest).swapaxes(1, 2).reshape(rows, *rest)


def load_gguf(path: str):
    from gguf import GGUFReader
    from gguf.quants import dequantize
    r = GGUFReader(path)
    meta = {k: f.contents() for k, f in r.fields.items()}
    arch = meta["general.architecture"]
    if arch not in FAMILIES:
        raise ValueError(f"{path}: architecture '{arch}' is not supported")
    weights = {}
    for t in r.tensors:
        data = torch.from_numpy(dequantize(t.data, t.tensor_type).copy())
        if t.name in GGUF_TOP:
            weights[GGUF_TOP[t.name]] = data
            continue
        _, layer, part = t.name.split(".", 2)
        weights[f"model.layers.{layer}.{GGUF_NAMES[part]}"] = data
    n_head = int(meta[f"{arch}.attention.head_count"])
    n_kv = int(meta.get(f"{arch}.attention.head_count_kv", n_head))
    d = int(meta[f"{arch}.embedding_length"])
    spec = Spec(n_layer=int(meta[f"{arch}.block_count"]), d=d, n_head=n_head, n_kv=n_kv,
                head=int(meta.get(f"{arch}.attention.key_length", d // n_head)),
                d_ffn=int(meta[f"{arch}.feed_forward_length"]), vocab=weights["model.embed_tokens.weight"].shape[0],
                eps=float(meta[f"{arch}.attention.layer_norm_rms_epsilon"]),
                rope_theta=float(meta.get(f"{arch}.rope.freq_base", 10000.0)), family=FAMILIES[arch])
    if arch == "llama":
        for name in weights:
            for part, heads in (("q_proj", n_head), ("k_proj", n_kv)):
                if f".{part}." in name:
                    weights[name] = unpermute_rope_rows(weights[name], heads)
    return spec, weights, gguf_tokenizer(meta)


def gguf_tokenizer(meta: dict) -> Tokenizer:
    """Byte-level BPE from a GGUF file's own tables ('gpt2' vocabularies, digits split one by one where 'smollm')."""
    if meta["tokenizer.ggml.model"] != "gpt2" or meta.get("tokenizer.ggml.pre") != "smollm":
        raise ValueError("only the smollm vocabulary is read from GGUF; use the model's Hugging Face directory")
    tokens = meta["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ", 1)) for m in meta["tokenizer.ggml.merges"]]
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    control = [t for t, kind in zip(tokens, meta["tokenizer.ggml.token_type"]) if kind == 3]
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    return tok


def spec_from_config(c: dict) -> Spec:
    arch = (c.get("architectures") or [c.get("model_type")])[0]
    if arch not in FAMILIES:
        raise ValueError(f"architecture '{arch}' is not supported")
    rope = c.get("rope_scaling") or c.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    n_head = c["num_attention_heads"]
    return Spec(n_layer=c["num_hidden_layers"], d=c["hidden_size"], n_head=n_head,
                n_kv=c.get("num_key_value_heads", n_head), head=c.get("head_dim") or c["hidden_size"] // n_head,
                d_ffn=c["intermediate_size"], vocab=c["vocab_size"], eps=c["rms_norm_eps"],
                rope_theta=float(c.get("rope_theta") or rope.get("rope_theta", 10000.0)),
                rope_scaling=None if kind == "default" else rope, family=FAMILIES[arch], raw=c)


def shard_names(folder: str) -> list[str]:
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index) as f:
            return sorted(set(json.load(f)["weight_map"].values()))
    return ["model.safetensors"]


def load_hf(folder: str):
    with open(os.path.join(folder, "config.json")) as f:
        spec = spec_from_config(json.load(f))
    weights = {}
    for shard in shard_names(folder):
        with safe_open(os.path.join(folder, shard), "pt") as f:
            weights.update({n: f.get_tensor(n) for n in f.keys()
                            if "mask_allocator" not in n and n.startswith(("model.", "lm_head."))})
    return spec, weights, Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))


def load(path: str):
    return load_gguf(path) if path.endswith(".gguf") else load_hf(path)
