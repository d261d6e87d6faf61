"""A Hugging Face directory behind the whole server: its generation defaults, its ends of an answer, its template, characters cut in
two, and refusals. The model is a random one of two layers, so only what is independent of its weights is looked at."""
import json
import os
import shutil
import subprocess

import pytest

from conftest import BIN, ROOT, free_port, on_gpu, plain_environment

TINY = os.path.join(ROOT, "tests/goldens/tiny/llama")
SPECIAL = ["<|end|>", "<s>", "</s>", "<|im_end|>", "<|x|>"]
FACE = "\U0001f600"


def alphabet():
    """GPT-2's letters for bytes."""
    plain = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b if b in plain else 256 + rest.index(b)) for b in range(256)}


LETTER = alphabet()
PIECES = [*SPECIAL, *(LETTER[b] for b in sorted({*b"abcdefghijklmnopqrstuvwxyz ", *FACE.encode(), *"\u4e2d\u00e9".encode()}))]
ID = {p: i for i, p in enumerate(PIECES)}


def ids_of(text):
    return [ID[LETTER[b]] for b in text.encode()]


def tokenizer():
    words = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for i, s in enumerate(SPECIAL)]
    return {"version": "1.0", "added_tokens": added, "normalizer": None, "pre_tokenizer": words, "post_processor": words, "decoder": words,
            "model": {"type": "BPE", "vocab": ID, "merges": []}}


FILES = {
    "tokenizer.json": tokenizer(),
    "tokenizer_config.json": {"bos_token": "<s>", "eos_token": "<|end|>", "chat_template": "{{bos_token}}{{messages[0].content}}{{eos_token}}"},
    "generation_config.json": {"eos_token_id": [4, 2], "temperature": 2.0, "top_k": 1, "repetition_penalty": 1.7},
}


def make_dir(path, **changes):
    """The model with its files; changes: text or object by file name with _ for its dot."""
    for name in ("config.json", "model.safetensors"):
        shutil.copy(os.path.join(TINY, name), path)
    for name, content in FILES.items():
        (path / name).write_text(json.dumps(content))
    for name, content in changes.items():
        (path / name.replace("__", ".")).write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from conftest import Server

    if on_gpu():
        pytest.skip("the CPU engine's alone: heads of 16")
    s = Server("--model", make_dir(tmp_path_factory.mktemp("tiny")), "--kv-pool-bytes", "64M", "--dtype", "f32")
    yield s
    s.stop()


def ask(server, **fields):
    r = server.post("/v1/completions", {"prompt": "a sea of abcs ", "max_tokens": 12, "return_token_ids": True, **fields})
    assert r.status_code == 200, r.text
    return r.json()["choices"][0]


def test_a_request_that_says_nothing_gets_the_directorys_defaults(tiny):
    said = ask(tiny, temperature=2.0, top_k=1, repetition_penalty=1.7, ignore_eos=True)
    assert ask(tiny, ignore_eos=True, seed=3)["token_ids"] == ask(tiny, ignore_eos=True, seed=4)["token_ids"] == said["token_ids"]
    assert ask(tiny, ignore_eos=True, repetition_penalty=1.0)["token_ids"] != said["token_ids"]
    free = [ask(tiny, ignore_eos=True, top_k=0, seed=i)["token_ids"] for i in range(3)]
    assert free[0] != free[1] or free[1] != free[2]


@pytest.mark.parametrize("token, ends", [(0, True), (1, False), (2, True), (3, True), (4, True), (5, False)])
def test_every_list_of_ends_counts(tiny, token, ends):
    """2 and 3 stand in config.json, 4 and 2 in generation_config.json, 0 is the tokenizer's eos."""
    got = ask(tiny, logit_bias={str(token): 100}, max_tokens=3)
    assert got["finish_reason"] == ("stop" if ends else "length")
    assert ask(tiny, logit_bias={str(token): 100}, max_tokens=3, ignore_eos=True)["finish_reason"] == "length"


def test_the_template_knows_the_tokenizers_own_tokens(tiny):
    r = tiny.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "abc<s>"}], "max_tokens": 1, "return_token_ids": True})
    assert r.status_code == 400 or ID["<s>"] not in r.json()["prompt_token_ids"][1:]  # a user's text is text
    r = tiny.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "abc"}], "max_tokens": 1, "return_token_ids": True})
    assert r.json()["prompt_token_ids"] == [ID["<s>"], *ids_of("abc"), ID["<|end|>"]]


@pytest.mark.parametrize("seed", range(3))
def test_characters_in_pieces_stream_as_they_are_whole(tiny, seed):
    fields = dict(allowed_token_ids=sorted(set(ids_of(FACE + "\u4e2d\u00e9a"))), ignore_eos=True, max_tokens=60, top_k=0, temperature=1.0,
                  repetition_penalty=1.0, seed=seed)
    whole = ask(tiny, **fields)
    parts = []
    with tiny.post("/v1/completions", {"prompt": "a sea of abcs ", "stream": True, **fields}, stream=True) as r:
        for line in r.iter_lines():
            if line.startswith(b"data: {"):
                parts += [c["text"] for c in json.loads(line[6:])["choices"]]
    assert "".join(parts) == whole["text"] and "\ufffd" in whole["text"]
    assert whole["text"] == bytes(b for t in whole["token_ids"] for b in [k for k, v in LETTER.items() if v == PIECES[t]]).decode(errors="replace")


REFUSED = {
    "template": ({"tokenizer_config__json": {"chat_template": "a\n{% for x in %}"}}, "tokenizer_config.json: chat template: line 2"),
    "template file": ({"chat_template__jinja": "{{ '\x01 }}"}, "chat_template.jinja: chat template: line 1"),
    "more tokens than rows": ({"tokenizer__json": {**tokenizer(), "added_tokens": [
        *tokenizer()["added_tokens"], *({"id": len(PIECES) + i, "content": f"<{i}>", "special": True} for i in range(64 - len(PIECES) + 1))]}},
        "tokenizer.json: 65 tokens, but the model has only 64"),
    "eos": ({"generation_config__json": {"eos_token_id": [2, "3"]}}, "generation_config.json: key eos_token_id"),
    "temperature": ({"generation_config__json": {"temperature": "0.5"}}, "generation_config.json: temperature"),
    "a file's name": ({"model__safetensors__index__json": {"weight_map": {"a": "a\nb\x1b.safetensors"}}}, "a?b?.safetensors"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_is_one_line_with_the_files_name(tmp_path, what):
    changes, says = REFUSED[what]
    make_dir(tmp_path, **changes)
    if "model__safetensors__index__json" in changes:
        (tmp_path / "model.safetensors").unlink()
    r = subprocess.run([BIN, "--model", tmp_path, "--port", str(free_port()), "--device", "cpu", "--log-level", "error"], capture_output=True,
                       timeout=60, env=plain_environment())
    lines = r.stderr.decode().splitlines()
    assert r.returncode == 3 and len(lines) == 1, lines
    assert lines[0].startswith(f"fluxd: {tmp_path}/") and says in lines[0]
