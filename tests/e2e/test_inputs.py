"""Hostile bodies and parameters: each gets its status and the error object, and the server answers afterwards.

Runs against the sanitizer build where it exists (conftest.ASAN_BIN), which must stay silent. Its memory for KV pages is small,
so that requests that can never fit are at hand.
"""
import concurrent.futures
import json
import os
import re
import socket

import pytest

from conftest import ASAN_BIN, BIN, Server, Stream, assert_linear, check_error, need_binary

SANITIZED = os.path.exists(ASAN_BIN)
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
LAYERS, VOCAB, CONTEXT = 30, 49152, 8192
PATHS = {"completions": COMPLETIONS, "chat": CHAT}
VALID = {COMPLETIONS: {"prompt": "a", "max_tokens": 1, "temperature": 0},
         CHAT: {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "temperature": 0}}


@pytest.fixture(scope="module")
def hostile():
    """The server under attack."""
    need_binary()
    s = Server("--max-num-seqs", "8", "--clamp-max-tokens", "off", "--kv-pool-bytes", "64M", "--max-detokenize-ids", "100000", binary=ASAN_BIN if SANITIZED else BIN)
    try:
        yield s
        assert s.alive(), s.logged()[-20000:]
        assert s.stop() == 0
    finally:
        s.kill()


@pytest.fixture(autouse=True)
def answers_afterwards(hostile):
    yield
    assert hostile.alive(), hostile.logged()[-20000:]
    assert hostile.get("/health").status_code == 200
    r = hostile.post("/tokenize", {"prompt": "still here"})
    assert r.status_code == 200 and r.json()["count"] > 0


def send(server, path, body, timeout=600):
    """body: bytes as they are, or fields that replace those of a valid request."""
    if not isinstance(body, (bytes, str)):
        body = json.dumps({k: v for k, v in {**VALID[path], **body}.items() if v is not ...})
    if isinstance(body, str):
        body = body.encode()
    return server.post(path, data=body, headers={"Content-Type": "application/json"}, timeout=timeout)


def valid_with(path, raw):
    """A valid body with raw text put behind its last field."""
    return json.dumps(VALID[path])[:-1] + ", " + raw + "}"


both = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


# --- B: the body

@both
@pytest.mark.parametrize("body", ["{}xyz", "{}{}", "nullx", "", " ", "{", "[1", '{"a":}', '{"a":1,}', "{'a':1}", '{"a":01}', '{"a":+1}', '{"a":.5}', '{"a":1.}',
                                  '{"a":NaN}', '{"a":Infinity}', '{"a":tru}', '{"a":"\t"}', '{"a":"\\x"}', "\ufeff{}", '{"a":1}\0', "//c\n{}"])
def test_B02_what_is_no_json_is_refused(hostile, path, body):
    check_error(send(hostile, path, body), 400, "invalid_json")


@both
@pytest.mark.parametrize("body", ["null", "true", "1", '"a"', "[]", "[{}]"])
def test_B02_a_body_is_an_object(hostile, path, body):
    check_error(send(hostile, path, body), 400, "invalid_type")


@both
@pytest.mark.parametrize("depth", [65, 1000, 10**6])
@pytest.mark.parametrize("opening,closing", ["[]", ('{"a":', "}")])
def test_B04_depth_is_bounded(hostile, path, depth, opening, closing):
    text = opening * depth + (closing if closing == "]" else "1" + closing) * 1 + closing * (depth - 1)
    check_error(send(hostile, path, valid_with(path, f'"metadata": {text}')), 400, param="metadata")
    check_error(send(hostile, path, opening * depth), 400)


def test_B04_depth_below_the_bound_passes(hostile):
    assert send(hostile, COMPLETIONS, {"store": json.loads("[" * 60 + "]" * 60)}).status_code == 200


@both
@pytest.mark.parametrize("raw,param", [('"model": null, "model": null', "model"), ('"stream": false, "stream": true', "stream"),
                                       ('"user": 1, "us\\u0065r": 2', "user"), ('"x": {"a": 1, "a": 1}', "x")])
def test_B06_a_key_twice_is_refused(hostile, path, raw, param):
    check_error(send(hostile, path, valid_with(path, raw)), 400, "duplicate_key", param)


@pytest.mark.parametrize("body,param", [
    ('{"messages": [{"role": "user", "content": "a\\u0000b"}]}', "messages"),
    ('{"messages": [{"role": "user", "content": "a"}], "stop": "a\\u0000b"}', "stop"),
    ('{"messages": [{"role": "user", "content": "a"}], "a\\u0000b": 1}', None),
    ('{"messages": [{"role": "user", "content": "a", "name": "\\u0000"}]}', "messages"),
    ('{"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {"name": "a\\u0000"}}]}', "tools"),
])
def test_B08_an_escaped_nul_is_never_cut(hostile, body, param):
    check_error(send(hostile, CHAT, body), 400, "invalid_value", param)


