"""smolagents: calls of tools, answers held to a schema, and an agent's loop."""
import json

import pytest
from smolagents import OpenAIServerModel, ToolCallingAgent, tool

pytestmark = pytest.mark.real_model


@tool
def look_up(city: str) -> str:
    """Looks up the weather.

    Args:
        city: The city.
    """
    return "sunny"


look_up.inputs["city"]["enum"] = ["Paris"]


@pytest.fixture
def llm(server, model):
    return OpenAIServerModel(model_id=model, api_base=server.url + "/v1", api_key="none", temperature=0, max_tokens=100, parallel_tool_calls=False, client_kwargs={"max_retries": 0})


ASK = [{"role": "user", "content": [{"type": "text", "text": "What is the weather in Paris?"}]}]


def test_tools(llm):
    m = llm.generate(ASK, tools_to_call_from=[look_up])
    assert [(c.function.name, json.loads(c.function.arguments)) for c in m.tool_calls] == [("look_up", {"city": "Paris"})]


def test_answers_held_to_a_schema(llm):
    schema = {"type": "object", "properties": {"city": {"const": "Paris"}}, "required": ["city"], "additionalProperties": False}
    m = llm.generate(ASK, response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}})
    assert json.loads(m.content) == {"city": "Paris"} and m.token_usage.output_tokens > 0


def test_an_agent_runs_its_tools(llm):
    agent = ToolCallingAgent(tools=[look_up], model=llm, max_steps=1, verbosity_level=0)
    agent.run("What is the weather in Paris?")
    calls = [c for s in agent.memory.steps for c in getattr(s, "tool_calls", None) or []]
    assert calls and {c.name for c in calls} <= {"look_up", "final_answer"}
    assert all(c.arguments == {"city": "Paris"} for c in calls if c.name == "look_up")
