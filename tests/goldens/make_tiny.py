"""Writes tests/goldens/tiny/<case>/: a random checkpoint of each family (config.json, safetensors) and golden.bin, the logits of the
transformers package in fp32 for a 300-token prompt and 20 greedy tokens. The two Paw families are not in that package: their forward
pass is written here from the definition, over the package's own modules, and must equal the package when every layer is full.
golden.bin: int32 n_prompt, n_out, V, L, has_router; route[L]; tokens[n_prompt + n_out]; float32 logits[n_prompt + n_out - 1][V]."""
import json
import math
import pathlib
import struct
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM, Qwen3ForCausalLM

ROOT = pathlib.Path(__file__).parent / "tiny"
D, H, G, K, F, V, N_PROMPT, N_OUT, BLOCK = 48, 4, 2, 16, 80, 64, 300, 20, 128
LINEAR = [("cls_feat_extractor.0", 8, 1), ("cls_feat_extractor.2", 2, 8), ("cls_router_head_agnostic.0", 4, 2),
          ("cls_router_head_agnostic.2", 1, 4), ("cls_router_head_agnostic.4", 0, 1)]


def case(arch, model_type, dtype, layers=2, shards=1, head=K, seed=1, **config):
    base = {"architectures": [arch], "model_type": model_type, "hidden_size": D, "num_attention_heads": H, "num_key_value_heads": G,
            "head_dim": head, "intermediate_size": F, "vocab_size": V, "num_hidden_layers": layers, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False}
    return {**base, **config}, dtype, shards, seed


CASES = {
    "llama": case("LlamaForCausalLM", "llama", torch.float32, tie_word_embeddings=True, eos_token_id=[2, 3],
                  rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
    "llama_bias": case("LlamaForCausalLM", "llama", torch.float16, tie_word_embeddings=True, seed=8, rope_theta=10000.0, attention_bias=True,
                       mlp_bias=True),
    "mistral": case("MistralForCausalLM", "mistral", torch.bfloat16, seed=9, rope_theta=10000.0, sliding_window=4096, max_position_embeddings=8192),
    "llama3": case("LlamaForCausalLM", "llama", torch.bfloat16, shards=3, seed=2, rope_theta=500000.0,
                   rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                 "original_max_position_embeddings": 256}),
    "qwen2": case("Qwen2ForCausalLM", "qwen2", torch.float16, tie_word_embeddings=True, seed=3, rms_norm_eps=1e-6, rope_theta=1000000.0,
                  rope_scaling={"type": "linear", "factor": 2.0}, use_sliding_window=False, sliding_window=None),
    "qwen3": case("Qwen3ForCausalLM", "qwen3", torch.bfloat16, head=32, seed=4,
                  rope_parameters={"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0, "original_max_position_embeddings": 256}),
    "paw_llama": case("PawLlamaForCausalLM", "llama", torch.bfloat16, layers=3, seed=5, rope_theta=10000.0, toggle_type="streaming",
                      retrieval_mode="full", sink_size=128, local_window_size=128, pool_size=150.0, use_softmax=True, pooling_mode="ctx_q"),
    "paw_qwen3": case("PawQwen3ForCausalLM", "qwen3", torch.float16, layers=3, seed=7, rope_theta=1000000.0, sink_size=100,
                      local_window_size=120),
}


def make_weights(c, dtype, seed):
    g = torch.Generator().manual_seed(seed)
    head = c["head_dim"]
    q, kv, paw = H * head, G * head, c["architectures"][0].startswith("Paw")
    w = {}

    def matrix(name, n, k, gain=1.5):
        w[name] = torch.randn(n, k, generator=g) * gain / math.sqrt(k)

    def vector(name, n, mean, spread):
        w[name] = mean + spread * torch.randn(n, generator=g)

    w["model.embed_tokens.weight"] = torch.randn(V, D, generator=g) * 0.5
    vector("model.norm.weight", D, 1, 0.2)
    if not c["tie_word_embeddings"]:
        matrix("lm_head.weight", V, D)
    for l in range(c["num_hidden_layers"]):
        p = f"model.layers.{l}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            vector(p + name + ".weight", D, 1, 0.2)
        a = p + "self_attn."
        for name, n, k in (("q_proj", q, D), ("k_proj", kv, D), ("v_proj", kv, D), ("o_proj", D, q)):
            matrix(a + name + ".weight", n, k)
            if c["model_type"] == "qwen2" and name != "o_proj" or c.get("attention_bias"):
                vector(a + name + ".bias", n, 0, 0.5)
        if c["model_type"] == "qwen3":
            for name in ("q_norm", "k_norm"):
                vector(a + name + ".weight", head, 1, 0.3)
        for name, n, k in (("gate_proj", F, D), ("up_proj", F, D), ("down_proj", D, F)):
            matrix(p + f"mlp.{name}.weight", n, k)
            if c.get("mlp_bias"):
                vector(p + f"mlp.{name}.bias", n, 0, 0.5)
        for name, out, inp in LINEAR if paw else ():
            rows = out * head if out else (2 if c.get("use_softmax") else 1)
            matrix(f"{a}mask_allocator.{name}.weight", rows, inp * head, 3)
            vector(f"{a}mask_allocator.{name}.bias", rows, 0, 0.2)
        if paw:
            w[a + "attn_mask_log_alphas"] = torch.zeros(G)  # no use at inference
    return {k: v.to(dtype).contiguous() for k, v in w.items()}


def save(path, c, w, shards):
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(c, indent=1) + "\n")
    names = sorted(w)
    if shards == 1:
        return save_file(w, path / "model.safetensors", metadata={"format": "pt"})
    where = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: w[n] for n in names[i::shards]}
        save_file(part, path / file, metadata={"format": "pt"})
        where.update({n: file for n in part})
    size = sum(t.numel() * t.element_size() for t in w.values())
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": where}, indent=0) + "\n")


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos[:, None] + torch.cat([-b, a], -1) * sin[:, None]


