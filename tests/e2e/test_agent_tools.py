"""Tools and forms in POST /v1/messages and /v1/responses, by the clients of both: calls as blocks and items, whole and streamed, and back in the history."""
import json

import anthropic
import pytest
from pydantic import BaseModel

from conftest import check_error

SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["city", "days"],
          "additionalProperties": False}
OTHER = {"type": "object", "properties": {"query": {"enum": ["a", "b\u00e9"]}}, "required": ["query"], "additionalProperties": False}
MESSAGE_TOOLS = [{"name": "get_weather", "description": "The weather.", "input_schema": SCHEMA}, {"name": "search", "input_schema": OTHER, "type": "custom", "strict": True}]
FUNCTIONS = [{"type": "function", "name": "get_weather", "description": "The weather.", "parameters": SCHEMA}, {"type": "function", "name": "search", "parameters": OTHER}]
SHELL = {"type": "custom", "name": "shell", "description": "Runs a line.", "format": {"type": "grammar", "syntax": "regex", "definition": "ls( -[al]{1,2})?( \"[a-z\\\\]{1,3}\"){0,2}"}}
QUESTION = "What is the weather in Paris?"
USER = [{"role": "user", "content": QUESTION}]
MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"


@pytest.fixture
def claude(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120)


@pytest.fixture
def client(server):
    return server.client()


@pytest.fixture
def model(server):
    return server.get("/v1/models").json()["data"][0]["id"]


def holds(name, args):
    """The arguments are those of the tool's schema."""
    if name == "get_weather":
        return set(args) == {"city", "days"} and isinstance(args["city"], str) and len(args["city"]) <= 12 and args["days"] in range(10)
    return name == "search" and set(args) == {"query"} and args["query"] in ("a", "b\u00e9")


# --- Messages

def blocks(message):
    return [(b.type, b.name, b.input) if b.type == "tool_use" else (b.type, b.text) for b in message.content], message.stop_reason


@pytest.mark.parametrize("choice, names", [({"type": "any"}, {"get_weather", "search"}), ({"type": "tool", "name": "search"}, {"search"}),
                                           ({"type": "any", "disable_parallel_tool_use": True}, {"get_weather", "search"})], ids=["any", "tool", "one"])
def test_calls_that_must_be_are_blocks_and_a_stream_is_the_same(claude, model, choice, names):
    for seed in range(3):
        ask = {"model": model, "messages": USER, "tools": MESSAGE_TOOLS, "tool_choice": choice, "max_tokens": 160, "extra_body": {"temperature": 1, "seed": seed}}
        whole = claude.messages.create(**ask)
        with claude.messages.stream(**ask) as stream:
            kinds = [e.type for e in stream]
            assert blocks(stream.get_final_message()) == blocks(whole)
        got, reason = blocks(whole)
        assert got and all(b[0] == "tool_use" and b[1] in names for b in got) and reason in ("tool_use", "max_tokens") and "input_json" in kinds
        assert all(holds(b[1], b[2]) for b in (got if reason == "tool_use" else got[:-1]))
        assert len({b.id for b in whole.content}) == len(got) and (len(got) == 1 or "disable_parallel_tool_use" not in choice)


def test_a_call_that_is_cut_is_an_object_of_what_is_whole(claude, model):
    ask = {"model": model, "messages": USER, "tools": MESSAGE_TOOLS, "tool_choice": {"type": "tool", "name": "get_weather"}, "extra_body": {"temperature": 0}}
    full = claude.messages.create(max_tokens=160, **ask).content[0].input
    seen = set()
    for n in range(14, 50, 3):
        whole = claude.messages.create(max_tokens=n, **ask)
        with claude.messages.stream(max_tokens=n, **ask) as stream:
            assert blocks(stream.get_final_message()) == blocks(whole)
        for b in whole.content:
            assert b.type != "tool_use" or b.input.items() <= full.items()
            seen.add(len(b.input) if b.type == "tool_use" else -1)
        assert whole.stop_reason == "max_tokens" or (whole.stop_reason == "tool_use" and whole.content[0].input == full)
    assert {0, 1} <= seen


