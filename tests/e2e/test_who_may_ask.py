"""Clients of every day reach a server without keys by the default address, by this machine's names, and by the name of a service (as in
compose) where the settings say so; what is refused says why. Web pages: test_pages.py, test_cors.py."""
import json
import socket
import subprocess

import openai
import pytest

from conftest import Server, need_binary

SERVICE = "fluxd"  # a name that DNS of the container's network gives to 127.0.0.1 here
TALK = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def start():
    need_binary()
    made = {}

    def run(*flags):
        if flags not in made:
            made[flags] = Server(*flags)
        return made[flags]

    yield run
    for s in made.values():
        assert s.stop() == 0


@pytest.fixture
def dns(monkeypatch):
    """The service's name means this machine."""
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: real("127.0.0.1" if host in (SERVICE, SERVICE.encode()) else host, *a, **k))


def sdk(server, name):
    return openai.OpenAI(base_url=f"http://{name}:{server.port}/v1", api_key="none", max_retries=0, timeout=120)


def asks_all(server, name):
    """What a program does by the SDK: list, chat, stream, complete."""
    client = sdk(server, name)
    model = client.models.list().data[0].id
    assert client.chat.completions.create(model=model, messages=TALK, max_tokens=3).choices[0].message.content is not None
    parts = list(client.chat.completions.create(model=model, messages=TALK, max_tokens=3, stream=True))
    assert parts[-1].choices[0].finish_reason
    assert client.completions.create(model=model, prompt="Hello", max_tokens=3).usage.completion_tokens >= 1
    return True


def curl(server, name, *more, path="/v1/chat/completions"):
    """curl's body and the status."""
    out = subprocess.run(["curl", "-sS", "-w", "\n%{http_code}", "--resolve", f"{SERVICE}:{server.port}:127.0.0.1", f"http://{name}:{server.port}{path}", *more],
                         capture_output=True, text=True, check=True, timeout=120).stdout
    body, _, status = out.rpartition("\n")
    return int(status), json.loads(body)


def curl_chat(server, name):
    ask = json.dumps({"messages": TALK, "max_tokens": 3})
    return curl(server, name, "-H", "Content-Type: application/json", "-d", ask)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "fluxd.localhost"])
def test_this_machines_names_reach_the_default_address(start, name, monkeypatch):
    real = socket.getaddrinfo  # not every resolver knows that all of .localhost is this machine
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: real("127.0.0.1" if str(host).endswith("localhost") else host, *a, **k))
    s = start()
    assert asks_all(s, name)
    assert curl_chat(s, name)[0] == curl(s, name, path="/health")[0] == 200


def test_curl_without_a_content_type_is_told_what_is_missing(start):
    """curl's own default for -d is a form's."""
    status, got = curl(start(), "localhost", "-d", json.dumps({"messages": TALK}))
    assert (status, got["error"]["code"]) == (415, "unsupported_media_type") and "application/json" in got["error"]["message"]


def test_a_services_name_needs_to_be_listed_on_a_loopback_address(start, dns):
    s = start()
    with pytest.raises(openai.PermissionDeniedError) as e:
        sdk(s, SERVICE).models.list()
    assert e.value.code == "forbidden" and "allowed-hosts" in e.value.message
    status, got = curl_chat(s, SERVICE)
    assert (status, got["error"]["code"]) == (403, "forbidden") and "allowed-hosts" in got["error"]["message"]


@pytest.mark.parametrize("flags", [("--allowed-hosts", f"other.lan,{SERVICE}"), ("--host", "0.0.0.0"), ("--host", "0.0.0.0", "--allowed-hosts", SERVICE)], ids=" ".join)
def test_a_services_name_reaches_what_listens_to_it(start, dns, flags):
    s = start(*flags)
    for name in (SERVICE, "127.0.0.1", "localhost"):
        assert asks_all(s, name)
        assert curl_chat(s, name)[0] == 200
