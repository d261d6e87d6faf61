"""Tools in a chat, by the openai SDK: what the model is told of them, what comes of its answer, streamed and whole."""
import json

import pytest

from conftest import check_error, on_gpu


def tool(name, properties, required=(), **more):
    return {"type": "function", "function": {"name": name, "description": f"{name} it", **more,
                                             "parameters": {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}}}


WEATHER = tool("get_weather", {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 0, "maximum": 100}}, ["city"])
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


# --- calls that must be

def checked(call):
    """The arguments of a call, which hold to its tool's schema."""
    args = json.loads(call[2])
    if call[1] == "get_weather":
        assert isinstance(args.pop("city"), str) and args.pop("days", 0) in range(101)
    else:
        assert call[1] == "search" and len(args.pop("query")) <= 20
    assert not args
    return call


ASK = {"tools": [WEATHER, SEARCH], "messages": [USER], "max_tokens": 160}


def test_required_calls_hold_to_their_schema_and_streams_are_the_same(client, model):
    for seed in range(4):
        ask = {"model": model, **ASK, "tool_choice": "required", "parallel_tool_calls": seed % 2 == 0, "temperature": 0.7, "seed": seed}
        whole = said(client.chat.completions.create(**ask).choices[0])
        streamed = collect(client.chat.completions.create(stream=True, **ask))
        assert without_ids(streamed) == without_ids(whole)
        content, calls, finish = whole
        assert content == "" and calls and finish in ("tool_calls", "length")
        assert finish == "length" or all(checked(c) for c in calls)
        assert seed % 2 == 0 or len(calls) == 1
        assert all(c[0].startswith("call_") and len(c[0]) == 29 for c in calls) and len({c[0] for c in calls}) == len(calls)


def test_a_named_tool_and_allowed_ones_are_the_only_ones(client, model):
    named = {"type": "function", "function": {"name": "search"}}
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
    for choice, more in ((named, {}), (allowed, {"parallel_tool_calls": False})):  # a tool that is named is called once
        r = client.chat.completions.create(model=model, **ASK, tool_choice=choice, temperature=0, **more)
        content, calls, finish = said(r.choices[0])
        assert finish == "tool_calls" and r.choices[0].message.content is None
        assert [checked(c)[1] for c in calls] == ["search"]


def test_an_answer_that_is_cut_keeps_its_calls_arguments_as_far_as_they_came(client, model):
    ask = {"model": model, **ASK, "tool_choice": "required", "temperature": 0}
    full = said(client.chat.completions.create(**ask).choices[0])[1][0][2]
    for n in (14, 17, 20):
        content, calls, finish = said(client.chat.completions.create(**{**ask, "max_tokens": n}).choices[0])
        assert finish == "length" and (not calls or full.startswith(calls[0][2]))


def test_a_conversation_with_calls_goes_on(client, model):
    messages = [USER]
    for _ in range(2):
        m = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER, SEARCH], tool_choice="required", parallel_tool_calls=False,
                                           temperature=0, max_tokens=160).choices[0].message
        messages += [m, *({"role": "tool", "tool_call_id": k.id, "content": "sunny"} for k in m.tool_calls)]
    r = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER, SEARCH], tool_choice="none", temperature=0, max_tokens=40)
    assert r.choices[0].message.tool_calls is None and r.choices[0].finish_reason in ("stop", "length")


def test_a_strict_tool_is_held_where_the_model_calls_it_and_text_stays_free(client, model):
    strict = tool("search", {"query": {"type": "string", "maxLength": 20}}, ["query"], strict=True)
    for seed in range(3):
        r = client.chat.completions.create(model=model, messages=[USER], tools=[strict], temperature=1, seed=seed, max_tokens=48)
        content, calls, finish = said(r.choices[0])
        assert finish == "length" or all(checked(c) for c in calls)
        assert content or calls


def test_a_schema_that_cannot_be_held_is_refused_by_its_place(server, model):
    bad = tool("f", {"a": {"type": "string", "pattern": "(?<=x)y"}})
    e = check_error(server.post("/v1/chat/completions", json={"model": model, "messages": [USER], "tools": [WEATHER, bad], "tool_choice": "required"}), 400)
    assert e["param"].startswith("tools[1].function.parameters") and "pattern" in e["param"]
    assert server.post("/v1/chat/completions", json={"model": model, "messages": [USER], "tools": [bad], "max_tokens": 1}).status_code == 200


def test_families_are_told_by_a_flag(make_server):
    """Another family's way of writing, on the same model: a call in other marks."""
    days = tool("get_weather", {"days": {"type": "integer", "minimum": 0, "maximum": 100}, "full": {"type": "boolean"}}, ["days"])
    for family in ("qwen3_coder", "pythonic"):
        s = make_server("--tool-format", family)
        body = {"messages": [USER], "tools": [days], "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
                "parallel_tool_calls": False, "max_tokens": 160, "temperature": 0}
        r = s.post("/v1/chat/completions", json=body).json()["choices"][0]
        call = r["message"]["tool_calls"][0]["function"]
        assert call["name"] == "get_weather" and r["finish_reason"] == "tool_calls"
        assert json.loads(call["arguments"])["days"] in range(101)  # -0.0 is an integer too