def test_results_go_on_and_the_tools_are_counted(server, claude, model):
    messages = list(USER)
    for _ in range(2):
        m = claude.messages.create(model=model, messages=messages, tools=MESSAGE_TOOLS, tool_choice={"type": "any"}, max_tokens=200, extra_body={"temperature": 0})
        uses = [b for b in m.content if b.type == "tool_use"]
        messages += [{"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in m.content]},
                     {"role": "user", "content": [{"type": "tool_result", "tool_use_id": b.id, "content": [{"type": "text", "text": "sunny"}], "is_error": i == 1}
                                                  for i, b in enumerate(uses)]}]
    with_tools = claude.messages.count_tokens(model=model, messages=messages, tools=MESSAGE_TOOLS).input_tokens
    plain = claude.messages.count_tokens(model=model, messages=messages).input_tokens
    m = claude.messages.create(model=model, messages=messages, tools=MESSAGE_TOOLS, tool_choice={"type": "none"}, max_tokens=4)
    assert m.usage.input_tokens + m.usage.cache_read_input_tokens == with_tools > plain
    assert all(b.type == "text" for b in m.content)


def test_an_answer_of_a_form_by_output_config(claude, model):
    ask = {"model": model, "messages": USER, "max_tokens": 100, "extra_body": {"temperature": 1, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}}
    for _ in range(2):
        m = claude.messages.create(**ask)
        assert m.stop_reason == "max_tokens" or holds("get_weather", json.loads(m.content[-1].text))


@pytest.mark.parametrize("fields, param", [
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"), ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"input_schema": {}}]}, "tools[0].name"), ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"), ({"tools": MESSAGE_TOOLS + MESSAGE_TOOLS[:1]}, "tools[2].name"),
    ({"tools": [{"name": "a", "input_schema": []}]}, "tools[0].input_schema"), ({"tools": MESSAGE_TOOLS, "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
    ({"tools": MESSAGE_TOOLS, "tool_choice": {"type": "required"}}, "tool_choice.type"), ({"tools": MESSAGE_TOOLS, "tool_choice": "any"}, "tool_choice"), ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tools": [{"name": "a", "strict": True, "input_schema": {"properties": {"p": {"type": "string", "pattern": "(?<=a)b"}}}}]}, "tools[0].input_schema/properties/p/pattern"),
    ({"messages": USER + [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "no", "content": "x"}]}]}, "messages[1].content[0].tool_use_id"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ({"output_config": {"format": {"type": "json_schema", "schema": {"pattern": "(?<=a)"}}}}, "output_config.format.schema/pattern")])
def test_messages_refuse_by_name(server, fields, param):
    r = server.post(MESSAGES, {"messages": USER, "max_tokens": 4, **fields})
    assert r.status_code == 400 and r.json()["error"]["param"] == param, r.text


# --- Responses

def items(response):
    return [(i.type, i.name, i.arguments if i.type == "function_call" else i.input, i.status) if i.type != "message" else (i.type, i.content[0].text, i.status) for i in response.output]


def final_of(stream):
    """The last response of a stream, each call of which is what was told of it before."""
    told, final = {}, None
    for e in stream:
        if e.type in ("response.function_call_arguments.delta", "response.custom_tool_call_input.delta"):
            told[e.item_id] = told.get(e.item_id, "") + e.delta
        elif e.type == "response.output_item.done" and e.item.type != "message":
            assert told.pop(e.item.id, "") == (e.item.arguments if e.item.type == "function_call" else e.item.input)
        elif e.type in ("response.completed", "response.incomplete"):
            final = e.response
    assert not told
    return final


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "search"}, {"type": "custom", "name": "shell"},
                                    {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "shell"}, {"type": "function", "name": "search"}]}],
                         ids=["required", "function", "custom", "allowed"])
def test_calls_that_must_be_are_items_and_a_stream_is_the_same(client, model, choice):
    import re
    names = {"required": {"get_weather", "search", "shell"}, "function": {"search"}, "custom": {"shell"}, "allowed_tools": {"search", "shell"}}[choice if choice == "required" else choice["type"]]
    for seed in range(3):
        ask = {"model": model, "input": QUESTION, "tools": [*FUNCTIONS, SHELL], "tool_choice": choice, "max_output_tokens": 160, "temperature": 1, "extra_body": {"seed": seed}}
        whole = client.responses.create(**ask)
        streamed = final_of(client.responses.create(stream=True, **ask))
        assert items(streamed) == items(whole) and streamed.status == whole.status
        assert [t.type for t in whole.tools] == ["function", "function", "custom"] and all(t.strict for t in whole.tools[:2])
        for kind, name, args, status in items(whole):
            assert name in names and kind == ("custom_tool_call" if name == "shell" else "function_call")
            if status == "completed":
                assert re.fullmatch(SHELL["format"]["definition"], args) if name == "shell" else holds(name, json.loads(args))
        assert whole.status == "completed" or items(whole)[-1][-1] == "incomplete" or whole.incomplete_details.reason == "max_output_tokens"


