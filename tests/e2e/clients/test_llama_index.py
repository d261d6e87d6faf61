"""llama-index: chat, streams, tools and structured output through its OpenAILike model."""
from typing import Literal

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.program import FunctionCallingProgram
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

from capital import Capital, PARIS

pytestmark = pytest.mark.real_model


@pytest.fixture
def llm(server, model):
    return OpenAILike(model=model, api_base=server.url + "/v1", api_key="none", is_chat_model=True, is_function_calling_model=True, temperature=0, max_tokens=100,
                      context_window=8192, max_retries=0)


ASK = [ChatMessage(role="user", content="What is the capital of France?")]


def test_chat_and_its_stream(llm):
    whole = llm.chat(ASK).message.content
    assert "Paris" in whole
    assert list(llm.stream_chat(ASK))[-1].message.content == whole


def test_tools(llm):
    def look_up(city: Literal["Paris"], days: Literal[3]) -> str:
        """Looks up the weather."""
        return f"sunny in {city} for {days} days"

    tool = FunctionTool.from_defaults(look_up)
    r = llm.chat_with_tools([tool], user_msg="The weather?", tool_required=True)
    calls = llm.get_tool_calls_from_response(r)
    assert [(c.tool_name, c.tool_kwargs) for c in calls][0] == ("look_up", {"city": "Paris", "days": 3})
    assert tool.call(**calls[0].tool_kwargs).content == "sunny in Paris for 3 days"


def test_structured_output(llm):
    program = FunctionCallingProgram.from_defaults(output_cls=Capital, llm=llm, prompt_template_str="{text}", tool_required=True, allow_parallel_tool_calls=False)
    assert program(text="What is the capital of France?") == PARIS
    assert llm.as_structured_llm(Capital).chat(ASK).raw == PARIS
