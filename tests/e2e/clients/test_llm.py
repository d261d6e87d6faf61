"""The command `llm` with a model of its extra-openai-models.yaml: text, schemas, tools."""
import json
import os
import subprocess
import sys

import pytest
import yaml

pytestmark = pytest.mark.real_model


@pytest.fixture
def llm(server, model, tmp_path):
    entry = {"model_id": "small", "model_name": model, "api_base": server.url + "/v1", "api_key_name": "fluxd", "supports_schema": True, "supports_tools": True}
    (tmp_path / "extra-openai-models.yaml").write_text(yaml.safe_dump([entry]))

    def run(*args):
        done = subprocess.run([sys.executable, "-m", "llm", *args], env={**os.environ, "LLM_USER_PATH": str(tmp_path), "FLUXD_KEY": "none"}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


ASK = ("-m", "small", "-o", "temperature", "0", "-o", "max_tokens", "100", "--key", "none", "What is the capital of France?")


def test_text_streamed_and_whole(llm):
    whole = llm(*ASK, "--no-stream")
    assert "Paris" in whole and llm(*ASK) == whole


def test_schemas(llm):
    schema = {"type": "object", "properties": {"city": {"const": "Paris"}, "letters": {"const": 5}}, "required": ["city", "letters"], "additionalProperties": False}
    assert json.loads(llm(*ASK, "--schema", json.dumps(schema))) == {"city": "Paris", "letters": 5}


def test_schemas_in_short(llm):
    got = json.loads(llm(*ASK, "--schema", "city, letters int"))
    assert set(got) >= {"city", "letters"} and isinstance(got["letters"], int)