class Paw:
    """Flux Attention over the package's modules: dense masks, one routing decision per layer from the prompt's queries."""

    def __init__(self, model, c, w):
        self.m, self.c, self.w = model.model, c, {k: v.float() for k, v in w.items()}
        self.head = model.lm_head
        self.sink, self.local = (math.ceil(c.get(k, d) / BLOCK) for k, d in (("sink_size", 128), ("local_window_size", 1024)))

    def margin(self, l, q):
        pool = int(self.c.get("pool_size", 100))
        x = torch.cat([q[:pool], q[max(len(q) - pool, 0):]]).mean((0, 1))
        for i, (name, _, _) in enumerate(LINEAR):
            p = f"model.layers.{l}.self_attn.mask_allocator.{name}."
            x = self.w[p + "weight"] @ x + self.w[p + "bias"]
            if i in (0, 2, 3):
                x = torch.nn.functional.silu(x)
        return float(x[1] - x[0]) if len(x) == 2 else float(x[0])

    def forward(self, ids, route):
        """Logits of all rows; an empty route is filled in."""
        ids = torch.tensor(ids)
        x, pos = self.m.embed_tokens(ids), torch.arange(len(ids))
        cos, sin = (t[0] for t in self.m.rotary_emb(x[None], pos[None]))
        fresh, margins = not route, []
        for l, layer in enumerate(self.m.layers):
            a, h = layer.self_attn, layer.input_layernorm(x)
            q, k, v = (p(h).view(len(ids), -1, self.c["head_dim"]) for p in (a.q_proj, a.k_proj, a.v_proj))
            if hasattr(a, "q_norm"):
                q, k = a.q_norm(q), a.k_norm(k)
            if fresh:
                margins.append(self.margin(l, q))
                route.append(int(margins[-1] > 0))
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            i, j = pos[:, None], pos[None]
            seen = j <= i
            if not route[l]:
                seen &= (j // BLOCK < self.sink) | (j // BLOCK > i // BLOCK - self.local)
            k, v = (t.repeat_interleave(H // G, 1) for t in (k, v))
            s = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(self.c["head_dim"])
            o = torch.einsum("hij,jhd->ihd", s.masked_fill(~seen, -math.inf).softmax(-1), v)
            x = x + a.o_proj(o.reshape(len(ids), -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self.head(self.m.norm(x)), margins


@torch.no_grad()
def main():
    for name in sys.argv[1:] or CASES:
        c, dtype, shards, seed = CASES[name]
        w = make_weights(c, dtype, seed)
        path = ROOT / name
        save(path, c, w, shards)
        paw = c["architectures"][0].startswith("Paw")
        cls = {"llama": LlamaForCausalLM, "qwen3": Qwen3ForCausalLM}[c["model_type"]] if paw else AutoModelForCausalLM
        model = cls.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
        g = torch.Generator().manual_seed(100 + seed)
        ids = torch.randint(4, V, (N_PROMPT,), generator=g).tolist()
        theirs = lambda: model(torch.tensor([ids])).logits[0]
        route = [] if paw else [1] * c["num_hidden_layers"]
        if paw:
            ref = Paw(model, c, w)
            full = [1] * c["num_hidden_layers"]
            assert (ref.forward(ids, full)[0] - theirs()).abs().max() < 1e-4
            margins = ref.forward(ids, route)[1]
            assert len(set(route)) == 2 and min(map(abs, margins)) > 0.02, (name, margins)
            print(name, "margins", margins, "sparse differs by", float((ref.forward(ids, full)[0] - ref.forward(ids, route)[0]).abs().max()))
        gap = math.inf
        for _ in range(N_OUT):
            logits = ref.forward(ids, route)[0] if paw else theirs()
            top = logits[-1].topk(2).values
            gap = min(gap, float(top[0] - top[1]))
            ids.append(int(logits[-1].argmax()))
        assert gap > 1e-3, (name, gap)
        head = [N_PROMPT, N_OUT, V, len(route), int(paw)] + route + ids
        (path / "golden.bin").write_bytes(struct.pack(f"<{len(head)}i", *head) + logits.contiguous().numpy().astype("<f4").tobytes())
        print(name, "logits up to", float(logits.abs().max()), "closest", gap, sum(f.stat().st_size for f in path.iterdir()), "bytes")


if __name__ == "__main__":
    main()
