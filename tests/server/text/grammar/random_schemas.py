"""Random JSON Schemas against an independent validator: python random_schemas.py SCHEMA_SUITE TOKENIZER [COUNT [SEED]].

Makes COUNT schemas, for each some instances (grown along the schema, then broken at random), asks the `jsonschema` package which of
them are valid, and has schema_suite feed all of them. Fails when an invalid instance is accepted or a valid one rejected; prints how
many schemas were refused, which must stay a minority, so that the comparison means something."""
import json
import random
import subprocess
import sys
import tempfile

from jsonschema import Draft202012Validator

KEYS = ["a", "b", "c", "kind", "x_1", "é"]
TEXTS = ["", "a", "ab", "abc", "b", "x", "é€", "a\"b", "\nq", "kind", "aaaa", "zz top"]
PATTERNS = ["^a", "b$", "^[a-z]*$", "^.{2,3}$", "a|é", "^(?!ab)", "^x_"]
NUMBERS = [0, 1, 2, 3, 5, 6, 10, -1, -7, 100, 0.5, 1.5, -2.25, 1.0, 12345, 1e20, 1e16, 2.5e17, 1e-7]


def scalar(r):
    return r.choice([None, True, False, r.choice(NUMBERS), r.choice(TEXTS)])


def value(r, depth=2):
    k = r.random()
    if depth == 0 or k < 0.6:
        return scalar(r)
    if k < 0.8:
        return [value(r, depth - 1) for _ in range(r.randrange(4))]
    return {key: value(r, depth - 1) for key in r.sample(KEYS, r.randrange(4))}


class Maker:
    def __init__(self, r):
        self.r = r
        self.ref_ok = True  # in $defs, a $ref in place would be a schema that refers to itself

    def some(self, p):
        return self.r.random() < p

    def scalar_part(self, s):
        r = self.r
        if self.some(0.2):
            s["minimum"] = r.choice(NUMBERS)
        if self.some(0.1):
            s["exclusiveMaximum"] = r.choice(NUMBERS)
        if self.some(0.1):
            s["multipleOf"] = r.choice([1, 2, 4, 5, 0.5, 0.25])
        if self.some(0.15):
            s["minLength"] = r.randrange(4)
        if self.some(0.15):
            s["maxLength"] = r.randrange(5)
        if self.some(0.12):
            s["pattern"] = r.choice(PATTERNS)

    def object_part(self, s, depth):
        r = self.r
        if self.some(0.6):
            s["properties"] = {k: self.schema(depth - 1) for k in r.sample(KEYS, r.randrange(1, 4))}
        if self.some(0.3):
            s["required"] = r.sample(KEYS, r.randrange(1, 3))
        if self.some(0.3):
            s["additionalProperties"] = r.choice([False, False, self.schema(depth - 1)])
        if self.some(0.12):
            s["patternProperties"] = {p: self.schema(depth - 1) for p in r.sample(PATTERNS, r.randrange(1, 3))}
        if self.some(0.1):
            s["propertyNames"] = {"pattern": r.choice(PATTERNS)}
        if self.some(0.12):
            s["minProperties"] = r.randrange(3)
        if self.some(0.12):
            s["maxProperties"] = r.randrange(4)
        if self.some(0.08):
            s["dependentRequired"] = {r.choice(KEYS): r.sample(KEYS, 1)}
        if self.some(0.05):
            s["unevaluatedProperties"] = r.choice([False, self.schema(0)])

    def array_part(self, s, depth):
        r = self.r
        if self.some(0.5):
            s["items"] = self.schema(depth - 1)
        if self.some(0.25):
            s["prefixItems"] = [self.schema(depth - 1) for _ in range(r.randrange(1, 3))]
        if self.some(0.2):
            s["minItems"] = r.randrange(3)
        if self.some(0.2):
            s["maxItems"] = r.randrange(4)
        if self.some(0.15):
            s["contains"] = self.schema(depth - 1)
            if self.some(0.4):
                s["minContains"] = r.randrange(3)
            if self.some(0.4):
                s["maxContains"] = r.randrange(1, 3)
        if self.some(0.05):
            s["unevaluatedItems"] = r.choice([False, self.schema(0)])
        if self.some(0.05):
            s["uniqueItems"] = True
            s["items"] = {"enum": r.sample([1, 2, "a", "b", None, True], 3)}

    def schema(self, depth):
        r = self.r
        if self.some(0.06):
            return r.choice([True, False, True])
        if self.ref_ok and self.some(0.08):
            return {"$ref": r.choice(["#/$defs/one", "#/$defs/two"])}
        if self.some(0.12):
            return {"enum": [value(r, 1) for _ in range(r.randrange(1, 4))]}
        if self.some(0.06):
            return {"const": value(r, 1)}
        s = {}
        if self.some(0.6):
            types = ["null", "boolean", "integer", "number", "string", "array", "object"]
            s["type"] = r.choice(types) if self.some(0.7) else r.sample(types, 2)
        if self.some(0.5):
            self.scalar_part(s)
        if depth > 0 and self.some(0.6):
            self.inside(self.object_part, s, depth)
        if depth > 0 and self.some(0.35):
            self.inside(self.array_part, s, depth)
        if depth > 0:
            for k, p in (("allOf", 0.08), ("anyOf", 0.12), ("oneOf", 0.1)):
                if self.some(p):
                    s[k] = [self.schema(depth - 1) for _ in range(r.randrange(1, 4))]
            if self.some(0.06):
                s["dependentSchemas"] = {r.choice(KEYS): self.schema(depth - 1)}
            if self.some(0.08):
                s["not"] = self.schema(depth - 1)
            if self.some(0.08):
                s["if"] = self.schema(depth - 1)
                if self.some(0.8):
                    s["then"] = self.schema(depth - 1)
                if self.some(0.6):
                    s["else"] = self.schema(depth - 1)
        items = list(s.items())
        r.shuffle(items)
        return dict(items)

    def inside(self, part, s, depth):
        before, self.ref_ok = self.ref_ok, True
        part(s, depth)
        self.ref_ok = before

    def root(self):
        s = self.schema(3)
        if not isinstance(s, dict):
            s = {}
        self.ref_ok = False
        s["$defs"] = {"one": self.schema(1), "two": self.schema(2)}
        return s


