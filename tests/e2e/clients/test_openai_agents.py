"""openai-agents: an agent with a tool and a typed answer, over chat and over Responses."""
from typing import Literal

import agents
import openai
import pytest

from capital import Capital, PARIS

pytestmark = pytest.mark.real_model
agents.set_tracing_disabled(True)


@pytest.fixture(params=["chat", "responses"])
def llm(request, server, model):
    client = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)
    kind = {"chat": agents.OpenAIChatCompletionsModel, "responses": agents.OpenAIResponsesModel}[request.param]
    return kind(model=model, openai_client=client)


SETTINGS = {"temperature": 0, "max_tokens": 100, "parallel_tool_calls": False}


def test_text(llm):
    agent = agents.Agent("a", model=llm, model_settings=agents.ModelSettings(temperature=0, max_tokens=32))
    assert "Paris" in agents.Runner.run_sync(agent, "What is the capital of France?").final_output


def test_a_typed_answer(llm):
    agent = agents.Agent("a", model=llm, output_type=Capital, model_settings=agents.ModelSettings(temperature=0, max_tokens=100))
    assert agents.Runner.run_sync(agent, "What is the capital of France?").final_output == PARIS


def test_a_tool_is_called_and_its_result_ends_the_run(llm):
    @agents.function_tool
    def look_up(city: Literal["Paris"], days: Literal[3]) -> str:
        """Looks up the weather."""
        return f"sunny in {city} for {days} days"

    agent = agents.Agent("a", model=llm, tools=[look_up], tool_use_behavior="stop_on_first_tool",
                         model_settings=agents.ModelSettings(tool_choice="required", **SETTINGS))
    assert agents.Runner.run_sync(agent, "The weather?").final_output == "sunny in Paris for 3 days"


def test_a_tools_result_goes_back_to_the_model(llm):
    @agents.function_tool
    def look_up(city: Literal["Paris"]) -> str:
        """Looks up the weather."""
        return "The weather in Paris is sunny."

    agent = agents.Agent("a", model=llm, tools=[look_up], model_settings=agents.ModelSettings(tool_choice="required", **SETTINGS))
    r = agents.Runner.run_sync(agent, "What is the weather in Paris?", max_turns=4)
    assert [i.type for i in r.new_items][:2] == ["tool_call_item", "tool_call_output_item"]
    assert r.new_items[1].output == "The weather in Paris is sunny." and r.new_items[-1].type == "message_output_item" and r.final_output