@both
@pytest.mark.parametrize("bad", [b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf0\x9f", b"\xf5\x80\x80\x80", b"\x80", b"\\ud800", b"\\udc00\\ud800"],
                         ids=lambda b: b.hex())
def test_B10_bytes_that_are_no_utf8_are_refused(hostile, path, bad):
    body = valid_with(path, '"user": "a@b"').encode()
    check_error(send(hostile, path, body.replace(b"@", bad)), 400, "invalid_utf8", "user")
    check_error(send(hostile, path, b'{"' + bad + b'": 1}'), 400, "invalid_utf8")


@both
@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e400"])
def test_B12_infinite_numbers_are_refused(hostile, path, number):
    for field in ("temperature", "seed", "nonsense"):
        body = json.dumps({k: v for k, v in VALID[path].items() if k != field})[:-1] + f', "{field}": {number}}}'
        check_error(send(hostile, path, body), 400, "invalid_value", field)


def test_B12_vanishing_numbers_are_zero(hostile):
    want = send(hostile, COMPLETIONS, {"max_tokens": 3}).json()["choices"][0]["text"]
    for number in ("1e-999", "0.0", "-0.0", "0e5"):
        got = send(hostile, COMPLETIONS, '{"prompt": "a", "max_tokens": 3, "temperature": %s}' % number)
        assert got.status_code == 200 and got.json()["choices"][0]["text"] == want


LONG = "a" * (7 << 20)
HUGE_FIELDS = [(COMPLETIONS, "model", 400), (COMPLETIONS, "stop", 400), (COMPLETIONS, "prompt", 400), (CHAT, "model", 400), (COMPLETIONS, "temperature", 400),
               (COMPLETIONS, "request_id", 400), (CHAT, "messages", 400), (COMPLETIONS, "logit_bias", 400), (CHAT, "content", 400)]


@pytest.mark.parametrize("path,field,status", HUGE_FIELDS)
def test_B14_a_string_of_7_MiB_is_refused_by_its_field_in_linear_time(server, hostile, path, field, status):
    content = field == "content"

    def refused(s, times):
        text = LONG[:len(LONG) // 8 * times]
        body = json.dumps({**VALID[path], **({"messages": [{"role": "user", "content": text}]} if content else {field: text})})
        check_error(send(s, path, body), status, param="messages" if content else field)

    refused(hostile, 8)
    assert_linear(server.proc, lambda times: refused(server, times), field)


@both
@pytest.mark.parametrize("digits", [70, 7 << 20])
def test_B14_a_long_number_is_refused(server, hostile, path, digits):
    def refused(s, times):
        check_error(send(s, path, valid_with(path, '"top_p": 1' + "0" * (digits // 8 * times))), 400, param="top_p")

    refused(hostile, 8)
    assert_linear(server.proc, lambda times: refused(server, times), "digits")


def test_B14_many_small_values_are_bounded(hostile):
    most = int(re.search(r'"json_values"[^}]*?"value": ?(\d+)', hostile.get("/v1/limits").text)[1])
    check_error(send(hostile, COMPLETIONS, '{"prompt": "a", "x": [%s1]}' % ("1," * most)), 400)
    check_error(send(hostile, COMPLETIONS, '{"prompt": "a", "x": {%s}}' % ",".join(f'"{i}":1' for i in range(300_000))), 400)


def test_bodies_over_the_limits_are_413(hostile):
    check_error(send(hostile, COMPLETIONS, b'{"prompt": "' + b"a" * (9 << 20) + b'"}'), 413, "request_too_large")
    check_error(send(hostile, COMPLETIONS, b'{"prompt": [' + b"1," * (17 << 20) + b"1]}"), 413, "request_too_large")


def test_only_json_is_read(hostile):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        r = hostile.post(COMPLETIONS, data=json.dumps(VALID[COMPLETIONS]), headers={"Content-Type": kind})
        check_error(r, 415, "unsupported_media_type")
    r = hostile.post(COMPLETIONS, data=json.dumps(VALID[COMPLETIONS]), headers={"Content-Type": "application/json; charset=utf-8"})
    assert r.status_code == 200


# --- B16: every field x every kind of value. One letter for each of VALUES: o a good answer, S a good stream, t invalid_type,
# v invalid_value, u unsupported_parameter (fields of features that are not there pass when they ask for nothing), m a member is missing.

VALUES = [None, True, 0, -1, 1.5, "", [], {}]
COMMON_FIELDS = {
    "model": "otttt.tt", "request_id": "ottttott", "cache_salt": "ottttott", "max_tokens": "otvvtttt", "temperature": "otovottt",
    "top_p": "otvvvttt", "min_p": "otovvttt", "top_k": "otootttt", "presence_penalty": "otooottt", "frequency_penalty": "otooottt",
    "repetition_penalty": "otvvottt", "n": "otvvtttt", "stream": "oStttttt", "stream_options": "ottttttv",
    "response_format": "ottttttm", "stop": "ottttvvt", "stop_token_ids": "otttttot", "allowed_token_ids": "otttttvt",
    "logit_bias": "otttttto", "seed": "otootttt", "ignore_eos": "ootttttt", "min_tokens": "otovtttt",
    "include_stop_str_in_output": "ootttttt", "skip_special_tokens": "ootttttt", "add_special_tokens": "ootttttt",
    "return_token_ids": "ootttttt", "truncate_prompt_tokens": "otvotttt", "priority": "otootttt", "route": "ottttvvu",
    "bad_words": "ottttvot", "structured_outputs": "ottttttm", "guided_json": "ootttvto", "json_schema": "ouuuuoou", "do_sample": "oouuuooo", "continuous_usage_stats": "ovtttttt", "guided_regex": "ottttvtt", "guided_choice": "otttttvt", "guided_grammar": "ottttvtt", "use_beam_search": "ouuuuooo",
    "max_completion_tokens": "otvvtttt", "grammar": "ouuuuooo", "regex": "ouuuuooo", "max_new_tokens": "ouuuuooo", "typical_p": "ouuuuooo", "mirostat": "ououuooo",
    "logits_processors": "ouuuuooo", "length_penalty": "ouuuuooo", "prompt_logprobs": "otovtttt",
    "user": "ottttott", "store": "oooooooo", "metadata": "otttttto", "service_tier": "oooooooo"
}
COMPLETION_FIELDS = {"prompt": "tttttvvt", "logprobs": "otovtttt", "echo": "ootttttt", "best_of": "otvvtttt", "suffix": "ouuuuooo", "top_logprobs": "ououuooo",
                     "messages": "ouuuuooo", "tools": "ouuuuooo", "parallel_tool_calls": "oooooooo"}
CHAT_FIELDS = {
    "messages": "ttttttvt", "prompt": "ouuuuooo", "logprobs": "ootttttt", "top_logprobs": "otovtttt",
    "chat_template_kwargs": "otttttto", "add_generation_prompt": "ootttttt", "continue_final_message": "ootttttt",
    "tools": "otttttot", "parallel_tool_calls": "ootttttt", "reasoning_effort": "ottttvtt", "verbosity": "ottttvtt",
    "functions": "ouuuuooo", "tool_choice": "ottttvtv", "function_call": "ouuuuooo", "chat_template": "ouuuuooo",
    "documents": "ouuuuooo", "audio": "ouuuuooo", "prediction": "oooooooo", "echo": "ouuuuooo",
    "web_search_options": "ouuuuoou",
}
CODES = {"t": "invalid_type", "v": "invalid_value", "u": "unsupported_parameter", "m": "missing_required_parameter"}


def kind_cases(path):
    own = COMPLETION_FIELDS if path == COMPLETIONS else CHAT_FIELDS
    for field, marks in {**COMMON_FIELDS, **own}.items():
        assert len(marks) == len(VALUES), field
        for mark, value in zip(marks, VALUES):
            yield field, value, mark


def kind_breach(server, path, field, value, mark):
    """None, or what is wrong with the answer to this value of this field."""
    more = {"stop": list("aeio"), "max_tokens": ...} if field in ("max_tokens", "max_completion_tokens") else \
        {"logprobs": True} if field == "top_logprobs" and path == CHAT else \
        {"add_generation_prompt": False} if field == "continue_final_message" else {}
    r = send(server, path, {**more, field: value})
    told = f"{field}={json.dumps(value)}: {r.status_code} {r.text[:200]}"
    if mark == "S":
        return None if r.status_code == 200 and r.text.endswith("data: [DONE]\n\n") else told
    if mark == "o":
        return None if r.status_code == 200 else told
    if mark == ".":  # an empty model name is no model, or none given
        return None if r.status_code in (200, 404) else told
    try:
        e = check_error(r, 400, CODES[mark])
    except AssertionError as why:
        return f"{told} ({why})"
    return None if e["param"] and e["param"].split("[")[0].split(".")[0] == field else told


@both
def test_B16_every_field_with_every_kind_of_value(hostile, path):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        breaches = [b for b in pool.map(lambda c: kind_breach(hostile, path, *c), kind_cases(path)) if b]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize("path,field,mark", [("/tokenize", "prompt", "prompt"), ("/detokenize", "tokens", "tokens")])
def test_B16_the_tokenizer_endpoints(hostile, path, field, mark):
    for value in [True, 0, -1, 1.5, {}]:
        r = hostile.post(path, {field: value})
        check_error(r, 400, "invalid_type", field)
    check_error(hostile.post(path, {}), 400, "missing_required_parameter")
    for bad in ([-1], [VOCAB], [2**31], [2**63], [1.5], ["a"], [None]):
        if path == "/detokenize":
            e = check_error(hostile.post(path, {field: bad}), 400)
            assert e["param"].startswith(field)


# --- C: the parameters

def test_C02_messages_must_be_messages(hostile):
    check_error(send(hostile, CHAT, {"messages": ...}), 400, "missing_required_parameter", "messages")
    check_error(send(hostile, CHAT, {"messages": []}), 400, "invalid_value", "messages")
    for bad in ("hi", 1, {}, {"role": "user"}):
        check_error(send(hostile, CHAT, {"messages": bad}), 400, "invalid_type", "messages")
    for bad, param in ((["hi"], "messages[0]"), ([None], "messages[0]"), ([[]], "messages[0]"), ([{"content": "a"}], "messages[0].role"),
                       ([{"role": "user"}], "messages[0].content"), ([{"role": "wizard", "content": "a"}], "messages[0].role"),
                       ([{"role": "user", "content": 5}], "messages[0].content"), ([{"role": "user", "content": "a"}, 7], "messages[1]"),
                       ([{"role": "user", "content": []}], "messages[0].content"), ([{"role": "user", "content": ["a"]}], "messages[0].content[0]"),
                       ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text")):
        e = check_error(send(hostile, CHAT, {"messages": bad}), 400)
        assert e["param"] == param, (bad, e)
    assert send(hostile, COMPLETIONS, {"prompt": ...}).json()["error"]["param"] == "prompt"


def test_C06_a_tools_result_belongs_to_a_call(hostile):
    user, call = {"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    for history, code in (([user, {"role": "tool", "content": "r"}], "missing_required_parameter"), ([user, {"role": "tool", "content": "r", "tool_call_id": "c1"}], "invalid_value"),
                          ([user, call, {"role": "tool", "content": "r", "tool_call_id": "c2"}], "invalid_value"),
                          ([user, {**call, "tool_calls": ["c1"]}, {"role": "tool", "content": "r", "tool_call_id": "c1"}], "invalid_type")):
        e = check_error(send(hostile, CHAT, {"messages": history}), 400, code)
        assert e["param"] in (f"messages[{len(history) - 1}].tool_call_id", "messages[1].tool_calls[0]")
    for calls in (call, {**call, "content": ""}, {**call, "content": "f"}):  # null: this model's template adds the content to a text
        for last in ([], [user]):
            r = send(hostile, CHAT, {"messages": [user, calls, {"role": "tool", "content": "r", "tool_call_id": "c1"}, *last]})
            assert r.status_code == 200, r.text
    assert send(hostile, CHAT, {"messages": [{**user, "tool_calls": []}]}).status_code == 200


def test_what_is_too_long_is_refused_in_words_that_clients_know(hostile):
    for path, field, body in ((CHAT, "messages", {"messages": [{"role": "user", "content": "a " * CONTEXT}]}), (COMPLETIONS, "prompt", {"prompt": "a " * CONTEXT}),
                              (COMPLETIONS, "prompt", {"prompt": [1] * (CONTEXT + 1)}), (COMPLETIONS, "prompt", {"prompt": "a" * (4 << 20)}), (COMPLETIONS, "max_tokens", {"max_tokens": CONTEXT})):
        e = check_error(send(hostile, path, body), 400, "context_length_exceeded", field)
        assert e["message"].startswith(f"This model's maximum context length is {CONTEXT} tokens. However, ") and ("prompt is too long" in e["message"] or "you requested" in e["message"])


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "video_url"])
def test_C04_other_media_are_refused_and_never_fetched(hostile, kind):
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen()
        trap.settimeout(0.3)
        for url in (f"http://127.0.0.1:{trap.getsockname()[1]}/x.png", "file:///etc/passwd"):
            part = {"type": kind, kind: {"url": url, "data": url, "format": "wav"}}
            e = check_error(send(hostile, CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, part]}]}), 400, "unsupported_parameter")
            assert e["param"].startswith("messages[0].content[1]") and "root:" not in e["message"]
        with pytest.raises(TimeoutError):
            trap.accept()


def test_C08_lengths(hostile):
    for path, field in ((COMPLETIONS, "max_tokens"), (CHAT, "max_tokens"), (CHAT, "max_completion_tokens")):
        check_error(send(hostile, path, {"max_tokens": ..., field: 10**9}), 400, "context_length_exceeded")
        for huge in (2**31, 2**32 + 1, 2**63, 10**30):
            check_error(send(hostile, path, {"max_tokens": ..., field: huge}), 400, param=field)
    check_error(send(hostile, CHAT, {"max_tokens": 3, "max_completion_tokens": 4}), 400, "invalid_value")
    assert send(hostile, CHAT, {"max_tokens": 3, "max_completion_tokens": 3}).json()["usage"]["completion_tokens"] <= 3
    assert send(hostile, COMPLETIONS, {"max_tokens": ...}).json()["usage"]["completion_tokens"] <= 16
    check_error(send(hostile, COMPLETIONS, {"prompt": [1] * (CONTEXT + 1)}), 400, "context_length_exceeded", "prompt")
    check_error(send(hostile, CHAT, {"messages": [{"role": "user", "content": "a " * CONTEXT}]}), 400, "context_length_exceeded", "messages")


def test_C10_what_never_fits_the_memory_is_refused_at_once(hostile):
    accepted = hostile.metrics()["fluxd_requests_accepted_total"]
    for more in ({}, {"stream": True}, {"n": 2}):
        check_error(send(hostile, COMPLETIONS, {"prompt": [1] * 7000, **more}), 400, "kv_capacity_exceeded")
    check_error(send(hostile, COMPLETIONS, {"max_tokens": 8000}), 400, "kv_capacity_exceeded")
    m = hostile.metrics()
    assert m["fluxd_requests_accepted_total"] == accepted and m["fluxd_requests_waiting"] == 0, "none is queued first"


def test_C12_tiny_temperatures_are_greedy(hostile):
    texts = {send(hostile, COMPLETIONS, {"max_tokens": 4, "temperature": t, "seed": i, "logprobs": 1}).text.split('"choices"')[1].split('"usage"')[0]
             for i, t in enumerate((0, 1e-10, 1e-38, 5e-324, 1e-45))}
    assert len(texts) == 1 and "null" not in texts.pop().split('"tokens"')[1]


def test_C14_top_k_and_min_p(hostile):
    for k in (-1, 0, 10**9, VOCAB):
        assert send(hostile, COMPLETIONS, {"top_k": k, "temperature": 1}).status_code == 200
    for k in (-2, 2**31, 1.5, "5"):
        check_error(send(hostile, COMPLETIONS, {"top_k": k}), 400, param="top_k")
    for field, values in (("min_p", (2, -0.1)), ("top_p", (0, -1, 1.01)), ("temperature", (-0.1, 2.1)), ("presence_penalty", (2.1, -2.1)),
                          ("frequency_penalty", (9, -9)), ("repetition_penalty", (0, -1, 1e9)), ("min_tokens", (-1, 2)), ("truncate_prompt_tokens", (0, -2))):
        for v in values:
            check_error(send(hostile, COMPLETIONS, {field: v}), 400, "invalid_value", field)


def test_C16_many_answers(hostile):
    check_error(send(hostile, COMPLETIONS, {"n": 129}), 400, "invalid_value", "n")
    check_error(send(hostile, COMPLETIONS, {"n": 128, "prompt": ["a"] * 20}), 400, "invalid_value", "n")
    check_error(send(hostile, COMPLETIONS, {"n": 128, "prompt": [1] * (CONTEXT - 1)}), 400)
    check_error(send(hostile, COMPLETIONS, {"n": 3, "best_of": 2}), 400, "invalid_value", "best_of")
    check_error(send(hostile, COMPLETIONS, {"n": 1, "best_of": 2, "stream": True}), 400, None, "best_of")
    check_error(send(hostile, COMPLETIONS, {"best_of": 2}), 400, "unsupported_parameter", "best_of")
    assert send(hostile, COMPLETIONS, {"best_of": 1, "stream": True}).text.endswith("data: [DONE]\n\n")
    check_error(send(hostile, COMPLETIONS, {"prompt": ["a"] * 5000}), 400, None, "prompt")
    many = send(hostile, COMPLETIONS, {"n": 100, "temperature": 1})
    assert many.status_code == 200 and len(many.json()["choices"]) == 100


BIASES = [{"-1": 1}, {str(VOCAB): 1}, {"AI": 1}, {"1e9": 1}, {"1.0": 1}, {" 1": 1}, {"": 1}, {"5": 101}, {"5": -100.5}, {"5": "1"}, {"5": None}, {"5": []},
          {"5": True}, {"99999999999999999999": 1}, {str(i): 1 for i in range(40_000)}, [], [[1, 2]], "x", 5]


@both
@pytest.mark.parametrize("bias", BIASES, ids=lambda b: str(b)[:24])
def test_C18_logit_bias(hostile, path, bias):
    e = check_error(send(hostile, path, {"logit_bias": bias}), 400)
    assert e["param"].startswith("logit_bias") if bias != [] else True


def test_C18_logit_bias_infinite_or_endless(hostile):
    check_error(send(hostile, COMPLETIONS, valid_with(COMPLETIONS, '"logit_bias": {"5": 1e999}')), 400, "invalid_value", "logit_bias")
    check_error(send(hostile, COMPLETIONS, {"logit_bias": {str(i): 1 for i in range(300_000)}}), 400, None, "logit_bias")
    assert send(hostile, COMPLETIONS, {"logit_bias": {str(i): 0.5 for i in range(300)}}).status_code == 200


def test_C20_logprobs(hostile):
    for v in (21, -1, 10**6, 2**40):
        check_error(send(hostile, CHAT, {"logprobs": True, "top_logprobs": v}), 400, "invalid_value", "top_logprobs")
    check_error(send(hostile, CHAT, {"top_logprobs": 3}), 400, "invalid_value", "top_logprobs")
    check_error(send(hostile, CHAT, {"logprobs": False, "top_logprobs": 3}), 400, "invalid_value", "top_logprobs")
    check_error(send(hostile, CHAT, {"logprobs": 3}), 400, "invalid_type", "logprobs")
    for v in (21, -1, 10**6):
        check_error(send(hostile, COMPLETIONS, {"logprobs": v}), 400, "invalid_value", "logprobs")
    check_error(send(hostile, COMPLETIONS, {"logprobs": True}), 400, "invalid_type", "logprobs")
    assert len(send(hostile, CHAT, {"logprobs": True, "top_logprobs": 20}).json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 20
    assert len(send(hostile, COMPLETIONS, {"logprobs": 20}).json()["choices"][0]["logprobs"]["top_logprobs"][0]) in (20, 21)  # and the token itself


@both
@pytest.mark.parametrize("field,value", [("stop", []), ("stop", list("abcde")), ("stop", ""), ("stop", [""]), ("stop", ["a", ""]), ("stop", "s" * (1 << 20)),
                                         ("stop", ["a", None]), ("stop", [1]), ("stop", [["a"]]), ("stop", "s" * 257), ("stop_token_ids", [VOCAB]), ("stop_token_ids", [-1]),
                                         ("stop_token_ids", [1] * 10_000), ("stop_token_ids", ["1"]), ("stop_token_ids", [1.5]), ("stop_token_ids", [2**40]),
                                         ("allowed_token_ids", [VOCAB]), ("allowed_token_ids", [-1]), ("allowed_token_ids", [[1]])], ids=lambda v: str(v)[:20])
def test_C22_stops(hostile, path, field, value):
    e = check_error(send(hostile, path, {field: value}), 400)
    assert e["param"].split("[")[0] == field


def test_C22_the_longest_stop_passes(hostile):
    assert send(hostile, COMPLETIONS, {"stop": ["s" * 256] * 4}).status_code == 200


@both
def test_C24_stream_is_a_boolean(hostile, path):
    check_error(send(hostile, path, {"stream": "true"}), 400, "invalid_type", "stream")
    check_error(send(hostile, path, {"stream_options": {"include_usage": True}}), 400, "invalid_value", "stream_options")
    check_error(send(hostile, path, {"stream": False, "stream_options": {"include_usage": True}}), 400, "invalid_value", "stream_options")
    check_error(send(hostile, path, {"stream": True, "stream_options": {"include_usage": "yes"}}), 400, "invalid_type", "stream_options.include_usage")


@pytest.mark.parametrize("route", ["fast", "", "1" * (LAYERS - 1), "1" * (LAYERS + 1), "2" * LAYERS, [1] * (LAYERS - 1), [2] * LAYERS, [0.5] * LAYERS, ["1"] * LAYERS,
                                   [[1] * LAYERS], 1, True, {"min_full_layers": LAYERS + 1}, {}, {"min_full_layers": -1}, {"min_full_layers": 2.5}, {"full": 3}, "FULL", "1" * 10**6, [1] * 10**5], ids=lambda v: str(v)[:24])
def test_routes_that_are_none(hostile, route):
    e = check_error(send(hostile, COMPLETIONS, {"route": route}), 400)
    assert e["param"].split("[")[0] == "route"


@pytest.mark.parametrize("prompt", [[-1], [VOCAB], [2**31], [2**63], [1, "a"], ["a", 1], [[1], "a"], [["a"]], [[[1]]], [1.5], [None], [[]], [[1], []], [True], "", [""]],
                         ids=str)
def test_prompts_that_are_none(hostile, prompt):
    e = check_error(send(hostile, COMPLETIONS, {"prompt": prompt}), 400)
    assert e["param"].split("[")[0] == "prompt"


@both
def test_what_is_not_supported_is_refused(hostile, path):
    assert send(hostile, path, {"response_format": {"type": "text"}}).status_code == 200
    more = (("suffix", "x"),) if path == COMPLETIONS else (("functions", [{"name": "f"}]), ("function_call", {"name": "f"}), ("chat_template", "x"))
    for field, value in more:
        check_error(send(hostile, path, {field: value}), 400, "unsupported_parameter", field)


@both
def test_another_model_is_not_found(hostile, path):
    for name in ("gpt-4", "x" * 200, "é" * 2000, "../../etc/passwd", "%s%n", "日本"):
        check_error(send(hostile, path, {"model": name}), 404, "model_not_found", "model")
    r = hostile.get("/v1/models/" + "%25s%25n")
    check_error(r, 404, "model_not_found")


def test_C34_request_ids_are_the_servers_own(hostile):
    """A plain name comes back beside the server's; what could be anything else is not taken."""
    seen = set()
    for given in ("mine", "x" * 10_000, "a,b", "'", "é"):
        r = hostile.post(COMPLETIONS, VALID[COMPLETIONS], headers={"X-Request-Id": given.encode("latin-1")})
        own = r.headers["x-fluxd-request-id" if given == "mine" else "x-request-id"]
        assert r.status_code == 200 and given not in own and (given != "mine" or r.headers["x-request-id"] == given)
        seen |= {own, r.json()["id"]}
    assert len(seen) == 10
    for own in ("a\r\nX-Evil: 1", "a b", "x" * 250, '"', "<"):
        r = send(hostile, COMPLETIONS, {"request_id": own})
        assert r.status_code == 200 and own not in r.json()["id"] and "X-Evil" not in r.headers
    assert "mine-1" in send(hostile, COMPLETIONS, {"request_id": "mine-1"}).json()["id"]
    assert not [line for line in hostile.logged().splitlines() if line.startswith("X-Evil")]


# --- D, E: text and streams

def test_D02_a_long_word_is_tokenized_in_linear_time(server, hostile):
    for text in ("a" * 40_000, "日" * 13_000, '{"k":[' * 6000, "\U0001f600" * 10_000, " " * 40_000, "\n" * 40_000, "0" * 40_000):
        assert_linear(server.proc, lambda times: server.post("/tokenize", {"prompt": text[:len(text) // 8 * times]}).json(), text[:4])
        ids = server.post("/tokenize", {"prompt": text}).json()["tokens"]
        assert hostile.post("/tokenize", {"prompt": text}).json()["tokens"] == ids
        assert hostile.post("/detokenize", {"tokens": ids}).json()["prompt"] == text


def test_refusals_are_no_streams(hostile):
    """Errors known before the first byte have their own status, also for streams."""
    r = send(hostile, COMPLETIONS, {"stream": True, "n": 0})
    check_error(r, 400, "invalid_value", "n")
    r = send(hostile, CHAT, {"stream": True, "messages": []})
    check_error(r, 400, "invalid_value", "messages")


def test_a_full_queue_is_429_and_counts(make_server):
    s = make_server("--max-num-seqs", "1", "--queue-len", "3")
    with Stream(s, COMPLETIONS, prompt="Once", max_tokens=4000, ignore_eos=True) as first:
        next(iter(first))
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(s.post, COMPLETIONS, {"prompt": "a", "max_tokens": 2}) for _ in range(20)]
            s.wait_metric('fluxd_requests_rejected_total{reason="queue_full"}', 17)
            first.close()
            answers = [w.result() for w in waiting]
    assert sorted(a.status_code for a in answers) == [200] * 3 + [429] * 17
    for a in answers:
        if a.status_code == 429:
            check_error(a, 429, "queue_full")
            assert int(a.headers["Retry-After"]) >= 1


# --- A: the routes

def test_head_is_answered_where_get_is(hostile):
    import requests

    model = hostile.get("/v1/models").json()["data"][0]["id"]
    for path in ("/", "/health", "/ready", "/version", "/v1/limits", "/v1/models", f"/v1/models/{model}", "/v1/models/nope", "/tokenizer_info", "/metrics"):
        got, head = hostile.get(path), requests.head(hostile.url + path, timeout=30)
        assert head.status_code == got.status_code and head.content == b"" and head.headers["Content-Type"] == got.headers["Content-Type"]
        assert path == "/metrics" or head.headers["Content-Length"] == got.headers["Content-Length"]
    r = requests.head(hostile.url + COMPLETIONS, timeout=30)
    assert r.status_code == 405 and r.headers["Allow"] == "POST"


def test_headers_up_to_the_settings_bound_are_read(make_server):
    s = make_server("--max-header-bytes", "64K")
    assert s.get("/version", headers={"X-Long": "a" * 65_000}).status_code == 200
    check_error(s.get("/version", headers={"X-Long": "a" * 66_000}), 431, "headers_too_large")


# --- I: keys

KEY = "sk-right-key-1"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"{KEY}\nsk-second\n")
    path.chmod(0o600)
    s = Server("--api-key-file", str(path), env={"FLUXD_API_KEY": "sk-third"})
    try:
        yield s
        assert s.stop() == 0
    finally:
        s.kill()


def test_metrics_may_be_open_where_all_else_asks_for_a_key(make_server, tmp_path):
    import requests

    path = tmp_path / "keys"
    path.write_text(f"{KEY}\n")
    path.chmod(0o600)
    s = make_server("--api-key-file", str(path), "--metrics-open", "on")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {KEY}"}):
        assert s.get("/metrics", headers=headers).status_code == 200
    for method, path in GUARDED:
        if path != "/metrics":
            check_error(requests.request(method, s.url + path, json={} if method == "POST" else None), 401, "invalid_api_key")


@pytest.mark.parametrize("text, line", [(" sk-a \n\t\n\r\n# comment\n  # another\n\tsk-b\t \r\nsk-c", 0), ("sk-a\nsk b\n", 2), ("# x\n\n sk-\u00e9\n", 3), ("sk-a\r\n sk\tb", 2)])
def test_a_key_file_is_read_by_lines_and_a_wrong_line_is_named(tmp_path, text, line):
    path = tmp_path / "keys"
    path.write_bytes(text.encode())
    path.chmod(0o600)
    if line:
        s = Server("--api-key-file", str(path), wait=False)
        assert s.proc.wait(60) == 2
        assert f"{path}, line {line}:" in s.logged() and "sk" not in s.logged().replace(str(path), ""), "the key itself is not told"
        return
    s = Server("--api-key-file", str(path))
    try:
        for key in ("sk-a", "sk-b", "sk-c"):
            assert s.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert s.get("/v1/models", headers={"Authorization": "Bearer #"}).status_code == 401
        assert s.stop() == 0
    finally:
        s.kill()


GUARDED = [("POST", COMPLETIONS), ("POST", CHAT), ("POST", "/tokenize"), ("POST", "/detokenize"), ("GET", "/v1/models"), ("GET", "/v1/models/x"), ("GET", "/metrics"),
           ("GET", "/version"), ("GET", "/v1/limits"), ("GET", "/tokenizer_info")]


def test_I02_every_route_asks_for_a_key(keyed):
    import requests

    for method, path in GUARDED:
        for header in (None, "Bearer", "Bearer ", "Bearer wrong", f"Bearer  {KEY}", f"Basic {KEY}", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", "Bearer " + "k" * 15_000,
                       b"Bearer \xff\xfe", f"Bearer {KEY}, Bearer {KEY}"):
            r = requests.request(method, keyed.url + path, headers={"Authorization": header} if header else {}, json={} if method == "POST" else None)
            check_error(r, 401, "invalid_api_key")
    for key in (KEY, "sk-second", "sk-third"):
        assert keyed.get("/v1/models", headers={"Authorization": f"bearer {key}"}).status_code == 200
    for path in ("/health", "/ready", "/"):
        assert keyed.get(path).status_code == 200
    assert KEY not in keyed.logged()


@pytest.mark.parametrize("path", ["/v1/models%00", "/v1/models%zz", "//v1/models", "/health/../v1/models", "/v1/models/", "/v1/model%73", "/metrics/", "/METRICS",
                                  "/health%2f..%2fmetrics", "/metrics?x=/health", "/health;/metrics", "/nope"])
def test_I04_no_path_trick_passes(keyed, path):
    with socket.create_connection(("127.0.0.1", keyed.port)) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert s.makefile("rb").readline().split()[1] in (b"401", b"404")
