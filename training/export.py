"""Writes what a server loads: a router file, or a whole Paw* checkpoint (base shards with routers attached).

    python -m training.export --run RUN --router OUT.safetensors [--base HF_DIR --checkpoint OUT_DIR]
"""
from __future__ import annotations

import argparse
import json
import os
import shutil

from safetensors.torch import save_file

from training.router import Routers
from training.weights import FAMILIES, shard_names

PAW = {"llama": "PawLlamaForCausalLM", "qwen3": "PawQwen3ForCausalLM"}


def write_checkpoint(base: str, out: str, routers: Routers):
    """Base shards are copied unchanged; the routers come as one more shard, and the index names them all."""
    with open(os.path.join(base, "config.json")) as f:
        config = json.load(f)
    family = FAMILIES[config["architectures"][0]]
    if family not in PAW:
        raise ValueError(f"there is no Paw class for the {family} family")
    config.update(routers.sizes, architectures=[PAW[family]], retrieval_mode="full", pooling_mode="ctx_q")
    os.makedirs(out, exist_ok=True)
    from safetensors import safe_open
    weight_map, n_bytes = {}, 0
    for shard in shard_names(base):
        target = shard if shard != "model.safetensors" else "model-base.safetensors"
        shutil.copyfile(os.path.join(base, shard), os.path.join(out, target))
        with safe_open(os.path.join(out, target), "pt") as f:
            weight_map.update({n: target for n in f.keys()})
        n_bytes += os.path.getsize(os.path.join(out, target))
    tensors = routers.tensors()
    save_file(tensors, os.path.join(out, "model-routers.safetensors"), metadata={"format": "pt"})
    weight_map.update({n: "model-routers.safetensors" for n in tensors})
    n_bytes += sum(t.numel() * t.element_size() for t in tensors.values())
    with open(os.path.join(out, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": n_bytes}, "weight_map": weight_map}, f, indent=1, sort_keys=True)
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
                 "chat_template.jinja", "vocab.json", "merges.txt"):
        if os.path.exists(os.path.join(base, name)):
            shutil.copyfile(os.path.join(base, name), os.path.join(out, name))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--run", required=True, help="training folder (its routers.safetensors) or a router file")
    ap.add_argument("--router", help="router file to write")
    ap.add_argument("--base", help="Hugging Face directory of the base model, for --checkpoint")
    ap.add_argument("--checkpoint", help="directory to write the whole checkpoint to")
    a = ap.parse_args()
    source = os.path.join(a.run, "routers.safetensors") if os.path.isdir(a.run) else a.run
    routers = Routers.load(source)
    if a.router:
        routers.save(a.router)
    if a.checkpoint:
        if not a.base:
            ap.error("--checkpoint needs --base")
        write_checkpoint(a.base, a.checkpoint, routers)


if __name__ == "__main__":
    main()