def test_outputs_go_on_by_items_and_by_id(client, model):
    ask = {"model": model, "tools": [*FUNCTIONS, SHELL], "tool_choice": "required", "max_output_tokens": 200, "temperature": 0}
    first = client.responses.create(input=QUESTION, **ask)
    done = [{"type": i.type + "_output", "call_id": i.call_id, "output": "sunny"} for i in first.output]
    by_id = client.responses.create(input=done, previous_response_id=first.id, **ask)
    by_items = client.responses.create(input=[{"role": "user", "content": QUESTION}, *[i.model_dump(exclude_none=True) for i in first.output], *done], **ask)
    assert items(by_id) == items(by_items) and by_id.usage.input_tokens == by_items.usage.input_tokens > first.usage.input_tokens


def test_a_tool_is_strict_unless_it_cannot_be_or_says_so(server, client, model):
    odd = {"type": "object", "properties": {"p": {"type": "string", "pattern": "(?<=a)b"}}}
    tools = [{"type": "function", "name": f"f{i}", "parameters": odd if i % 2 else SCHEMA} for i in range(24)] + [{"type": "function", "name": "g", "parameters": SCHEMA, "strict": False}]
    r = client.responses.create(model=model, input="Hi", tools=tools, max_output_tokens=4)
    strict = [t.strict for t in r.tools]
    assert not any(strict[1::2]) and strict[-1] is False and r.tools[0].parameters == SCHEMA
    r = client.responses.create(model=model, input="Hi", tools=tools[:6], max_output_tokens=4)
    assert [t.strict for t in r.tools] == [True, False] * 3
    tools[1]["strict"] = True
    assert check_error(server.post(RESPONSES, {"input": "Hi", "tools": tools}), 400)["param"] == "tools[1].parameters/properties/p/pattern"


class Weather(BaseModel):
    city: str
    warm: bool


def test_an_answer_of_a_form_by_the_clients_helper(client, model):
    for seed in range(3):
        r = client.responses.create(model=model, input=QUESTION, max_output_tokens=80, temperature=1, extra_body={"seed": seed},
                                    text={"format": {"type": "json_schema", "name": "w", "strict": True, "schema": SCHEMA}})
        assert r.status == "incomplete" or holds("get_weather", json.loads(r.output_text))
    r = client.responses.parse(model=model, input=QUESTION, text_format=Weather, max_output_tokens=400, temperature=0)
    assert isinstance(r.output_parsed, Weather)
    r = client.responses.create(model=model, input=QUESTION, text={"format": {"type": "json_object"}}, max_output_tokens=40)
    assert r.output_text.startswith("{")


@pytest.mark.parametrize("fields, param", [
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"), ({"tools": [{"type": "local_shell"}]}, "tools[0].type"), ({"tools": [{"name": "x"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"), ({"tools": FUNCTIONS + FUNCTIONS[:1]}, "tools[2].name"),
    ({"tools": [{**SHELL, "format": {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}}]}, "tools[0].format.syntax"),
    ({"tools": [{**SHELL, "format": {"type": "grammar", "syntax": "regex", "definition": "("}}]}, "tools[0].format.definition/properties/input/pattern"),
    ({"tools": FUNCTIONS, "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"), ({"tools": FUNCTIONS, "tool_choice": {"type": "file_search"}}, "tool_choice.type"),
    ({"tool_choice": "required"}, "tool_choice"), ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"), ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"pattern": "(?<=a)"}}}}, "text.format.schema/pattern")])
def test_responses_refuse_by_name(server, fields, param):
    assert check_error(server.post(RESPONSES, {"input": "Hi", **fields}), 400)["param"] == param
