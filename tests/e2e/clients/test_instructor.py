"""instructor: tools, JSON mode, JSON Schema."""
import instructor
import pytest

from capital import Capital, HELD, PARIS

pytestmark = pytest.mark.real_model


@pytest.mark.parametrize("mode,more", [(instructor.Mode.TOOLS, {}), (instructor.Mode.JSON, {"extra_body": HELD}), (instructor.Mode.JSON_SCHEMA, {})],
                         ids=["tools", "json", "schema"])
def test_typed_answers(server, model, mode, more):
    client = instructor.from_openai(server.client(), mode=mode)
    ask = dict(model=model, messages=[{"role": "user", "content": "What is the capital of France?"}], response_model=Capital, temperature=0, max_tokens=100,
               max_retries=0, **more)
    got, raw = client.chat.completions.create_with_completion(**ask)
    assert (got.city, got.country) == ("Paris", "France") and raw.usage.completion_tokens > 0
    assert bool(raw.choices[0].message.tool_calls) == (mode is instructor.Mode.TOOLS)


def test_parts_of_an_answer_come_while_it_is_made(server, model):
    client = instructor.from_openai(server.client(), mode=instructor.Mode.TOOLS)
    parts = list(client.chat.completions.create_partial(model=model, messages=[{"role": "user", "content": "Which capital?"}], response_model=Capital, temperature=0,
                                                        max_tokens=100, max_retries=0))
    assert len(parts) > 2 and (parts[-1].city, parts[-1].country) == ("Paris", "France")
