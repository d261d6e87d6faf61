"""Writes templates.json: what the reference renders from small templates (template_cases.py) and from whole chat
templates (templates/*.jinja) with conversations (reference_jinja.py). tests/server/jinja/test_template_golden.c replays it.

    python tests/goldens/make_templates.py

smollm2.jinja is the template inside SmolLM2-135M-Instruct (Apache-2.0); the others were written for this test.
"""
import json
import pathlib

import jinja2

import reference_jinja
import template_cases

HERE = pathlib.Path(__file__).parent
OPTIONS = ("plain", "absent", "tools")
LEFT_OUT = ("long", "documents")


def result(template, context):
    """What to expect: {"text"}, or {"raises"} for raise_exception's words, or {"fails"}."""
    try:
        if isinstance(template, str):
            template = reference_jinja.Reference(template)
        return {"text": template.render(context)}
    except Exception as e:
        return {"raises": str(e)} if type(e) is jinja2.exceptions.TemplateError else {"fails": True}


def main():
    contexts = {"": template_cases.ctx()}
    for name, context in reference_jinja.contexts():
        conversation, option = name.split("/")
        if option in OPTIONS and conversation not in LEFT_OUT:
            contexts[name] = context
    templates, cases = [], []
    for source, _ in template_cases.cases():
        cases.append({"template": len(templates), "context": "", **result(source, contexts[""])})
        templates.append(source)
    for file in sorted(HERE.glob("templates/*.jinja")):
        source = file.read_text()
        template = reference_jinja.Reference(source)
        for name in contexts:
            if name:
                cases.append({"template": len(templates), "context": name, **result(template, contexts[name])})
        templates.append(source)
    out = json.dumps({"contexts": contexts, "templates": templates, "cases": cases}, ensure_ascii=False, indent=0)
    assert "\\u0000" not in out.replace("\\\\u0000", ""), "the replaying parser ends strings at NUL"
    (HERE / "templates.json").write_text(out + "\n")
    kinds = [k for c in cases for k in ("text", "raises", "fails") if k in c]
    print(len(cases), "cases:", {k: kinds.count(k) for k in sorted(set(kinds))}, len(out), "bytes")


main()
