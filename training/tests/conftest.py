"""A four-layer random model, a word tokenizer and a small made-up corpus: nothing here needs a download or a GPU."""
import json
import lzma
import random

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel as ByteDecoder

from training.attention import Attention
from training.backbone import Backbone, Spec

torch.set_num_threads(1)      # many tiny operations: threads only get in their way
SPEC = Spec(n_layer=4, d=32, n_head=4, n_kv=2, head=8, d_ffn=48, vocab=260, eps=1e-5, rope_theta=10000.0)


def random_weights(spec, seed=0):
    g = torch.Generator().manual_seed(seed)
    w = {"model.embed_tokens.weight": torch.randn(spec.vocab, spec.d, generator=g),
         "model.norm.weight": torch.ones(spec.d)}
    shapes = {"self_attn.q_proj": (spec.n_head * spec.head, spec.d), "self_attn.k_proj": (spec.n_kv * spec.head, spec.d),
              "self_attn.v_proj": (spec.n_kv * spec.head, spec.d), "self_attn.o_proj": (spec.d, spec.n_head * spec.head),
              "mlp.gate_proj": (spec.d_ffn, spec.d), "mlp.up_proj": (spec.d_ffn, spec.d), "mlp.down_proj": (spec.d, spec.d_ffn)}
    for i in range(spec.n_layer):
        for name, shape in shapes.items():
            w[f"model.layers.{i}.{name}.weight"] = torch.randn(shape, generator=g) * 2 / shape[1] ** 0.5
        for name in ("input_layernorm", "post_attention_layernorm"):
            w[f"model.layers.{i}.{name}.weight"] = torch.ones(spec.d)
    return w


@pytest.fixture
def backbone():
    return Backbone(SPEC, random_weights(SPEC), Attention(128, 128))


@pytest.fixture(scope="session")
def tokenizer():
    """Every byte is one token, plus the chat marks."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tok = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok.decoder = ByteDecoder()
    tok.add_special_tokens([AddedToken(t, special=True) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    return tok


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory):
    """Two sources a split and genre; every line is unique to its document."""
    rng, path = random.Random(5), tmp_path_factory.mktemp("corpus") / "corpus.jsonl.xz"
    words = "river stone lamp field garden window letter music market winter silver bridge paper forest".split()
    with lzma.open(path, "wt") as f:
        for split in ("train", "test"):
            for genre in ("prose", "code"):
                for n in range(3):
                    lines = [f"The {split} {genre} " + " ".join(rng.choice(words) for _ in range(13)) + "."
                             for _ in range(120)]
                    row = dict(source=f"{split}-{genre}-{n}", licence="none", genre=genre, split=split,
                               text="\n".join(lines))
                    f.write(json.dumps(row) + "\n")
    return str(path)
