"""fluxd --write-tokenizer: the folder that it writes of a GGUF file is read, as a model directory's, to the same tokens."""
import json
import os
import shutil
import subprocess

import pytest

from conftest import BIN, MODEL, ROOT, Server, plain_environment
from test_model_dirs import TINY, make_dir

TEXTS = ["Hello world", "  two  spaces\n\nlines\r\n\ttabs ", "don't can't I'LL we've", "1234567890 3.14 1e-5", "caf\u00e9 na\u00efve \u65e5\u672c\u8a9e \u0645\u0631\u062d\u0628\u0627", "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467", "a\u0301 \u00e1 e\u0301",
         "<|im_start|>user\nhi<|im_end|>\n", "x=1;y={\"a\":[true,null]}", "\u2028\u0085\u00a0|\u3000|", "a" * 300, "def f(x):\n    return x**2\n", "\\\"'`\x01\x1f"]


def run(*args):
    return subprocess.run([BIN, *map(str, args)], env=plain_environment(), capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "new"
    assert run("--write-tokenizer", path, "--model", MODEL).returncode == 0
    assert sorted(os.listdir(path)) == ["tokenizer.json", "tokenizer_config.json"]
    return path


def test_a_model_directory_with_it_reads_text_to_the_same_tokens(folder, tmp_path):
    """Of another model, whose random weights do not matter here, with a vocabulary of this size."""
    gguf = Server()
    config = json.load(open(os.path.join(TINY, "config.json")))
    vocabulary = json.load(open(folder / "tokenizer.json"))["model"]["vocab"]
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": len(vocabulary)}))
    for name in os.listdir(folder):
        shutil.copy(folder / name, tmp_path)
    hf = Server("--model", tmp_path, "--load-format", "dummy", "--kv-pool-bytes", "64M")
    for text in TEXTS:
        a, b = gguf.ids(text), hf.ids(text)
        assert a == b != [], text
        both = [s.post("/detokenize", {"tokens": a}).json()["prompt"] for s in (gguf, hf)]
        assert both[0] == both[1]
    chat = {"messages": [{"role": "user", "content": TEXTS[4]}], "add_generation_prompt": True}
    assert gguf.post("/tokenize", chat).json()["tokens"] == hf.post("/tokenize", chat).json()["tokens"]
    info = [s.get("/tokenizer_info").json() for s in (gguf, hf)]
    assert all(info[0][k] == info[1][k] for k in ("bos_token", "eos_token", "chat_template", "vocab_size"))
    assert gguf.stop() == hf.stop() == 0


def test_what_is_there_stays_and_what_cannot_be_written_is_named(folder, tmp_path):
    again = run("--write-tokenizer", folder, "--model", MODEL)
    assert again.returncode == 2 and "tokenizer.json" in again.stderr
    for flags, code, says in ((("--write-tokenizer",), 2, "needs a folder"), (("--write-tokenizer", tmp_path / "x"), 2, "--model"),
                              (("--write-tokenizer", "/nonexistent/x", "--model", MODEL), 2, "cannot make"),
                              (("--write-tokenizer", tmp_path / "x", "--model", "/nonexistent.gguf"), 3, "/nonexistent.gguf"),
                              (("--write-tokenizer", tmp_path / "x", "--model", make_dir(tmp_path)), 3, "use it")):
        r = run(*flags)
        assert r.returncode == code and says in r.stderr, (flags, r)
    assert not (tmp_path / "x").exists()
