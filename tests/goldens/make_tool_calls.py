"""Writes tool_calls.json: answers with calls of tools as chat templates of each family render them, and what they say.

    python tests/goldens/make_tool_calls.py

The templates were written for this test; each has the constructs that its family renders for an assistant's turn. An
answer is what a template adds to the prompt for a last turn of the assistant. tests/server/text/tools/test_tools.c
reads and writes the answers, test_probe.c finds the family by the template alone. Needs jinja2.
"""
import json
import pathlib

import jinja2

HERE = pathlib.Path(__file__).parent

# What stands around an assistant's turn, by family; every one asks for nothing but messages and tools.
CHATML = """{%- if tools %}{{ '<|im_start|>system\\n# Tools\\n<tools>' }}{% for t in tools %}{{ '\\n' + t | tojson }}{% endfor %}{{ '\\n</tools><|im_end|>\\n' }}{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}{{ '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}
{%- elif m.role == 'assistant' %}{{ '<|im_start|>assistant\\n' }}
{%- if m.reasoning_content %}{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}
@TURN@{{ '<|im_end|>\\n' }}
{%- else %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

HERMES = """{{ m.content }}{% for c in m.tool_calls or [] %}{% if not loop.first or m.content %}{{ '\\n' }}{% endif %}
{{- '<tool_call>\\n{"name": "' + c.function.name + '", "arguments": ' + c.function.arguments | tojson + '}\\n</tool_call>' }}{% endfor %}"""

QWEN_CODER = """{{ m.content }}{% for c in m.tool_calls or [] %}{% if not loop.first or m.content %}{{ '\\n' }}{% endif %}
{{- '<tool_call>\\n<function=' + c.function.name + '>\\n' }}{% for k, v in c.function.arguments.items() %}
{{- '<parameter=' + k + '>\\n' + (v if v is string else v | tojson) + '\\n</parameter>\\n' }}{% endfor %}
{{- '</function>\\n</tool_call>' }}{% endfor %}"""

GLM = """{%- for m in messages %}
{%- if m.role == 'assistant' %}{{ '<|assistant|>\\n' }}
{%- if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>\\n' }}{% endif %}{{ m.content }}
{%- for c in m.tool_calls or [] %}{{ '\\n<tool_call>' + c.function.name + '\\n' }}{% for k, v in c.function.arguments.items() %}
{{- '<arg_key>' + k + '</arg_key>\\n<arg_value>' + (v if v is string else v | tojson) + '</arg_value>\\n' }}{% endfor %}{{ '</tool_call>' }}{% endfor %}
{%- else %}{{ '<|' + m.role + '|>\\n' + m.content }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""

LLAMA = """{{ bos_token }}{% for m in messages %}
{%- if m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + m.tool_calls[0].function.name + '", "parameters": ' + m.tool_calls[0].function.arguments | tojson + '}<|eot_id|>' }}
{%- else %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content + '<|eot_id|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

PYTHONIC = """{{ bos_token }}{% for m in messages %}{{ '<|header_start|>' + m.role + '<|header_end|>\\n\\n' }}
{%- if m.tool_calls %}{{ '[' }}{% for c in m.tool_calls %}{{ c.function.name + '(' }}{% for k, v in c.function.arguments.items() %}
{{- k + '=' }}{% if v is string %}{{ v | tojson }}{% else %}{{ v }}{% endif %}{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ')' }}
{%- if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ']' }}{% else %}{{ m.content }}{% endif %}{{ '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|header_start|>assistant<|header_end|>\\n\\n' }}{% endif %}"""

MISTRAL = """{{ bos_token }}{% for m in messages %}
{%- if m.role == 'assistant' %}{% if m.content %}{{ m.content }}{% endif %}{% if m.tool_calls %}{{ '[TOOL_CALLS][' }}{% for c in m.tool_calls %}
{%- if c.id is not defined or c.id | length != 9 %}{{ raise_exception('ids of calls have 9 characters') }}{% endif %}
{{- '{"name": "' + c.function.name + '", "arguments": ' + c.function.arguments | tojson + ', "id": "' + c.id + '"}' }}{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ']' }}{% endif %}{{ '</s>' }}
{%- elif m.role == 'tool' %}{{ '[TOOL_RESULTS]' + m.content + '[/TOOL_RESULTS]' }}{% else %}{{ '[INST]' + m.content + '[/INST]' }}{% endif %}
{%- endfor %}"""

MISTRAL_ARGS = """{{ bos_token }}{% for m in messages %}
{%- if m.role == 'assistant' %}{% if m.reasoning_content %}{{ '[THINK]' + m.reasoning_content + '[/THINK]' }}{% endif %}{{ m.content }}{% for c in m.tool_calls or [] %}
{{- '[TOOL_CALLS]' + c.function.name + '@ID@[ARGS]' + c.function.arguments | tojson }}{% endfor %}{{ '</s>' }}
{%- elif m.role == 'tool' %}{{ '[TOOL_RESULTS]' + m.content + '[/TOOL_RESULTS]' }}{% else %}{{ '[INST]' + m.content + '[/INST]' }}{% endif %}
{%- endfor %}"""

DEEPSEEK = """{{ bos_token }}{% for m in messages %}
{%- if m.role == 'user' %}{{ '<｜User｜>' + m.content }}{% elif m.role == 'tool' %}{{ '<｜tool▁outputs▁begin｜>' + m.content + '<｜tool▁outputs▁end｜>' }}
{%- else %}{{ '<｜Assistant｜>' }}{% if m.reasoning_content %}{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}{{ m.content }}
{%- if m.tool_calls %}{{ '<｜tool▁calls▁begin｜>' }}{% for c in m.tool_calls %}@CALL@{% endfor %}{{ '<｜tool▁calls▁end｜>' }}{% endif %}{{ '<｜end▁of▁sentence｜>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"""

DEEPSEEK_V3 = """{% if not loop.first %}{{ '\\n' }}{% endif %}{{ '<｜tool▁call▁begin｜>' + c.type + '<｜tool▁sep｜>' + c.function.name + '\\n```json\\n' + c.function.arguments | tojson + '\\n```<｜tool▁call▁end｜>' }}"""
DEEPSEEK_V31 = """{{ '<｜tool▁call▁begin｜>' + c.function.name + '<｜tool▁sep｜>' + c.function.arguments | tojson + '<｜tool▁call▁end｜>' }}"""

KIMI = """{% for m in messages %}{{ '<|im_' + m.role + '|>' + m.role + '<|im_middle|>' }}
{%- if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content }}
{%- if m.tool_calls %}{{ '<|tool_calls_section_begin|>' }}{% for c in m.tool_calls %}
{{- '<|tool_call_begin|>' + c.id + '<|tool_call_argument_begin|>' + c.function.arguments | tojson + '<|tool_call_end|>' }}{% endfor %}{{ '<|tool_calls_section_end|>' }}{% endif %}{{ '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_assistant|>assistant<|im_middle|>' }}{% endif %}"""

HARMONY = """{% for m in messages %}
{%- if m.role == 'assistant' %}{% if m.reasoning_content %}{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.reasoning_content + '<|end|>' }}{% endif %}
{%- if m.content and m.tool_calls %}{{ '<|start|>assistant<|channel|>commentary<|message|>' + m.content + '<|end|>' }}{% elif m.content %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|return|>' }}{% endif %}
{%- for c in m.tool_calls or [] %}{{ '<|start|>assistant<|channel|>commentary to=functions.' + c.function.name + ' <|constrain|>json<|message|>' + c.function.arguments | tojson + '<|call|>' }}{% endfor %}
{%- else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"""

SMOLLM = """{{ m.content }}{% if m.tool_calls %}{% if m.content %}{{ '\\n' }}{% endif %}{{ '<tool_call>[' }}{% for c in m.tool_calls %}
{{- '{"name": "' + c.function.name + '", "arguments": ' + c.function.arguments | tojson + '}' }}{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ']</tool_call>' }}{% endif %}"""

# family: (template, what ends a turn)
FAMILIES = {
    "hermes": (CHATML.replace("@TURN@", HERMES), "<|im_end|>\n"),
    "qwen3_coder": (CHATML.replace("@TURN@", QWEN_CODER), "<|im_end|>\n"),
    "llama3_json": (LLAMA, "<|eot_id|>"),
    "pythonic": (PYTHONIC, "<|eot|>"),
    "mistral": (MISTRAL, "</s>"),
    "mistral_args": (MISTRAL_ARGS.replace("@ID@", ""), "</s>"),
    "mistral_id": (MISTRAL_ARGS.replace("@ID@", "[CALL_ID]' + c.id + '"), "</s>"),
    "deepseek_v3": (DEEPSEEK.replace("@CALL@", DEEPSEEK_V3), "<｜end▁of▁sentence｜>"),
    "deepseek_v31": (DEEPSEEK.replace("@CALL@", DEEPSEEK_V31), "<｜end▁of▁sentence｜>"),
    "glm45": (GLM, ""),
    "kimi_k2": (KIMI, "<|im_end|>"),
    "harmony": (HARMONY, ""),
    "smollm": (CHATML.replace("@TURN@", SMOLLM), "<|im_end|>\n"),
}
ONE_CALL = {"llama3_json"}
NO_THOUGHT = {"llama3_json", "pythonic", "mistral"}
ALONE = {"llama3_json", "pythonic"}  # a call is the whole answer
NO_NAMES = {"pythonic"}  # a key is a name of Python's

ARGS = [
    {},
    {"city": "Paris"},
    {"city": "Zürich", "days": 3, "exact": True, "note": None},
    {"query": 'say "hi"\n\tand \\ back', "deep": {"a": [1, -2.5, {"b": []}], "c": {}}, "list": ["x", "", "ü 😀"]},
    {"query": "</tool_call> {\"name\": \"x\"} <parameter=y> [/ARGS] ```", "n": 0},
    {"größe": "größer", "ключ": {"日本": "語"}},
    {"query": " two\n\nlines \n", "exact": False},
]
QWEN_CLOSES = {4}  # the value spells a tag that closes in no family of these


def tool(name):
    properties = {k: {"type": "string"} for k in ("city", "query", "größe")}
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": {"type": "object", "properties": properties}}}


TOOLS = [tool("get_weather"), tool("search")]


def turns():
    """(content, thought, [arguments])"""
    yield "Hello, this is text.", None, []
    yield "", None, [ARGS[1]]
    yield "Let me see.", None, [ARGS[2]]
    yield "", None, [ARGS[2], ARGS[0]]
    yield "Both:\n\nat once", None, [ARGS[3], ARGS[1], ARGS[5]]
    yield "", "I should call\nsomething.", [ARGS[1]]
    yield "Sure.", "A thought with <tool_call> in it", [ARGS[1], ARGS[6]]
    yield "Only said.", "Only thought.", []
    for a in ARGS:
        yield "", None, [a]


def cases(family, template, end):
    user = [{"role": "user", "content": "Hi"}]
    for content, thought, args in turns():
        if len(args) > 1 and family in ONE_CALL or thought and family in NO_THOUGHT or content and args and family in ALONE:
            continue
        if family in NO_NAMES and any(not k.isascii() for a in args for k in a):
            continue
        calls = []
        for i, a in enumerate(args):
            name = ("get_weather", "search")[i % 2]
            id = f"functions.{name}:{i}" if family == "kimi_k2" else f"abcdefg{i:02d}"
            calls.append({"id": id, "type": "function", "function": {"name": name, "arguments": a}})
        turn = {"role": "assistant", "content": content}
        if thought:
            turn["reasoning_content"] = thought
        if calls:
            turn["tool_calls"] = calls
        context = {"tools": TOOLS, "bos_token": "<s>", "eos_token": "</s>"}
        before = template.render(messages=user, add_generation_prompt=True, **context)
        after = template.render(messages=user + [turn], add_generation_prompt=False, **context)
        assert after.startswith(before) and after.endswith(end), (family, before, after)
        yield {
            "format": family,
            "answer": after[len(before) : len(after) - len(end)],
            "text": content,
            "thought": thought or "",
            "ids": [c["id"] for c in calls],
            "calls": [{"name": c["function"]["name"], "args": json.dumps(c["function"]["arguments"], ensure_ascii=False)} for c in calls],
        }


def refuse(why):
    raise jinja2.exceptions.TemplateError(why)


def main():
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    env.filters["tojson"] = lambda v: json.dumps(v, ensure_ascii=False)
    env.globals["raise_exception"] = refuse
    out = {"templates": {f: t for f, (t, _) in FAMILIES.items()}, "tools": TOOLS, "cases": []}
    for family, (text, end) in FAMILIES.items():
        out["cases"] += cases(family, env.from_string(text), end)
    (HERE / "tool_calls.json").write_text(json.dumps(out, ensure_ascii=False, indent=0) + "\n")
    print(len(out["cases"]), "answers of", len(FAMILIES), "families")


main()
