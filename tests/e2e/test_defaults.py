"""What a server is and does where nobody says otherwise: its model's names, sampling of requests that name none, idle connections."""
import pytest

from conftest import MODEL, Server, check_error


@pytest.fixture(scope="module")
def server():
    s = Server("--default-temperature", "0", "--default-top-k", "7", "--idle-timeout-ms", "95500")
    yield s
    assert s.stop() == 0


def test_a_model_has_its_files_name_and_others_and_a_refusal_tells_them(server):
    stem = MODEL.rsplit("/", 1)[-1].removesuffix(".gguf")
    listed = [m["id"] for m in server.get("/v1/models").json()["data"]]
    assert listed == [stem]
    for name in (stem, stem.rsplit(".", 1)[0]):
        assert server.complete(model=name, max_tokens=1)["model"] == stem
        assert server.get("/v1/models/" + name).json()["id"] == stem
    e = check_error(server.post("/v1/completions", {"model": "gpt-4", "prompt": "a"}), 404, "model_not_found")
    assert f'"{stem}"' in e["message"]
    assert f'"{stem}"' in check_error(server.get("/v1/models/gpt-4"), 404)["message"]


def test_a_setting_stands_for_what_requests_do_not_say(server):
    said = server.complete("Once upon a time", max_tokens=12)
    assert server.post("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 12, "seed": 1}).json()["choices"] == said["choices"]
    other = server.post("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 12, "seed": 1, "temperature": 2, "top_k": 0}).json()
    assert other["choices"] != said["choices"], "what a request says goes first"


def test_the_log_says_at_the_start_what_holds_and_who_says_it(server):
    line = next(l for l in server.logged().splitlines() if "requests that name no sampling" in l)
    assert "temperature=0(setting)" in line and "top_k=7(setting)" in line and "top_p=1(default)" in line, line


def test_an_idle_connection_is_told_how_long_it_stays(server):
    assert server.get("/v1/models").headers["Keep-Alive"] == "timeout=95"
    assert server.post("/v1/completions", {"prompt": "a", "max_tokens": 1, "stream": True}).headers["Keep-Alive"] == "timeout=95"
    assert "Keep-Alive" not in server.get("/v1/models", headers={"Connection": "close"}).headers
