"""The shipped configurations run from end to end on tiny random models of their families, and what they export is what
fluxd serves: the same decisions, from a router file and from a whole checkpoint."""
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from safetensors.torch import save_file

from training import export, train
from training.backbone import Spec
from training.eval import bits, report, run_torch, search, suite
from training.router import Routers

from conftest import random_weights

ROOT = os.path.join(os.path.dirname(__file__), "../..")
FLUXD = os.environ.get("FLUXD_BIN", os.path.join(ROOT, "build/fluxd"))
ROPE = dict(rope_type="llama3", factor=8.0, high_freq_factor=4.0, low_freq_factor=1.0, original_max_position_embeddings=64)
MODELS = {"llama3": dict(architectures=["LlamaForCausalLM"], model_type="llama", rope_scaling=ROPE, rope_theta=500000.0),
          "qwen3": dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", rope_theta=1000000.0, tie_word_embeddings=True)}
TINY = ("train.steps=2", "train.tokens_per_batch=2048", 'train.buckets={"640":1}', "train.validation_batches=1", "train.pad_token=0",
        "train.calibration_batches=1", "train.validate_every=2", "train.lr=0.05", "router.local_window_size=128", "router.bias_full=0.0")


def make_model(folder, family, tokenizer):
    import torch
    spec = Spec(n_layer=4, d=128, n_head=2, n_kv=1, head=64, d_ffn=128, vocab=260, eps=1e-5, rope_theta=1.0)
    weights = random_weights(spec, seed=3)
    for i in range(spec.n_layer):
        if family == "qwen3":
            for name in ("q_norm", "k_norm"):
                weights[f"model.layers.{i}.self_attn.{name}.weight"] = 1 + 0.1 * torch.randn(64)
    if family == "llama3":
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].flip(0).contiguous()
    folder.mkdir()
    save_file({n: w.to(torch.bfloat16) for n, w in weights.items()}, str(folder / "model.safetensors"), metadata={"format": "pt"})
    sizes = dict(num_hidden_layers=4, hidden_size=128, num_attention_heads=2, num_key_value_heads=1, head_dim=64, intermediate_size=128,
                 vocab_size=260, rms_norm_eps=1e-5, max_position_embeddings=4096, hidden_act="silu", torch_dtype="bfloat16")
    (folder / "config.json").write_text(json.dumps({**sizes, **MODELS[family]}))
    words = json.loads(tokenizer.to_str())
    words["pre_tokenizer"]["use_regex"] = True       # changes no token where nothing is merged; fluxd wants text to be cut
    (folder / "tokenizer.json").write_text(json.dumps(words))


def run(module, *args):
    argv, sys.argv = sys.argv, [module.__name__, *map(str, args)]
    try:
        module.main()
    finally:
        sys.argv = argv


class Served:
    def __init__(self, model, *flags):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([FLUXD, "--model", str(model), "--port", str(port), "--dtype", "f32", "--device", "cpu", *map(str, flags)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def __enter__(self):
        for _ in range(200):
            try:
                urllib.request.urlopen(self.url + "/ready", timeout=1)
                return self.url
            except OSError:
                assert self.process.poll() is None, self.process.stderr.read().decode()[-500:]
                time.sleep(0.05)
        raise AssertionError("not ready")

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("family", MODELS)
def test_a_configuration_trains_exports_and_is_served_with_the_same_bits(family, tmp_path, tokenizer, corpus_file, capsys):
    base, out, paw = tmp_path / "base", tmp_path / "run", tmp_path / "paw"
    make_model(base, family, tokenizer)
    run(train, "--config", os.path.join(ROOT, f"training/configs/{family}.json"), "--model", base, "--corpus", corpus_file, "--out", out,
        "--workers", 0, "--device", "cpu", *[x for item in TINY for x in ("--set", item)])
    run(export, "--run", out, "--router", tmp_path / "r.safetensors", "--base", base, "--checkpoint", paw)
    assert json.loads((paw / "config.json").read_text())["architectures"][0].startswith("Paw")
    run_bits = lambda *args: pytest.raises(SystemExit, run, bits, *args).value.code
    assert run_bits("reference", "--model", base, "--corpus", corpus_file, "--router", tmp_path / "r.safetensors", "--out", tmp_path / "b.json",
                    "--n", 12, "--longest", 1200) in (0, None)
    margins = [m for row in json.loads((tmp_path / "b.json").read_text())["rows"] for m in row["margins"]]
    assert {m > 0 for m in margins} == {False, True}          # else the comparison says nothing
    if not os.path.exists(FLUXD):
        pytest.skip("no build/fluxd to compare with")
    for model, flags in ((base, ("--router", tmp_path / "r.safetensors")), (paw, ())):
        capsys.readouterr()
        with Served(model, *flags) as url:
            assert run_bits("compare", "--bits", tmp_path / "b.json", "--url", url) == 0
        assert "prompts=12" in (said := capsys.readouterr().out) and "different=0" in said


def test_the_evaluation_runs_from_search_to_tables(tmp_path, tokenizer, corpus_file, capsys):
    import torch
    torch.manual_seed(2)
    base, out, router = tmp_path / "base", tmp_path / "eval", tmp_path / "r.safetensors"
    make_model(base, "llama3", tokenizer)
    Routers(4, 64, 128, 128, 16, bias_full=0.0).save(str(router))
    common = ("--model", base, "--tasks", "needle,lm", "--lengths", "640,700", "--per-cell", 2, "--workers", 0)
    run(suite, "--corpus", corpus_file, "--split", "train", "--out", tmp_path / "s.xz", *common)
    run(search, "--model", base, "--prompts", tmp_path / "s.xz", "--window", 128, "--down-to", 0, "--out", tmp_path / "g.json", "--device", "cpu")
    assert sorted(map(int, json.loads((tmp_path / "g.json").read_text())["routes"]["all"])) == [0, 1, 2, 3, 4]
    run(run_torch, "--corpus", corpus_file, "--router", router, "--greedy", tmp_path / "g.json", "--out", out, "--device", "cpu",
        "--routes", "full,routed,sparse,greedy,majority,uniform,random", *common)
    means = json.loads((out / "summary.json").read_text())["means"]
    assert means["full"]["full_share_all"] == 1 and means["sparse"]["full_share_all"] == 0 < means["routed"]["full_share_all"] < 1
    capsys.readouterr()
    run(report, out, "--json", tmp_path / "report.json")
    assert "| greedy | 8 |" in capsys.readouterr().out
    routed_minus = json.loads((tmp_path / "report.json").read_text())["routed_minus"]
    assert set(routed_minus) == {"full", "sparse", "greedy", "majority", "uniform", "random"}