def grow(r, s, root, depth=4):
    """An instance that follows the schema more often than not."""
    if not isinstance(s, dict) or depth == 0 or r.random() < 0.05:
        return value(r, 1)
    if "$ref" in s:
        return grow(r, root["$defs"][s["$ref"].split("/")[-1]], root, depth - 1)
    if "const" in s:
        return s["const"]
    if "enum" in s:
        return r.choice(s["enum"])
    for k in ("anyOf", "oneOf", "allOf"):
        if k in s and r.random() < 0.4:
            return grow(r, {**{q: v for q, v in s.items() if q != k}, **sub(r.choice(s[k]), root)}, root, depth - 1)
    for k in ("then", "else", "if"):
        if k in s and r.random() < 0.2:
            return grow(r, {**{q: v for q, v in s.items() if q not in ("if", "then", "else")}, **sub(s[k], root)}, root, depth - 1)
    t = s.get("type")
    if t is None:
        like = {"object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "unevaluatedProperties"),
                "array": ("items", "prefixItems", "minItems", "contains", "unevaluatedItems"), "string": ("pattern", "minLength", "maxLength"),
                "number": ("minimum", "exclusiveMaximum", "multipleOf")}
        t = r.choice([k for k, v in like.items() if any(q in s for q in v)] or ["null", "string", "number", "object"])
    if isinstance(t, list):
        t = r.choice(t)
    if t == "object":
        keys = [k for k in s.get("properties", {}) if r.random() < 0.7] + s.get("required", [])
        keys += r.sample(KEYS, r.randrange(2)) + ["x_9"] * (r.random() < 0.1)
        keys = list(dict.fromkeys(keys))
        rest = s.get("additionalProperties", s.get("unevaluatedProperties", True))
        return {k: grow(r, s.get("properties", {}).get(k, rest), root, depth - 1) for k in keys}
    if t == "array":
        out = [grow(r, p, root, depth - 1) for p in s.get("prefixItems", [])][: r.choice([1, 9, 9])]
        n = r.randrange(s.get("minItems", 0), s.get("minItems", 0) + 3)
        while len(out) < n:
            out.append(grow(r, s.get("contains", True) if r.random() < 0.3 else s.get("items", True), root, depth - 1))
        return out
    if t == "string":
        return r.choice(TEXTS)
    if t in ("number", "integer"):
        return r.choice(NUMBERS)
    return {"null": None, "boolean": r.random() < 0.5}[t]


def sub(s, root):
    if isinstance(s, dict) and "$ref" in s:
        s = root["$defs"][s["$ref"].split("/")[-1]]
    return s if isinstance(s, dict) else {}


def shake(r, v):
    """Something near v."""
    if isinstance(v, dict) and v and r.random() < 0.8:
        v = dict(v)
        k = r.choice(list(v))
        if r.random() < 0.3:
            del v[k]
        else:
            v[k] = shake(r, v[k])
        return v
    if isinstance(v, list) and v and r.random() < 0.8:
        i = r.randrange(len(v))
        return v[:i] + ([] if r.random() < 0.3 else [shake(r, v[i])]) + v[i + 1:]
    return value(r, 1)


def case(seed):
    r = random.Random(seed)
    schema = Maker(r).root()
    validator = Draft202012Validator(schema)
    tests = []
    for _ in range(12):
        v = grow(r, schema, schema)
        if r.random() < 0.3:
            v = shake(r, v)
        try:
            valid = validator.is_valid(v)
        except RecursionError:
            return None
        tests.append({"data": v, "valid": valid})
    return {"schema": schema, "tests": tests, "seed": seed}


def main():
    suite, tokenizer = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
    first = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    cases = [c for c in map(case, range(first, first + count)) if c]
    valid = sum(t["valid"] for c in cases for t in c["tests"])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(cases, f, ensure_ascii=False)
        f.flush()
        done = subprocess.run([suite, tokenizer, f.name], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    for line in lines:
        if " accepted" in line[:60] or " rejected" in line[:60]:
            i = int(line.split("#")[1].split()[0])
            print(line, "seed", cases[i]["seed"])
    print("valid instances:", valid)
    print(lines[-1] if lines else done.stderr)
    if done.returncode != 0:
        sys.exit(done.stderr or "the engine and the validator differ")
    total = json.loads(lines[-1])["schemas"]
    if total["refused"] * 4 > total["schemas"]:
        sys.exit("too many schemas are refused")


if __name__ == "__main__":
    main()
