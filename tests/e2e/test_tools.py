"""Tools in a chat, by the openai SDK: what the model is told of them, what comes of its answer, streamed and whole."""
import json

import pytest

from conftest import check_error, on_gpu


def tool(name, properties, required=(), **more):
    return {"type": "function", "function": {"name": name, "description": f"{name} it", **more,
                                             "parameters": {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}}}


WEATHER = tool("get_weather", {"city": {"type": "string"}, "days": {"type": "integer"}}, ["city"])
SEARCH = tool("search", {"query": {"type": "string", "maxLength": 20}}, ["query"])
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris", "days": 2.0}'}}
USER = {"role": "user", "content": "What is the weather in Paris?"}


@pytest.fixture
def client(server):
    return server.client()


@pytest.fixture
def model(client):
    return client.models.list().data[0].id


def rendered(server, **body):
    r = server.post("/v1/chat/completions/render", json=body)
    assert r.status_code == 200, r.text
    return r.json()["prompt"]


def collect(stream):
    """A stream put together as a message: content, calls, finish reasons; names come once, with the id."""
    content, calls, finish = "", [], None
    for chunk in stream:
        for c in chunk.choices:
            content += c.delta.content or ""
            for k in c.delta.tool_calls or []:
                if k.index == len(calls):
                    assert k.id and k.function.name and k.type == "function"
                    calls.append([k.id, k.function.name, k.function.arguments or ""])
                else:
                    assert k.index == len(calls) - 1 and k.id is None and k.function.name is None and k.function.arguments
                    calls[-1][2] += k.function.arguments
            finish = c.finish_reason or finish
    return content, calls, finish


def said(choice):
    return choice.message.content or "", [[k.id, k.function.name, k.function.arguments] for k in choice.message.tool_calls or []], choice.finish_reason


def without_ids(answer):
    return answer[0], [k[1:] for k in answer[1]], answer[2]


def test_a_template_without_tools_tells_them_in_a_system_message(server):
    plain = rendered(server, messages=[USER])
    text = rendered(server, messages=[USER], tools=[WEATHER])
    assert "get_weather" not in plain and '"name":"get_weather"' in text and "<tool_call>" in text
    with_system = rendered(server, messages=[{"role": "system", "content": "Be kind."}, USER], tools=[WEATHER])
    assert "Be kind.\n\n# Tools" in with_system and with_system.count("<|im_start|>system") == 1
    past = [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]
    text = rendered(server, messages=past, tools=[WEATHER])
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 2.0}}\n</tool_call>' in text
    assert "<tool_response>\nsunny\n</tool_response>" in text
    assert rendered(server, messages=[USER], tools=[WEATHER], tool_choice="none") == rendered(server, messages=[USER], tools=[WEATHER])


def test_auto_changes_nothing_of_what_the_model_says(server, client, model):
    """What is asked with the tools in the system text by hand gives the same tokens."""
    ask = {"model": model, "max_tokens": 24, "temperature": 0.8, "seed": 3, "extra_body": {"return_token_ids": True}}
    with_tools = client.chat.completions.create(messages=[USER], tools=[WEATHER], **ask)
    system = rendered(server, messages=[USER], tools=[WEATHER]).split("<|im_start|>system\n")[1].split("<|im_end|>")[0]
    by_hand = client.chat.completions.create(messages=[{"role": "system", "content": system}, USER], **ask)
    assert with_tools.choices[0].token_ids == by_hand.choices[0].token_ids


def test_what_cannot_be_is_refused_by_name(server, client, model):
    for body, param in (({"tools": [{"type": "web_search"}]}, "tools[0].type"), ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
                        ({"tool_choice": "required"}, "tool_choice"), ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice.function.name")):
        e = check_error(server.post("/v1/chat/completions", json={"model": model, "messages": [USER], **body}), 400)
        assert e["param"] == param
