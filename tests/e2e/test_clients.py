"""The helpers of client libraries that most programs are written with (openai, anthropic, langchain), each by what it makes of an answer. Types of one
value make contents certain whatever the model is. Others are in tests/e2e/clients (make test-clients)."""
import json
from typing import Literal

import anthropic
import openai
import pydantic
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

ASK = [{"role": "user", "content": "What is the capital of France?"}]


class Capital(pydantic.BaseModel, extra="forbid"):
    """A capital."""

    city: Literal["Paris"]
    country: Literal["France"]


PARIS = Capital(city="Paris", country="France")
SCHEMA = {"type": "object", "properties": {"city": {"const": "Paris"}, "days": {"const": 3}}, "required": ["city", "days"], "additionalProperties": False}


@pytest.fixture
def client(server):
    return server.client()


@pytest.fixture
def claude(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120)


@pytest.fixture
def model(server):
    return server.get("/v1/models").json()["data"][0]["id"]


# --- openai

def test_openais_parse_helpers(client, model):
    r = client.chat.completions.parse(model=model, messages=ASK, response_format=Capital, max_tokens=80)
    assert r.choices[0].message.parsed == PARIS
    r = client.chat.completions.parse(model=model, messages=ASK, tools=[openai.pydantic_function_tool(Capital)], tool_choice="required", parallel_tool_calls=False,
                                      max_tokens=80)
    assert r.choices[0].message.tool_calls[0].function.parsed_arguments == PARIS
    assert client.responses.parse(model=model, input=ASK, text_format=Capital, max_output_tokens=80).output_parsed == PARIS


def test_openais_stream_helpers_give_the_same(client, model):
    with client.chat.completions.stream(model=model, messages=ASK, response_format=Capital, max_tokens=80) as s:
        parts = [e.parsed for e in s if e.type == "content.delta" and e.parsed]
        assert s.get_final_completion().choices[0].message.parsed == PARIS and parts[-1] == {"city": "Paris", "country": "France"}
    tools = [openai.pydantic_function_tool(Capital)]
    with client.chat.completions.stream(model=model, messages=ASK, tools=tools, tool_choice="required", parallel_tool_calls=False, max_tokens=80) as s:
        done = [e for e in s if e.type == "tool_calls.function.arguments.done"]
        assert [(e.name, e.parsed_arguments) for e in done] == [("Capital", PARIS)]
    with client.responses.stream(model=model, input=ASK, text_format=Capital, max_output_tokens=80) as s:
        text = "".join(e.delta for e in s if e.type == "response.output_text.delta")
        assert s.get_final_response().output_parsed == PARIS and json.loads(text) == PARIS.model_dump()


def test_openais_responses_call_tools_streamed_and_whole_and_go_on(client, model):
    tool = {"type": "function", "name": "look_up", "parameters": SCHEMA}
    fields = dict(model=model, input=ASK, tools=[tool], tool_choice={"type": "function", "name": "look_up"}, max_output_tokens=100, temperature=0)
    whole = client.responses.create(**fields)
    (call,) = whole.output
    assert call.type == "function_call" and call.name == "look_up" and json.loads(call.arguments) == {"city": "Paris", "days": 3}
    with client.responses.stream(**fields) as s:
        deltas = "".join(e.delta for e in s if e.type == "response.function_call_arguments.delta")
        final = s.get_final_response()
    assert deltas == call.arguments == final.output[0].arguments
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    r = client.responses.parse(model=model, input=[result], previous_response_id=whole.id, text_format=Capital, max_output_tokens=80)
    assert r.output_parsed == PARIS


# --- anthropic

CLAUDE_TOOL = {"name": "look_up", "description": "Looks it up.", "input_schema": SCHEMA}


def test_anthropics_tools_streamed_and_whole_and_go_on(claude, model):
    fields = dict(model=model, max_tokens=100, messages=ASK, tools=[CLAUDE_TOOL], tool_choice={"type": "tool", "name": "look_up"}, extra_body={"temperature": 0})
    whole = claude.messages.create(**fields)
    (use,) = whole.content
    assert whole.stop_reason == "tool_use" and (use.type, use.name, use.input) == ("tool_use", "look_up", {"city": "Paris", "days": 3})
    with claude.messages.stream(**fields) as s:
        parts = [e.partial_json for e in s if e.type == "input_json"]
        final = s.get_final_message()
    assert json.loads("".join(parts)) == final.content[0].input == use.input and final.stop_reason == "tool_use"
    told = [*ASK, {"role": "assistant", "content": whole.content}, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}]}]
    counted = claude.messages.count_tokens(model=model, messages=told, tools=[CLAUDE_TOOL]).input_tokens
    m = claude.messages.create(**{**fields, "messages": told, "tool_choice": {"type": "none"}, "max_tokens": 4})
    assert m.usage.input_tokens + m.usage.cache_read_input_tokens == counted and m.content[0].type == "text"


def test_anthropics_parse_helper(claude, model):
    assert claude.messages.parse(model=model, max_tokens=80, messages=ASK, output_format=Capital).parsed_output == PARIS


# --- langchain

@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def chain(request, server, model):
    return ChatOpenAI(model=model, base_url=server.url + "/v1", api_key="none", max_tokens=100, max_retries=0, temperature=0, use_responses_api=request.param)


def look_up(city: Literal["Paris"], days: Literal[3]) -> str:
    """Looks up the weather."""
    return "sunny"


def test_langchains_tools(chain):
    bound = chain.bind_tools([look_up], tool_choice="required", parallel_tool_calls=False)
    ask = [HumanMessage("The weather?")]
    m = bound.invoke(ask)
    assert [(c["name"], c["args"]) for c in m.tool_calls] == [("look_up", {"city": "Paris", "days": 3})] and m.usage_metadata["output_tokens"] > 0
    chunks = list(bound.stream(ask))
    streamed = chunks[0]
    for c in chunks[1:]:
        streamed += c
    assert [(c["name"], c["args"]) for c in streamed.tool_calls] == [("look_up", {"city": "Paris", "days": 3})]
    result = ToolMessage("sunny", tool_call_id=m.tool_calls[0]["id"])
    assert chain.with_structured_output(Capital).invoke([*ask, m, result]) == PARIS


@pytest.mark.parametrize("method", ["function_calling", "json_mode", "json_schema"])
def test_langchains_structured_output_by_every_method(server, model, method):
    # JSON mode holds to JSON alone; that it takes a schema too is an addition
    more = {"response_format": {"type": "json_object", "schema": Capital.model_json_schema()}} if method == "json_mode" else {}
    chain = ChatOpenAI(model=model, base_url=server.url + "/v1", api_key="none", max_tokens=100, max_retries=0, extra_body=more)
    assert chain.with_structured_output(Capital, method=method).invoke("What is the capital of France? Answer in JSON.") == PARIS


def test_langchain_through_messages(server, model):
    chain = ChatAnthropic(model=model, base_url=server.url, api_key="none", max_tokens=100, max_retries=0)
    m = chain.bind_tools([look_up], tool_choice="look_up").invoke("The weather?")
    assert [(c["name"], c["args"]) for c in m.tool_calls] == [("look_up", {"city": "Paris", "days": 3})]
