"""pydantic-ai: tools and every way in which it asks for typed output."""
from typing import Literal

import pytest
from pydantic_ai import Agent, ModelSettings, NativeOutput, PromptedOutput, Tool, ToolOutput
from pydantic_ai.direct import model_request_sync
from pydantic_ai.messages import ModelRequest, ToolCallPart, ToolReturnPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from capital import Capital, HELD, PARIS

pytestmark = pytest.mark.real_model


@pytest.fixture
def chat(server, model):
    return OpenAIChatModel(model, provider=OpenAIProvider(base_url=server.url + "/v1", api_key="none"))


SETTINGS = ModelSettings(temperature=0, max_tokens=100)


def test_text(chat):
    assert "Paris" in Agent(chat, model_settings=SETTINGS).run_sync("What is the capital of France?").output


@pytest.mark.parametrize("output,more", [(ToolOutput(Capital), {}), (NativeOutput(Capital), {}), (PromptedOutput(Capital), HELD)],
                         ids=["tool", "native", "prompted"])
def test_output_types(chat, output, more):
    agent = Agent(chat, output_type=output, model_settings=ModelSettings(**SETTINGS, extra_body=more), retries=0)
    assert agent.run_sync("What is the capital of France?").output == PARIS


def test_tools_are_called_and_their_results_reach_the_model(chat):
    def look_up(city: Literal["Paris"], days: Literal[3]) -> str:
        """Looks up the weather."""
        return "sunny"

    tool = Tool(look_up)
    ask = [ModelRequest.user_text_prompt("The weather?")]
    must = ModelRequestParameters(function_tools=[tool.tool_def], allow_text_output=False)
    r = model_request_sync(chat, ask, model_request_parameters=must, model_settings={**SETTINGS, "parallel_tool_calls": False})
    call = next(p for p in r.parts if isinstance(p, ToolCallPart))
    assert call.tool_name == "look_up" and call.args_as_dict() == {"city": "Paris", "days": 3} and r.usage.output_tokens > 0
    told = [*ask, r, ModelRequest(parts=[ToolReturnPart("look_up", "sunny", call.tool_call_id)])]
    agent = Agent(chat, output_type=NativeOutput(Capital), model_settings=SETTINGS)
    assert agent.run_sync("Which capital was it?", message_history=told).output == PARIS
