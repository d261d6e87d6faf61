"""Writes tests/goldens/tiny/<case>/ for each form of quantised checkpoints: config.json, model.safetensors and golden.bin (as
make_tiny.py describes it), the logits of the transformers package in fp32 on the values that the codes stand for. compressed-tensors
writes its own files and says their values; the others are packed here from the definition of their formats and read back by unpackers
that are written on their own, byte by byte, so that a slip in one is no slip in both.

    python tests/goldens/make_scaled.py [CASE ...]     (torch, transformers, safetensors, compressed-tensors)
"""
import json
import math
import pathlib
import struct
import sys

import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).parent / "tiny"
V, N_PROMPT, N_OUT = 64, 40, 8
E4M3 = torch.float8_e4m3fn


def model(arch, kind, d=64, f=128, layers=1, **more):
    return {"architectures": [arch], "model_type": kind, "hidden_size": d, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": d // 4, "intermediate_size": f, "vocab_size": V, "num_hidden_layers": layers, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": True,
            "rope_theta": 10000.0, **more}


def make_weights(c, seed):
    g = torch.Generator().manual_seed(seed)
    d, f, q, kv = c["hidden_size"], c["intermediate_size"], c["hidden_size"], c["hidden_size"] // 2
    w = {"model.embed_tokens.weight": torch.randn(V, d, generator=g) * 0.5,
         "model.norm.weight": 1 + 0.2 * torch.randn(d, generator=g)}
    if not c["tie_word_embeddings"]:
        w["lm_head.weight"] = torch.randn(V, d, generator=g) * 1.5 / math.sqrt(d)
    for l in range(c["num_hidden_layers"]):
        p = f"model.layers.{l}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            w[p + name + ".weight"] = 1 + 0.2 * torch.randn(d, generator=g)
        for name, n, k in (("self_attn.q_proj", q, d), ("self_attn.k_proj", kv, d), ("self_attn.v_proj", kv, d), ("self_attn.o_proj", d, q),
                           ("mlp.gate_proj", f, d), ("mlp.up_proj", f, d), ("mlp.down_proj", d, f)):
            m = torch.randn(n, k, generator=g) * 1.5 / math.sqrt(k)
            m *= torch.exp(torch.randn(n, 1, generator=g) * 0.5)  # channels of different sizes
            w[p + name + ".weight"] = m
            if c["model_type"] == "qwen2" and name[-6:-5] in "qkv" and "attn" in name:
                w[p + name + ".bias"] = 0.3 * torch.randn(n, generator=g)
        if c["model_type"] == "qwen3":
            for name in ("q_norm", "k_norm"):
                w[p + f"self_attn.{name}.weight"] = 1 + 0.3 * torch.randn(c["head_dim"], generator=g)
    return {k: v.to(torch.bfloat16) for k, v in w.items()}


# --- compressed-tensors: the package quantises, packs and says the values

