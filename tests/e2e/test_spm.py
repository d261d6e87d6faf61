"""A sentencepiece tokenizer behind the whole server: ids, texts, streams and stop strings. The weights are random."""
import json
import os
import shutil

import pytest

from conftest import ROOT, Server, Stream, on_gpu

SPM = os.path.join(ROOT, "tests/goldens/spm")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    if on_gpu():
        pytest.skip("the CPU engine's alone: heads of 16")
    path = tmp_path_factory.mktemp("spm")
    config = json.load(open(os.path.join(ROOT, "tests/goldens/tiny/llama/config.json")))
    (path / "config.json").write_text(json.dumps({**config, "vocab_size": 700}))
    shutil.copy(os.path.join(SPM, "prepend/tokenizer.json"), path)
    return path


@pytest.fixture(scope="module")
def server(path):
    s = Server("--model", path, "--load-format", "dummy", "--kv-pool-bytes", "64M")
    yield s
    s.stop()


@pytest.fixture(scope="module")
def golden():
    return json.load(open(os.path.join(SPM, "golden.json")))


def test_ids_and_texts_are_the_packages(server, golden):
    for text, ids, back in zip(golden["special"], golden["ids"]["prepend"]["special"], golden["text"]["prepend"]):
        assert server.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json()["tokens"] == ids
        assert server.post("/detokenize", {"tokens": ids}).json()["prompt"] == back
    assert server.ids("a")[0] == 1  # bos


def test_codes_that_the_host_holds_as_numbers_are_told(path):
    server = Server("--model", path, "--load-format", "dummy", "--kv-pool-bytes", "64M", "--quantization", "fp8", "--lm-head-dtype", "fp8")
    model = server.get("/v1/models").json()["data"][0]
    assert model["weights"] == model["head"] and model["weights"] in ("bf16", "f32")
    assert model["weights_bytes"] == server.metrics()["fluxd_model_weights_bytes"]
    assert "codes are held as numbers" in server.logged()
    assert server.stop() == 0


ASK = dict(prompt="It was", max_tokens=60, temperature=1, ignore_eos=True)


@pytest.mark.parametrize("seed", range(4))
def test_streamed_text_is_the_whole_text_and_keeps_its_first_space(server, seed):
    ask = dict(ASK, seed=seed, return_token_ids=True)
    whole = server.complete(**ask)["choices"][0]
    with Stream(server, "/v1/completions", **ask) as s:
        frames = [f["choices"][0] for _, f in s]
    assert "".join(f["text"] for f in frames) == whole["text"]
    assert sum((f.get("token_ids") or [] for f in frames), []) == whole["token_ids"]
    first = server.post("/detokenize", {"tokens": [*server.ids("It was"), *whole["token_ids"]]}).json()["prompt"]
    assert first == "<s> It was" + whole["text"]


@pytest.mark.parametrize("seed", range(4))
def test_stop_strings_cut_where_they_begin(server, seed):
    text = server.complete(**ASK, seed=seed)["choices"][0]["text"]
    for at in range(5, 50, 9):
        stop = text[at:at + 3]
        if not stop or "\ufffd" in stop:
            continue
        for stream in (False, True):
            ask = dict(ASK, seed=seed, stop=stop)
            if stream:
                with Stream(server, "/v1/completions", **ask) as s:
                    got = "".join(f["choices"][0]["text"] for _, f in s)
            else:
                got = server.complete(**ask)["choices"][0]["text"]
            assert got == text[:text.index(stop)], (stop, stream)


def test_offsets_of_an_echo_skip_what_the_tokenizer_adds(server):
    c = server.complete("caf\u00e9 \u6f22\u5b57 is", echo=True, logprobs=0, max_tokens=4)["choices"][0]
    lp, text = c["logprobs"], c["text"]
    assert lp["tokens"][0] == "<s>" and lp["text_offset"][:2] == [0, 0] and lp["text_offset"] == sorted(lp["text_offset"])
    for token, at in list(zip(lp["tokens"], lp["text_offset"]))[2:]:
        if not token.startswith("bytes:"):
            assert text[at:at + len(token)] == token
