"""Router laws: pooling, gates, gradients, files."""
import pytest
import torch
from safetensors import safe_open

from training.attention import Attention, streaming_mask
from training.backbone import Backbone
from training.router import (PARTS, PREFIX, Routers, ServingGate, StaticGate, TrainingGate, gumbel_gate, logistic_noise,
                             pool_queries)

from conftest import SPEC, random_weights


def routers(**kw):
    return Routers(SPEC.n_layer, SPEC.head, 128, 128, 20, **kw)


def batch(n_tok=400, n=3):
    g = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, n_tok), generator=g), torch.tensor([n_tok, n_tok - 100, n_tok - 7])[:n]


@pytest.mark.parametrize("n", [5, 20, 31, 40, 90])
def test_pooling_is_the_mean_of_first_and_last_rows_and_overlap_counts_twice(n):
    q = torch.randn(1, 96, 4, 8)
    want = torch.cat((q[0, :n][:20], q[0, :n][max(n - 20, 0):])).mean((0, 1))
    assert torch.allclose(pool_queries(q, torch.tensor([n]), 20)[0], want, atol=1e-6)


def test_a_decision_does_not_depend_on_batch_or_padding(backbone):
    torch.manual_seed(0)
    r, (tokens, lens) = routers(bias_full=0.0), batch()
    gate = ServingGate(r)
    with torch.no_grad():
        _, z = backbone.hidden(tokens, lens, gate)
        together = torch.stack([gate.margins[i] for i in range(4)], 1)
        for b in range(3):
            n = int(lens[b])
            backbone.hidden(tokens[b:b + 1, :n], lens[b:b + 1], gate)
            alone = torch.stack([gate.margins[i] for i in range(4)], 1)[0]
            assert torch.allclose(alone, together[b], atol=1e-4)


def test_streaming_loop_follows_the_block_rule():
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 4, 700, 8), torch.randn(1, 2, 700, 8), torch.randn(1, 2, 700, 8)
    a = Attention(128, 256)
    k4, v4 = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    want = torch.nn.functional.scaled_dot_product_attention(q, k4, v4, attn_mask=streaming_mask(700, 1, 2))
    assert torch.allclose(a.streaming(q, k, v), want, atol=1e-5)
    assert not torch.allclose(a.full(q, k, v), want, atol=1e-3)


def test_short_prompts_are_plain_causal():
    mask = streaming_mask(3 * 128, 1, 2)
    assert torch.equal(mask, torch.ones(384, 384, dtype=torch.bool).tril())


def test_gradients_reach_every_router_and_nothing_else(backbone):
    r, (tokens, lens) = routers(bias_full=0.0), batch()
    noise = logistic_noise((3, 4), torch.Generator().manual_seed(0), "cpu")
    h, z = backbone.hidden(tokens, lens, TrainingGate(r, 1.0, noise))
    (backbone.logits(h[-5:]).logsumexp(-1).sum() + z.mean()).backward()
    for name, p in r.named_parameters():
        assert p.grad is not None and float(p.grad.abs().sum()) > 0, name
    assert all(not t.requires_grad and t.grad is None for t in backbone.w.values())


def test_checkpointing_changes_no_gradient():
    grads = []
    for on in (False, True):
        torch.manual_seed(3)
        bb = Backbone(SPEC, random_weights(SPEC), Attention(128, 128), checkpointing=on)
        r, (tokens, lens) = routers(bias_full=0.0), batch()
        noise = logistic_noise((3, 4), torch.Generator().manual_seed(0), "cpu")
        h, z = bb.hidden(tokens, lens, TrainingGate(r, 1.0, noise))
        (bb.logits(h[-5:]).logsumexp(-1).sum() + z.mean()).backward()
        grads.append(torch.cat([p.grad.flatten() for p in r.parameters()]))
    assert torch.allclose(grads[0], grads[1], atol=1e-6)


def test_a_sparse_layer_changes_the_output_and_a_full_route_is_the_base_model(backbone):
    tokens, lens = batch()
    with torch.no_grad():
        full, _ = backbone.hidden(tokens, lens, StaticGate([1, 1, 1, 1]))
        mixed, _ = backbone.hidden(tokens, lens, StaticGate([1, 0, 1, 1]))
        z = torch.tensor([1.0, 0.0, 1.0])
        per_sample, _ = backbone.hidden(tokens, lens, lambda i, q, n: z if i == 1 else 1)
    assert not torch.allclose(full, mixed, atol=1e-3)
    full, mixed, got = (t.view(3, 400, -1) for t in (full, mixed, per_sample))
    assert torch.allclose(got[0], full[0], atol=1e-4) and torch.allclose(got[1], mixed[1], atol=1e-4)


def test_hard_and_soft_gates_agree_as_temperature_falls():
    margin, noise = torch.randn(1000), logistic_noise((1000,), torch.Generator().manual_seed(0), "cpu")
    hard = gumbel_gate(margin, 1.0, noise)
    assert set(hard.tolist()) <= {0.0, 1.0}
    off = [float((gumbel_gate(margin, t, noise, hard=False) - hard).abs().mean()) for t in (1.0, 0.1, 0.001)]
    assert off[0] > off[1] > off[2] and off[2] < 0.002


def test_a_noisy_gate_is_full_with_the_softmax_probability():
    g, margin = torch.Generator().manual_seed(0), torch.full((200_000,), 0.7)
    z = gumbel_gate(margin, 1.3, logistic_noise(margin.shape, g, "cpu"))
    assert abs(float(z.mean()) - float(torch.sigmoid(torch.tensor(0.7)))) < 0.005


def test_routers_start_full(backbone):
    tokens, lens = batch()
    with torch.no_grad():
        _, z = backbone.hidden(tokens, lens, ServingGate(routers(bias_full=4.5)))
    assert bool((z == 1).all())


@pytest.mark.parametrize("softmax", [True, False])
def test_router_files_round_trip(tmp_path, backbone, softmax):
    torch.manual_seed(0)
    r, path = routers(use_softmax=softmax, bias_full=0.0), str(tmp_path / "r.safetensors")
    r.save(path)
    back = Routers.load(path)
    assert back.sizes == r.sizes
    with safe_open(path, "pt") as f:
        names, meta = set(f.keys()), f.metadata()
        assert names == {PREFIX.format(i) + p for i in range(4) for p in PARTS}
        assert f.get_tensor(PREFIX.format(0) + PARTS[0]).dtype == torch.bfloat16
        assert meta["sink_size"] == "128" and meta["pool_size"] == "20" and meta["toggle_type"] == "streaming"
        assert meta["use_softmax"] == str(softmax).lower()
    tokens, lens = batch()
    a, b = ServingGate(r), ServingGate(back)
    with torch.no_grad():
        backbone.hidden(tokens, lens, a)
        backbone.hidden(tokens, lens, b)
    for i in range(4):      # training computes with rounded weights, so nothing is lost by shipping bf16
        assert torch.equal(a.margins[i], b.margins[i])


def test_a_file_with_a_missing_tensor_is_refused(tmp_path):
    from safetensors.torch import save_file
    tensors = routers().tensors()
    del tensors[PREFIX.format(2) + PARTS[3]]
    save_file(tensors, str(tmp_path / "r.safetensors"))
    with pytest.raises(ValueError, match="missing"):
        Routers.load(str(tmp_path / "r.safetensors"))
