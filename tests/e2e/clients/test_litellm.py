"""litellm in front of chat, Responses and Messages."""
import asyncio
import json

import litellm
import pytest

pytestmark = pytest.mark.real_model

ASK = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {"city": {"const": "Paris"}}, "required": ["city"],
                                                                           "additionalProperties": False}}}


@pytest.fixture
def where(server, model):
    return {"model": f"openai/{model}", "api_base": server.url + "/v1", "api_key": "none", "temperature": 0}


def test_chat(where):
    whole = litellm.completion(messages=ASK, max_tokens=32, **where)
    assert "Paris" in whole.choices[0].message.content and whole.choices[0].finish_reason == "stop"
    streamed = litellm.completion(messages=ASK, max_tokens=32, stream=True, **where)
    assert "".join(c.choices[0].delta.content or "" for c in streamed) == whole.choices[0].message.content


def test_tools(where):
    r = litellm.completion(messages=ASK, tools=[TOOL], tool_choice="required", parallel_tool_calls=False, max_tokens=100, **where)
    call = r.choices[0].message.tool_calls[0].function
    assert call.name == "look_up" and json.loads(call.arguments) == {"city": "Paris"}


def test_responses(where):
    r = litellm.responses(input="What is the capital of France?", max_output_tokens=32, **where)
    assert "Paris" in r.output[0].content[0].text and r.status == "completed"
    events = list(litellm.responses(input="What is the capital of France?", max_output_tokens=32, stream=True, **where))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == r.output[0].content[0].text


def test_messages(server, model):
    r = asyncio.run(litellm.anthropic_messages(model=f"anthropic/{model}", api_base=server.url, api_key="none", messages=ASK, max_tokens=32, temperature=0))
    assert "Paris" in r["content"][0]["text"] and r["stop_reason"] == "end_turn"


def test_errors_keep_their_kind(where):
    with pytest.raises(litellm.BadRequestError, match="top_p"):
        litellm.completion(messages=ASK, top_p=7, num_retries=0, **where)
