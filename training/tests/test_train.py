"""Trainer laws: the Lagrangian's direction, schedules, resuming, and that training lowers what it should."""
import json

import torch

from training.attention import Attention
from training.backbone import Backbone
from training.data.batches import Batches
from training.data.corpus import Corpus
from training.data.tasks import Builder
from training.export import write_checkpoint
from training.objective import Multipliers, Prices, answer_losses, schedule, temperature
from training.router import PREFIX, Routers
from training.train import Trainer
from training.weights import load_hf

from conftest import SPEC, random_weights

CFG = dict(seed=1, router=dict(sink_size=128, local_window_size=128, pool_size=16, use_softmax=True, bias_full=1.0),
           train=dict(steps=4, lr=1e-2, betas=[0.9, 0.95], weight_decay=0.1, clip=5.0, warmup=0.1, final_lr=0.1,
                      temperature=[1.5, 1.0, 0.6], hard=True, lambda_start=[0.0, 0.5], lambda_lr=1e-2,
                      calibration_batches=1, validate_every=2, validation_batches=1, save_every=2),
           tasks=dict(needle=dict(weight=1, target=0.5, ce=0.5, kl=0.5), lm=dict(weight=1, target=1.0, kl=1.0)))


def trainer(out, tokenizer, corpus_file, steps=4, **train):
    cfg = json.loads(json.dumps(CFG))
    cfg["train"].update(train, steps=steps)
    torch.manual_seed(0)
    builder = Builder(tokenizer, Corpus.read(corpus_file, "train"))
    batches = Batches(builder, {"needle": 1, "lm": 1}, {512: 1.0}, 2048, 1, 60, pad=0, lm_rows=16)
    out.mkdir(exist_ok=True)
    return Trainer(cfg, Backbone(SPEC, random_weights(SPEC), Attention(128, 128)), batches, str(out))


def test_multipliers_rise_where_a_target_is_missed_and_push_towards_it():
    m = Multipliers({"a": 0.5, "b": 0.5}, (0.2, 0.2))
    opt = torch.optim.Adam(m.parameters(), lr=0.01, maximize=True)
    share = torch.tensor([0.1, 0.5], requires_grad=True)
    m.penalty(share, m.index(["a", "b"], "cpu")).sum().backward()
    opt.step()
    assert float(m.lam.detach()[0, 0]) > 0.2 and float(m.lam.detach()[1, 0]) > 0.2      # a misses its target
    assert abs(float(m.lam.detach()[0, 1]) - 0.2) < 1e-6                        # b meets it
    assert float(share.grad[0]) < 0                                    # descent makes a sparser
    too_sparse = torch.tensor([0.9], requires_grad=True)
    m.penalty(too_sparse, m.index(["a"], "cpu")).sum().backward()
    assert float(too_sparse.grad) > 0


def test_a_price_rises_over_the_budget_falls_under_it_and_is_the_same_for_all_prompts_of_a_group():
    p = Prices({"x": 0.4, "y": 0.2}, {"a": "x", "b": "x", "c": "y"}, 0.5)
    opt = torch.optim.SGD(p.parameters(), lr=0.1, maximize=True)
    share = torch.tensor([0.3, 0.1, 0.9], requires_grad=True)            # x: mean 0.8 full, y: 0.1 full
    p.penalty(share, p.index(["a", "b", "c"], "cpu")).sum().backward()
    opt.step()
    assert float(p.lam[0, 0].detach()) > 0.5 > float(p.lam[0, 1].detach())
    assert share.grad.tolist() == [-0.5, -0.5, -0.5]                     # descent makes all sparser, by one price
    for _ in range(100):
        opt.step()
        p.clamp()
    assert float(p.lam[0, 1].detach()) == 0.0


def test_kl_is_zero_for_the_teacher_itself_and_positive_otherwise():
    logits, owner = torch.randn(6, 9), torch.tensor([0, 0, 1, 1, 1, 2])
    ce, kl, miss = answer_losses(logits, logits, torch.arange(6), owner, 3)
    assert torch.allclose(kl, torch.zeros(3), atol=1e-6)
    want = torch.nn.functional.cross_entropy(logits[2:5], torch.arange(2, 5))
    assert torch.allclose(ce[1], want)
    assert torch.allclose(miss[1], 1 - torch.exp(-3 * want))
    assert bool((answer_losses(logits, torch.randn(6, 9), torch.arange(6), owner, 3)[1] > 0).all())


def test_schedules_start_and_end_where_they_should():
    assert temperature(0, 1.5, 1.0, 0.6) == 1.5 and temperature(0.6, 1.5, 1.0, 0.6) == temperature(1, 1.5, 1.0, 0.6) == 1.0
    assert schedule(0.1, 0.1, 0.2) == 1.0 and abs(schedule(1.0, 0.1, 0.2) - 0.2) < 1e-9 and schedule(0, 0.1, 0.2) < 0.02


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, tokenizer, corpus_file):
    whole = trainer(tmp_path / "a", tokenizer, corpus_file)
    whole.run(log=lambda s: None)
    half = trainer(tmp_path / "b", tokenizer, corpus_file)
    half.batches.n_steps = 30
    half.cfg["train"]["steps"] = 4
    stop = half.train_step

    def until_two(batch, progress):
        if half.step == 2:
            raise KeyboardInterrupt
        return stop(batch, progress)
    half.train_step = until_two
    try:
        half.run(log=lambda s: None)
    except KeyboardInterrupt:
        pass
    rest = trainer(tmp_path / "b", tokenizer, corpus_file)
    rest.run(log=lambda s: None)
    assert rest.step == 4
    for a, b in zip(whole.routers.parameters(), rest.routers.parameters()):
        assert torch.equal(a, b)
    assert torch.equal(whole.mult.lam, rest.mult.lam)


def test_pressure_alone_brings_every_task_to_its_target(tmp_path, tokenizer, corpus_file):
    t = trainer(tmp_path / "c", tokenizer, corpus_file, steps=40, lambda_start=[5.0, 5.0], lambda_lr=0.0,
                validate_every=40, lr=2e-2)
    t.run(log=lambda s: None)
    rows = [json.loads(x) for x in open(tmp_path / "c" / "log.jsonl")]
    share = rows[-1]["valid"]["share"]
    assert rows[0]["share"]["lm"] <= 0.5 < share["lm"] and abs(share["needle"] - 0.5) <= 0.25


def test_a_paw_checkpoint_keeps_the_base_and_gains_routers(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file
    base, out = tmp_path / "base", tmp_path / "paw"
    base.mkdir()
    w = random_weights(SPEC)
    save_file(w, str(base / "model.safetensors"))
    (base / "config.json").write_text(json.dumps(dict(
        architectures=["LlamaForCausalLM"], num_hidden_layers=4, hidden_size=32, num_attention_heads=4, head_dim=8,
        num_key_value_heads=2, intermediate_size=48, vocab_size=260, rms_norm_eps=1e-5, rope_theta=10000.0)))
    r = Routers(4, 8, 128, 256, 40)
    write_checkpoint(str(base), str(out), r)
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["PawLlamaForCausalLM"] and config["pool_size"] == 40
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    assert PREFIX.format(3) + "cls_feat_extractor.0.weight" in index
    for name, shard in index.items():
        with safe_open(str(out / shard), "pt") as f:
            t = f.get_tensor(name)
        if name in w:
            assert torch.equal(t, w[name])
    (out / "tokenizer.json").write_text('{"version":"1.0","model":{"type":"BPE","vocab":{},"merges":[]}}')
    spec, weights, _ = load_hf(str(out))
    assert spec.n_layer == 4 and set(weights) == set(w)
