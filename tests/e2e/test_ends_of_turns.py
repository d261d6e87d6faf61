"""Ends of a turn that a model's file does not name, or names wrongly."""
import shutil
import struct

import pytest

from conftest import REAL, Server

EOS = b"tokenizer.ggml.eos_token_id"


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory):
    """The small model, but its file says that token 0 ends an answer."""
    path = tmp_path_factory.mktemp("model") / "forgetful.gguf"
    shutil.copy(REAL, path)
    with open(path, "r+b") as f:
        head = f.read(1 << 22)
        at = head.index(struct.pack("<Q", len(EOS)) + EOS) + 8 + len(EOS)
        assert struct.unpack_from("<II", head, at) == (4, 2)  # an unsigned integer: <|im_end|>
        f.seek(at + 4)
        f.write(struct.pack("<I", 0))
    s = Server("--model", path)
    yield s
    s.stop()


def test_a_chat_ends_where_its_turn_does_though_the_file_names_another_token(forgetful):
    r = forgetful.chat("Say hello in one short sentence.", max_tokens=200)["choices"][0]
    assert r["finish_reason"] == "stop" and "<|im_end|>" not in r["message"]["content"], r


def test_ignore_eos_ignores_the_well_known_ends_too(forgetful):
    r = forgetful.chat("Say hello in one short sentence.", max_tokens=60, ignore_eos=True)["choices"][0]
    assert r["finish_reason"] == "length", r
