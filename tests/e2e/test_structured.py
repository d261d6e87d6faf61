"""Answers that follow a schema, a pattern, choices or a grammar, on the whole server: what ends by itself is valid, and the same bits come
alone, among others, preempted, cached, as one of n and streamed."""
import concurrent.futures
import json
import random
import re

import jsonschema
import pydantic
import pytest

from conftest import Server, Stream, check_error, need_binary

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def narrow():
    """Pages for four blocks of tokens: long answers beside each other are preempted."""
    need_binary()
    s = Server("--max-num-seqs", "4", "--kv-pool-bytes", "12M", "--max-model-len", "384", "--default-max-tokens", "4", "--route", "full")
    try:
        yield s
        assert s.stop() == 0
    finally:
        s.kill()


def response_format(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


def ask(server, schema=None, path=CHAT, **fields):
    text = {"prompt": "An example:"} if path == COMPLETIONS else {"messages": [{"role": "user", "content": "Give a short example as JSON."}]}
    if schema is not None:
        text["response_format"] = response_format(schema)
    return server.post(path, {"max_tokens": 48, "temperature": 1, **text, **fields})


def said(r):
    """(text, finish_reason) of each choice."""
    assert r.status_code == 200, r.text
    return [(c["message"]["content"] if "message" in c else c["text"], c["finish_reason"]) for c in r.json()["choices"]]


def closed(**properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


N = 120
WORD = {"type": "string", "maxLength": 6}


def random_schema(rng, depth):
    """Whatever follows it is short, so that answers end by themselves."""
    if depth == 0:
        return rng.choice([WORD, {"type": "integer", "minimum": 0, "maximum": 99}, {"type": "boolean"}, {"enum": ["red", "green", None, 7]},
                           {"type": "string", "format": "date"}, {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{2}$"}, {"const": "x"}])
    inner = random_schema(rng, depth - 1)
    return rng.choice([lambda: closed(a=inner), lambda: closed(k=random_schema(rng, 0), v=inner),
                       lambda: {"type": "array", "items": inner, "minItems": 1, "maxItems": 2 if depth < 3 else 1},
                       lambda: {"anyOf": [inner, {"type": "null"}]}])()


def test_what_ends_by_itself_is_valid_to_depth_six(server):
    rng = random.Random(7)
    schemas = [random_schema(rng, 1 + i % 6) for i in range(N)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: said(ask(server, schemas[i], seed=i, path=(CHAT, COMPLETIONS)[i % 2]))[0], range(N)))
    ended = 0
    for schema, (text, finish) in zip(schemas, answers):
        if finish == "length":
            continue
        ended += 1
        assert finish == "stop"
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
        assert re.sub(r"-0\b(?!\.)", "0", text) == json.dumps(json.loads(text), ensure_ascii=False)  # spaced is the default; -0 is 0
    assert ended >= N * 3 // 4


@pytest.mark.real_model
def test_what_a_trained_model_ends_is_valid(server):
    rng = random.Random(3)
    schemas = [closed(a=random_schema(rng, i)) for i in range(6)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda s: said(ask(server, s, seed=1, max_tokens=24))[0], schemas))
    for schema, (text, finish) in zip(schemas, answers):
        if finish == "stop":
            jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
    assert sum(finish == "stop" for _, finish in answers) >= 3


def test_every_kind_of_constraint_holds(server):
    kinds = [({"structured_outputs": {"regex": "[a-c]{2,4}(x|yy)"}}, lambda t: re.fullmatch("[a-c]{2,4}(x|yy)", t)),
             ({"guided_regex": "[0-9]{3}-[0-9]{2}"}, lambda t: re.fullmatch("[0-9]{3}-[0-9]{2}", t)),
             ({"structured_outputs": {"choice": ["left", "right", "straight on"]}}, lambda t: t in ("left", "right", "straight on")),
             ({"guided_choice": ["é\n", "日本"]}, lambda t: t in ("é\n", "日本")),
             ({"structured_outputs": {"grammar": 'root ::= "(" root ")" | [0-9]'}}, lambda t: re.fullmatch(r"\(*[0-9]\)*", t) and t.count("(") == t.count(")")),
             ({"structured_outputs": {"json": json.dumps(closed(n={"type": "integer", "maximum": 9, "minimum": 0}))}}, lambda t: 0 <= json.loads(t)["n"] <= 9),
             ({"guided_json": {"enum": [12345678901234567890123]}}, lambda t: t.startswith("12345678901234567890123")),  # no double is in between
             ({"response_format": {"type": "json_object"}}, lambda t: isinstance(json.loads(t), dict)),
             ({"response_format": {"type": "json_object", "schema": closed(z={"const": 1})}}, lambda t: json.loads(t) == {"z": 1}),
             ({"structured_outputs": {"json_object": True}, "stop": ["}"]}, lambda t: t.startswith("{"))]
    with concurrent.futures.ThreadPoolExecutor(len(kinds)) as pool:
        answers = list(pool.map(lambda k: said(ask(server, seed=3, **k[0]))[0], kinds))
    for (fields, holds), (text, finish) in zip(kinds, answers):
        assert finish == "length" or holds(text), (fields, text)
    assert sum(finish == "stop" for _, finish in answers) >= 6


SCHEMA = closed(digits={"type": "string", "pattern": "^[0-9]{135,145}$"}, tags={"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 1, "maxItems": 4})


def bits(server, words=84, **more):
    """Of each choice: ids and logprobs as printed. No max_tokens: pages for half of the answer are promised."""
    fields = dict(messages=[{"role": "user", "content": "a " * words}], seed=11, temperature=1, response_format=response_format(SCHEMA), logprobs=True,
                  top_logprobs=2, return_token_ids=True)
    r = server.post(CHAT, {**fields, **more})
    assert r.status_code == 200, r.text
    return [(c["token_ids"], c["logprobs"], c["finish_reason"]) for c in json.loads(r.text, parse_float=str)["choices"]]


def test_the_same_bits_alone_in_a_batch_preempted_cached_as_one_of_n_and_streamed(narrow):
    alone = bits(narrow)
    jsonschema.validate(json.loads("".join(t["token"] for t in alone[0][1]["content"] if not t["token"].startswith("<|"))), SCHEMA)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:  # there are pages for two of them, but not to their ends
        crowd = list(pool.map(lambda i: bits(narrow, seed=11 + i), range(4)))
    m = narrow.metrics()
    assert m["fluxd_preemptions_total"] > 0 and m["fluxd_schema_cache_hits_total"] >= 4 and m["fluxd_forced_tokens_total"] > 5
    assert crowd[0] == alone and len({str(c) for c in crowd}) == 4
    assert bits(narrow, n=2) == [crowd[0][0], crowd[1][0]]
    long = bits(narrow, words=150)
    hits = narrow.metrics()["fluxd_prefix_hits_total"]
    assert bits(narrow, words=150) == long
    assert narrow.metrics()["fluxd_prefix_hits_total"] > hits
    ids, tops = [], []
    with Stream(narrow, CHAT, messages=[{"role": "user", "content": "a " * 84}], seed=11, temperature=1, response_format=response_format(SCHEMA), logprobs=True,
                return_token_ids=True) as s:
        for _, frame in s:
            for c in frame["choices"]:
                ids += c.get("token_ids") or []
                tops += [t["token"] for t in (c.get("logprobs") or {}).get("content") or []]
    assert ids == alone[0][0] and tops == [t["token"] for t in alone[0][1]["content"]]


def test_other_fields_work_together_with_a_schema(server):
    with_bias = said(ask(server, structured_outputs={"choice": ["yes", "no"]}, logit_bias={str(server.ids("yes")[0]): 100}))
    assert with_bias == [("yes", "stop")]
    assert said(ask(server, structured_outputs={"choice": ["yes"]}, min_tokens=20)) == [("yes", "stop")]  # nothing else may come
    assert said(ask(server, structured_outputs={"choice": ["yes"]}, ignore_eos=True)) == [("yes", "stop")]
    assert said(ask(server, structured_outputs={"choice": ["yes"]}, allowed_token_ids=server.ids("no"))) == [("", "length")]
    text, finish = said(ask(server, structured_outputs={"regex": "[a-z]{5,9}STOP[0-9]+"}, stop=["STOP"]))[0]
    assert finish == "stop" and re.fullmatch("[a-z]{5,9}", text)
    text, finish = said(ask(server, structured_outputs={"regex": "[a-z]{30,40}"}, max_tokens=2))[0]
    assert finish == "length"
    r = ask(server, closed(a={"type": "boolean"}), logprobs=True, top_logprobs=2).json()["choices"][0]
    assert "".join(t["token"] for t in r["logprobs"]["content"]).startswith(r["message"]["content"])


HOSTILE = [
    {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}},
    {"$ref": "http://127.0.0.1:1/schema.json"},
    {"allOf": [{"anyOf": [{"required": [f"a{i}"]}, {"required": [f"b{i}"]}]} for i in range(25)]},
    {"type": "string", "pattern": "(a{1,100}|b){1,100}" * 40},
    {"type": "string", "pattern": "(?=a)b(?<!c)"},
    {"enum": [f"v{i}" for i in range(100_000)]},
    {"type": "object", "properties": {f"a{i}": {"minimum": i} for i in range(5000)}},
    {"type": "integer", "allOf": [{"multipleOf": 9 * 10**6 + i} for i in range(40)]},
    {"not": {"not": {"not": {}}}},
    {"type": "object", "patternProperties": {f"a.*{i}": {"minimum": i} for i in range(40)}},
]


def test_hostile_schemas_are_refused_or_bounded_while_another_client_talks(server):
    deep = '{"items":' * 10_000 + "{}" + "}" * 10_000
    body = '{"messages": [{"role": "user", "content": "a"}], "max_tokens": 2, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": %s}}}'
    with Stream(server, CHAT, messages=[{"role": "user", "content": "Tell a story."}], max_tokens=40, ignore_eos=True, return_token_ids=True) as talk:
        frames = iter(talk)
        next(frames)
        check_error(server.post(CHAT, data=body % deep, headers={"Content-Type": "application/json"}), 400)
        for schema in HOSTILE:
            r = ask(server, schema, max_tokens=2)
            if r.status_code != 200:
                e = check_error(r, 400)
                assert e["param"].startswith("response_format.json_schema.schema"), e
        ids = [i for _, f in frames for c in f["choices"] for i in c.get("token_ids") or []]
        assert talk.done and 30 < len(ids) <= 40
    m = server.metrics()
    assert m["fluxd_schemas_refused_total"] >= 3 and m["fluxd_schema_cache_bytes"] < 512 << 20


def test_refusals_name_the_keyword_by_pointer(server):
    e = check_error(ask(server, {"type": "object", "properties": {"a": {"items": {"format": "nobody-knows"}}}}), 400, "unsupported_parameter")
    assert e["param"] == "response_format.json_schema.schema/properties/a/items/format" and "/properties/a/items/format" in e["message"]
    e = check_error(ask(server, structured_outputs={"grammar": 'root ::= "a" |\nb ::= ('}), 400, "invalid_value", "structured_outputs.grammar")
    assert "line 2" in e["message"]


class Tag(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    kind: int = pydantic.Field(ge=-99, le=99)
    on: bool


class Thing(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    tag: Tag
    size: float | None


def test_openais_parse_helper_gives_objects(server):
    r = server.client().chat.completions.parse(model=server.get("/v1/models").json()["data"][0]["id"], max_tokens=80, seed=2, temperature=0,
                                               messages=[{"role": "user", "content": "A thing."}], response_format=Thing)
    assert isinstance(r.choices[0].message.parsed, Thing), r.choices[0].message