def scale_and_zero(m, a):
    """Scales [n, groups] in fp32 (and zero points) by each group's extremes; of a tensor one."""
    n, k = m.shape
    if a.strategy == "tensor":
        x = m.reshape(1, 1, -1)
    elif a.strategy == "block":
        b = a.block_structure
        x = m.reshape(n // b[0], b[0], k // b[1], b[1]).permute(0, 2, 1, 3).reshape(n // b[0], k // b[1], -1)
    else:
        x = m.reshape(n, -1, a.group_size if a.strategy == "group" else k)
    if a.type == "float":
        return x.abs().amax(-1) / 448, None
    if a.symmetric:
        return x.abs().amax(-1) / 7.5, torch.zeros(x.shape[:2], dtype=torch.int8)
    low, high = x.amin(-1).clamp(max=0), x.amax(-1).clamp(min=0)
    scale = (high - low) / 15
    return scale, torch.round(-8 - low / scale).clamp(-8, 7).to(torch.int8)


def compressed(m, a, scale_type):
    scheme = QuantizationScheme(targets=["Linear"], weights=a)
    scale, zero = scale_and_zero(m.float(), a)
    scale = scale.to(scale_type)
    form = "float-quantized" if a.type == "float" else "pack-quantized"
    state = {"weight": m.float(), "weight_scale": scale.reshape(-1) if a.strategy == "tensor" else scale}
    if zero is not None:
        state["weight_zero_point"] = zero
    out = BaseCompressor.load_from_registry(form).compress(state, scheme)
    if "weight_packed" not in out:
        q = out["weight"].float()
        values = q * scale.float().reshape(-1)[0] if a.strategy == "tensor" else dequantize(q, scale.float(), None, a)
    else:
        words = out["weight_packed"].numpy().view(np.uint8)
        q = np.stack([words & 15, words >> 4], -1).reshape(m.shape).astype(np.float32) - 8
        values = dequantize(torch.from_numpy(q), scale.float(), zero.float(), a)
        again = BaseCompressor.load_from_registry(form).decompress(dict(out), scheme)["weight"].float()
        assert (again - values).abs().max() <= 0.01 * values.abs().max()  # in the scale's type
    return {k: v for k, v in out.items() if v is not None}, values.float()


# --- the others

def fp8(m, rows, cols):
    """Codes and scales of blocks rows x cols, ends cut off."""
    n, k = m.shape
    scale = torch.zeros(-(-n // rows), -(-k // cols))
    code = torch.zeros(n, k, dtype=E4M3)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            at = slice(i * rows, (i + 1) * rows), slice(j * cols, (j + 1) * cols)
            scale[i, j] = m[at].abs().max() / 448
            code[at] = (m[at] / scale[i, j]).to(E4M3)
    return code, scale


def fp8_values(code, scale, rows, cols):
    """By the definition of e4m3 and of the blocks, one number at a time."""
    b, out = code.view(torch.uint8).numpy(), np.zeros(code.shape, np.float32)
    for i in range(b.shape[0]):
        for j in range(b.shape[1]):
            e, m = b[i, j] >> 3 & 15, int(b[i, j]) & 7
            v = (1 + m / 8) * 2.0 ** (int(e) - 7) if e else m / 8 * 2.0**-6
            out[i, j] = np.float32(-v if b[i, j] >> 7 else v) * np.float32(scale[i // rows, j // cols])
    return torch.from_numpy(out)


def int4(m, group, symmetric, order=None):
    """Codes 0..15 [n, k], scales fp16 [n, groups], zero points: columns of one group are those of `order`."""
    n, k = m.shape
    group = k if group < 0 else group
    order = torch.arange(k) // group if order is None else order
    q, scale, zero = torch.zeros(n, k, dtype=torch.int64), torch.zeros(n, k // group), torch.zeros(n, k // group, dtype=torch.int64)
    for g in range(k // group):
        x = m[:, order == g]
        if symmetric:
            s, z = (x.abs().amax(1) / 7.5), torch.full((n,), 8)
        else:
            low, high = x.amin(1).clamp(max=0), x.amax(1).clamp(min=0)
            s = (high - low) / 15
            z = torch.round(-low / s).clamp(1, 15).long()
        s = s.half().float()
        q[:, order == g] = (torch.round(x / s[:, None]) + z[:, None]).clamp(0, 15).long()
        scale[:, g], zero[:, g] = s, z
    return q, scale.half(), zero, order


def words(nibbles):
    """[..., 8] to int32, the first in the lowest bits."""
    v = (nibbles.long() << (4 * torch.arange(8))).sum(-1)
    return torch.where(v >= 2**31, v - 2**32, v).to(torch.int32)


AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def awq_tensors(q, scale, zero):
    n, k = q.shape
    pick = lambda x: words(x.T.reshape(-1, n // 8, 8)[..., AWQ_ORDER])
    return {"qweight": pick(q), "qzeros": pick(zero), "scales": scale.T.contiguous()}


def awq_values(t, group):
    qw, qz, s = (t[x].numpy() for x in ("qweight", "qzeros", "scales"))
    k, n = qw.shape[0], qw.shape[1] * 8
    group = k if group < 0 else group
    out = np.zeros((n, k), np.float32)
    for i in range(n):
        shift = 4 * AWQ_ORDER.index(i % 8)
        for j in range(k):
            code = (int(qw[j, i // 8]) & 0xFFFFFFFF) >> shift & 15
            zero = (int(qz[j // group, i // 8]) & 0xFFFFFFFF) >> shift & 15
            out[i, j] = np.float32(code - zero) * np.float32(s[j // group, i])
    return torch.from_numpy(out)


def gptq_tensors(q, scale, zero, order, less):
    n, k = q.shape
    return {"qweight": words(q.T.reshape(k // 8, 8, n).permute(0, 2, 1)), "qzeros": words((zero - less).T.reshape(-1, n // 8, 8)),
            "scales": scale.T.contiguous(), "g_idx": order.to(torch.int32)}


def gptq_values(t, less):
    qw, qz, s, g = (t[x].numpy() for x in ("qweight", "qzeros", "scales", "g_idx"))
    k, n = qw.shape[0] * 8, qw.shape[1]
    out = np.zeros((n, k), np.float32)
    for i in range(n):
        for j in range(k):
            code = (int(qw[j // 8, i]) & 0xFFFFFFFF) >> 4 * (j % 8) & 15
            zero = ((int(qz[g[j], i // 8]) & 0xFFFFFFFF) >> 4 * (i % 8) & 15) + less
            out[i, j] = np.float32(code - zero) * np.float32(s[g[j], i])
    return torch.from_numpy(out)


# --- cases: (config, quantization_config, module -> (tensors, values) or None where it stays as it is)

def is_matrix(name):
    return name.endswith("_proj.weight") or name == "lm_head.weight"


def args(kind, strategy, **more):
    return {"num_bits": 8 if kind == "float" else 4, "type": kind, "symmetric": True, "strategy": strategy, "dynamic": False, **more}


def ct_config(groups, **more):
    return {"quant_method": "compressed-tensors", "quantization_status": "compressed", "config_groups": groups, "ignore": [],
            "global_compression_ratio": None, "kv_cache_scheme": None, **more}


def ct_case(c, groups, pick, scale_type=torch.bfloat16, **more):
    """pick(module): name of its group, or None."""
    def store(module, m):
        g = pick(module)
        if g is None:
            return None
        t, v = compressed(m, QuantizationArgs(**groups[g]["weights"]), scale_type)
        if (groups[g].get("input_activations") or {}).get("dynamic") is False:
            t["input_scale"] = torch.tensor([0.0125], dtype=scale_type)
        return t, v
    return c, ct_config(groups, **more), store


def all_but_head(module):
    return None if module == "lm_head" else "group_0"


def fp8_block(module, m):
    if module == "model.layers.0.self_attn.o_proj":
        return None
    code, scale = fp8(m.float(), 128, 128)
    return {"weight": code, "weight_scale_inv": scale}, fp8_values(code, scale, 128, 128)


def fp8_static(module, m):
    if module == "lm_head":
        return None
    code, scale = fp8(m.float(), *m.shape)
    return {"weight": code, "weight_scale": scale.reshape(()), "input_scale": torch.tensor(0.5)}, fp8_values(code, scale, *m.shape)


def fbgemm(module, m):
    if module.startswith("model.layers.0.mlp.down"):
        return None
    code, scale = fp8(m.float(), 1, m.shape[1])
    return {"weight": code, "weight_scale": scale, "input_scale_ub": torch.tensor([1200.0])}, fp8_values(code, scale, 1, m.shape[1])


def awq(group):
    def store(module, m):
        if "v_proj" in module:
            return None
        q, s, z, _ = int4(m.float(), group, False)
        t = awq_tensors(q, s, z)
        return t, awq_values(t, group)
    return store


def gptq(group, symmetric, ordered, less):
    def store(module, m):
        order = None
        if ordered:
            g = torch.Generator().manual_seed(len(module) + m.shape[0])
            order = torch.randperm(m.shape[1], generator=g) // group
        q, s, z, order = int4(m.float(), group, symmetric, order)
        t = gptq_tensors(q, s, z, order, less)
        return t, gptq_values(t, less)
    return store


TOKEN = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "token", "dynamic": True}
STATIC = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "dynamic": False}
LLAMA, QWEN2, QWEN3 = ("LlamaForCausalLM", "llama"), ("Qwen2ForCausalLM", "qwen2"), ("Qwen3ForCausalLM", "qwen3")


def mixed_pick(module):
    if module == "lm_head":
        return "group_0"
    if module.startswith("model.layers.1.mlp"):
        return None
    return "group_1" if "mlp" in module else "group_0"


CASES = {
    "fp8_channel": lambda: ct_case(model(*LLAMA, tie_word_embeddings=False),
                                   {"group_0": {"targets": ["Linear"], "weights": args("float", "channel"), "input_activations": TOKEN}},
                                   all_but_head, format="float-quantized", ignore=["lm_head"]),
    "fp8_tensor": lambda: ct_case(model(*QWEN2), {"group_0": {"targets": ["Linear"], "weights": args("float", "tensor"), "input_activations": STATIC}},
                                  all_but_head, torch.float32, format="float-quantized", ignore=["lm_head"], kv_cache_scheme=STATIC),
    "fp8_block": lambda: (model(*QWEN3, f=192), {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [128, 128],
                                                 "modules_to_not_convert": ["lm_head", "model.layers.0.self_attn.o_proj"]}, fp8_block),
    "fp8_static": lambda: (model(*LLAMA), {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]}, fp8_static),
    "fbgemm": lambda: (model(*LLAMA), {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0,
                                       "modules_to_not_convert": ["lm_head", r"model\.layers\.0\.mlp\.d[a-z]+_proj"]}, fbgemm),
    "awq": lambda: (model(*LLAMA, d=128), {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm",
                                           "modules_to_not_convert": ["v_proj"]}, awq(128)),
    "gptq": lambda: (model(*LLAMA), {"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True, "desc_act": False, "damp_percent": 0.01,
                                     "true_sequential": True, "checkpoint_format": "gptq"}, gptq(64, True, False, 1)),
    "gptq_order": lambda: (model(*QWEN2), {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False, "desc_act": True,
                                           "checkpoint_format": "gptq_v2"}, gptq(32, False, True, 0)),
    "packed": lambda: ct_case(model(*QWEN3), {"group_0": {"targets": ["Linear"], "weights": args("int", "group", group_size=32)}},
                              all_but_head, format="pack-quantized", ignore=["lm_head"]),
    "packed_zeros": lambda: ct_case(model(*LLAMA, f=192), {"group_0": {"targets": ["Linear"], "weights": {**args("int", "group", group_size=64), "symmetric": False}}},
                                    all_but_head, torch.float16, format="pack-quantized", ignore=["re:.*lm_head"]),
    "mixed": lambda: ct_case(model(*LLAMA, layers=2, tie_word_embeddings=False),
                             {"group_0": {"targets": ["Linear"], "weights": args("float", "channel"), "input_activations": TOKEN, "format": "float-quantized"},
                              "group_1": {"targets": ["re:.*mlp\\.(gate|up|down)_proj$"], "weights": {**args("int", "channel"), "symmetric": False}, "format": "pack-quantized"}},
                             mixed_pick, format="mixed-precision", ignore=["re:model\\.layers\\.1\\.mlp.*"]),
}


@torch.no_grad()
def main():
    for seed, name in enumerate(CASES):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        c, quant, store = CASES[name]()
        plain = make_weights(c, 50 + seed)
        file, values = {}, {}
        for full, m in plain.items():
            module = full.removesuffix(".weight")
            stored = store(module, m) if is_matrix(full) else None
            values[full] = stored[1] if stored else m.float()
            file.update({f"{module}.{k}": v.contiguous() for k, v in stored[0].items()} if stored else {full: m})
        if quant.get("kv_cache_scheme"):
            for l in range(c["num_hidden_layers"]):
                file[f"model.layers.{l}.self_attn.k_scale"] = torch.tensor([0.05])
                file[f"model.layers.{l}.self_attn.v_scale"] = torch.tensor([0.06])
        path = ROOT / name
        path.mkdir(parents=True, exist_ok=True)
        save_file(file, path / "model.safetensors", metadata={"format": "pt"})
        (path / "config.json").write_text(json.dumps({**c, "quantization_config": quant}, indent=1) + "\n")

        plain_path = pathlib.Path(sys.prefix) / "tiny_plain"
        plain_path.mkdir(exist_ok=True)
        (plain_path / "config.json").write_text(json.dumps(c))
        save_file({k: v.contiguous() for k, v in values.items()}, plain_path / "model.safetensors", metadata={"format": "pt"})
        net = AutoModelForCausalLM.from_pretrained(plain_path, dtype=torch.float32, attn_implementation="eager").eval()
        g = torch.Generator().manual_seed(100 + seed)
        ids = torch.randint(4, V, (N_PROMPT,), generator=g).tolist()
        gap = math.inf
        for _ in range(N_OUT):
            logits = net(torch.tensor([ids])).logits[0]
            top = logits[-1].topk(2).values
            gap = min(gap, float(top[0] - top[1]))
            ids.append(int(logits[-1].argmax()))
        assert gap > 1e-2, (name, gap)
        unlike = max(float((values[k] - plain[k].float()).abs().max()) for k in values if is_matrix(k))
        head = [N_PROMPT, N_OUT, V, c["num_hidden_layers"], 0] + [1] * c["num_hidden_layers"] + ids
        (path / "golden.bin").write_bytes(struct.pack(f"<{len(head)}i", *head) + logits.contiguous().numpy().astype("<f4").tobytes())
        print(name, "logits up to", float(logits.abs().max()), "closest", gap, "codes off by up to", unlike, sum(f.stat().st_size for f in path.iterdir()), "bytes")


if __name__ == "__main__":
    main()
