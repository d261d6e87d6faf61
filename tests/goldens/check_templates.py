"""Compares the server's chat templates with the reference over a folder of real templates.

    python tests/goldens/check_templates.py FOLDER DRIVER [--verbose]

FOLDER holds *.jinja files; DRIVER is the built tests/server/jinja/template_cli.c. Every template is rendered with every
conversation of reference_jinja.py. A case matches when both give the same text, or both refuse; a refusal by
raise_exception must carry the same words. A second pass renders conversations whose strings are Yi syllables
only: the spans reported as coming from outside must be exactly those characters.
"""
import json
import pathlib
import re
import subprocess
import sys

import jinja2

import reference_jinja


class Driver:
    def __init__(self, path):
        self.p = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, question):
        self.p.stdin.write(json.dumps(question, ensure_ascii=False).encode() + b"\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        if not line:
            raise SystemExit(f"the driver died at {str(question)[:300]}")
        return json.loads(line)


def reference(template, context):
    """(text, None) or (None, error)."""
    try:
        return template.render(context), None
    except Exception as e:
        return None, e


def same_refusal(error, answer):
    if "error" not in answer:
        return False
    raised = type(error) is jinja2.exceptions.TemplateError
    return not raised or answer["error"] == str(error)[: len(answer["error"])] and answer["error"] != ""


def to_yi(value):
    """Every string's characters become Yi syllables, which no template holds; structure, keys, roles and types stay."""
    if isinstance(value, str):
        return "".join(chr(0xA000 + ord(c) % 0x400) for c in value)
    if isinstance(value, list):
        return [to_yi(v) for v in value]
    if isinstance(value, dict):
        keep = ("role", "type")
        return {k: v if k in keep else to_yi(v) for k, v in value.items()}
    return value


def plain_words(value, words):
    """Adds what to_yi leaves in plain letters: keys, roles and types."""
    if isinstance(value, list):
        for v in value:
            plain_words(v, words)
    elif isinstance(value, dict):
        for k, v in value.items():
            words.add(k.lower())
            if k in ("role", "type"):
                words.update(w.lower() for w in (v if isinstance(v, list) else [v]))
            plain_words(v, words)
    return words


def spans_exact(text, spans, words):
    """Every Yi syllable lies in a span, and every span holds nothing but those and words from outside."""
    data = text.encode()
    inside = [data[s:e].decode() for s, e in spans]
    if sum(len(re.findall("[\ua000-\ua3ff]", piece)) for piece in inside) != len(re.findall("[\ua000-\ua3ff]", text)):
        return False
    rest = [w for piece in inside for w in re.split("[\ua000-\ua3ff]+", piece) if w]
    known = re.compile("(?:" + "|".join([*map(re.escape, words), "\\\\ua[0-3][0-9a-f]{2}"]) + ")+")
    return all(known.fullmatch(w.lower()) for w in rest) and all(a[1] < b[0] for a, b in zip(spans, spans[1:]))


def main():
    folder, path = sys.argv[1], sys.argv[2]
    verbose = "--verbose" in sys.argv
    driver = Driver(path)
    total = matched = rendered = span_total = span_ok = 0
    for file in sorted(pathlib.Path(folder).glob("*.jinja")):
        source = file.read_text()
        template = reference_jinja.Reference(source)
        compiled = driver.ask({"template": source})
        n = ok = 0
        first = None
        for name, context in reference_jinja.contexts():
            want, error = reference(template, context)
            got = driver.ask({"context": context}) if "error" not in compiled else compiled
            good = got.get("text") == want if error is None else same_refusal(error, got)
            n += 1
            ok += good
            rendered += error is None
            if not good and (first is None or verbose):
                first = (name, want if error is None else repr(error), got)
                if verbose:
                    print("   ", *first, sep="\n      ")
            strange = {**context, **{k: to_yi(v) for k, v in context.items() if isinstance(v, list)}}
            if "error" in compiled:
                continue
            got = driver.ask({"context": strange})
            if "text" in got:
                span_total += 1
                words = plain_words([v for v in strange.values() if isinstance(v, list)], set())
                good = spans_exact(got["text"], got["spans"], words)
                span_ok += good
                if not good:
                    print("    spans differ:", file.name, name)
        total += n
        matched += ok
        print(f"{'ok  ' if n == ok else 'DIFF'} {ok:4d}/{n} {file.name}" + ("" if n == ok or verbose else f"\n      {first}"), flush=True)
    print(f"{matched} of {total} cases match ({rendered} of them rendered, the others refused by both)")
    print(f"{span_ok} of {span_total} renderings name exactly the characters from outside")
    return 0 if matched == total and span_ok == span_total else 1


sys.exit(main())
