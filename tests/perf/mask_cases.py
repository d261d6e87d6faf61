"""Schemas as applications send them, each with three valid instances, for mask_bench.py: python mask_cases.py OUT [COUNT [SEED]].

Objects three deep of two to eight declared keys with strings (free, bounded, by pattern), numbers, enums, arrays and choices; strings are
up to 25 words."""
import json
import random
import sys

WORDS = ("name title city country address street zip email phone age price amount quantity status kind type description notes tags items "
         "created_at updated_at user id parent children score rating url image width height color size enabled visible date time start end").split()
TEXT = ("The quick brown fox jumps over a lazy dog while seven wizards brew potions in Zürich – nobody minds the 42 crates of apples and "
        "pears left behind").split()
PATTERNS = {"^[a-z]+$": "hello", "^[A-Z]{2}\\d{4}$": "AB1234", "^\\d{3}-\\d{4}$": "555-1234"}


def leaf(r):
    return r.choice([
        {"type": "string"}, {"type": "string", "description": "free text"}, {"type": "integer"},
        {"type": "integer", "minimum": 0, "maximum": r.choice([10, 100, 1000])}, {"type": "number"}, {"type": "boolean"},
        {"enum": r.sample(["red", "green", "blue", "active", "inactive", "pending", "done"], 3)}, {"type": ["string", "null"]},
        {"type": "string", "maxLength": r.choice([5, 50, 200])}, {"type": "string", "pattern": r.choice(list(PATTERNS))},
        {"anyOf": [{"type": "string"}, {"type": "number"}]}])


def schema(r, depth):
    k = r.random()
    if depth == 0 or k < 0.55:
        return leaf(r)
    return {"type": "array", "items": schema(r, depth - 1)} if k < 0.75 else record(r, depth - 1)


def record(r, depth):
    keys = r.sample(WORDS, r.randrange(2, 9))
    return {"type": "object", "properties": {k: schema(r, depth) for k in keys}, "required": r.sample(keys, r.randrange(1, len(keys) + 1)),
            "additionalProperties": False}


def grow(r, s):
    if "enum" in s:
        return r.choice(s["enum"])
    if "anyOf" in s:
        return grow(r, r.choice(s["anyOf"]))
    t = r.choice(s["type"]) if isinstance(s["type"], list) else s["type"]
    if t == "object":
        return {k: grow(r, v) for k, v in s["properties"].items() if k in s["required"] or r.random() < 0.6}
    if t == "array":
        return [grow(r, s["items"]) for _ in range(r.randrange(4))]
    if t == "string":
        text = " ".join(r.choice(TEXT) for _ in range(r.randrange(1, 25)))
        return PATTERNS[s["pattern"]] if "pattern" in s else text[:s.get("maxLength", 300)]
    return {"integer": r.randrange(s.get("maximum", 5000)), "number": round(r.uniform(-100, 1000), r.randrange(1, 4)), "boolean": r.random() < 0.5,
            "null": None}[t]


def main():
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    r = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 7)
    cases = []
    for _ in range(count):
        s = record(r, 3)
        cases.append({"schema": s, "tests": [{"data": grow(r, s), "valid": True} for _ in range(3)]})
    with open(sys.argv[1], "w") as f:
        json.dump(cases, f, ensure_ascii=False)


if __name__ == "__main__":
    main()
