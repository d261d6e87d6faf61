"""Random conversations with tools under tool_choice "required": every call that ended by itself is JSON that its schema
validates, and those that were cut say so.

    build/venv/bin/python tests/perf/tool_talks.py BINARY MODEL [--talks 300] [--seed 1]

Prints one line of JSON; exits with 1 when a call is wrong or more than a tenth were cut.
"""
import argparse
import json
import os
import random
import socket
import subprocess
import sys
import time

import jsonschema
import requests

WORDS = ["name", "city", "unit", "limit", "query", "tags", "from", "to", "flag", "note"]


def schema(r, depth):
    """A value's schema; containers to the given depth. Everything in it is bounded, so that answers can end."""
    kinds = ["string", "integer", "boolean", "enum", "null"] + (["object", "array", "anyOf"] if depth > 1 else [])
    kind = r.choice(kinds)
    if kind == "string":
        return {"type": "string", "maxLength": r.randint(1, 12)}
    if kind == "integer":
        return {"type": "integer", "minimum": 0, "maximum": r.randint(1, 1000)}
    if kind == "enum":
        return {"enum": r.sample(["a", "b c", 1, True, None, "é"], 3)}
    if kind == "array":
        return {"type": "array", "items": schema(r, depth - 1), "maxItems": 2}
    if kind == "anyOf":
        return {"anyOf": [schema(r, depth - 1), {"type": "null"}]}
    return objects(r, depth) if kind == "object" else {"type": kind}


def objects(r, depth):
    keys = r.sample(WORDS, r.randint(1, 3))
    return {"type": "object", "properties": {k: schema(r, depth - 1) for k in keys}, "required": r.sample(keys, r.randint(0, len(keys))), "additionalProperties": False}


def tools(r):
    return [{"type": "function", "function": {"name": f"tool_{i}", "description": r.choice(WORDS), "parameters": objects(r, r.randint(1, 6))}} for i in range(r.randint(1, 4))]


def talk(url, r, count):
    offered = tools(r)
    schemas = {t["function"]["name"]: t["function"]["parameters"] for t in offered}
    messages = [{"role": "user", "content": " ".join(r.choices(WORDS, k=6))}]
    for _ in range(r.randint(1, 3)):
        body = {"messages": messages, "tools": offered, "tool_choice": "required", "max_tokens": 400, "temperature": r.choice([0, 0.7, 1]), "seed": r.randrange(1 << 30),
                "parallel_tool_calls": r.random() < 0.3}
        answer = requests.post(url + "/v1/chat/completions", json=body, timeout=600)
        answer.raise_for_status()
        choice = answer.json()["choices"][0]
        calls = choice["message"].get("tool_calls") or []
        count["answers"] += 1
        if choice["finish_reason"] == "length":
            count["cut"] += 1
            return
        assert choice["finish_reason"] == "tool_calls" and calls, choice
        for c in calls:
            count["calls"] += 1
            jsonschema.validate(json.loads(c["function"]["arguments"]), schemas[c["function"]["name"]])
        messages = messages + [choice["message"], *({"role": "tool", "tool_call_id": c["id"], "content": "done"} for c in calls)]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("binary")
    p.add_argument("model")
    p.add_argument("--talks", type=int, default=300)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = subprocess.Popen([a.binary, "--model", a.model, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if requests.get(url + "/ready", timeout=1).status_code == 200:
                    break
            except requests.ConnectionError:
                pass
            time.sleep(0.1)
        count = {"answers": 0, "calls": 0, "cut": 0}
        for i in range(a.talks):
            talk(url, random.Random(f"{a.seed}/{i}"), count)
    finally:
        server.terminate()
        server.wait()
    print(json.dumps({"talks": a.talks, **count}))
    sys.exit(count["cut"] > count["answers"] / 10)


main()
