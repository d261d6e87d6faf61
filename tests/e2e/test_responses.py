"""POST /v1/responses by openai's own client, and the rules of the Open Responses specification: shapes, order of events, states, the store."""
import concurrent.futures
import http.client
import json

import openai
import pytest
import requests

from conftest import Stream, check_error, wait_until

pytestmark = pytest.mark.real_model

PATH = "/v1/responses"
THINKER = [m for w in ("red", "blue", "green", "black") for m in (
    {"role": "user", "content": f"Say {w}"}, {"role": "assistant", "content": f"<think>\nI say {w}.\n</think>\n\n{w}"})] + [{"role": "user", "content": "Say white"}]
REQUIRED = {"id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id", "instructions", "output", "error", "tools",
            "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p", "presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning",
            "user", "usage", "max_output_tokens", "max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier", "prompt_cache_key"}


def message(role, text):
    return {"type": "message", "role": role, "content": text}


def post(server, **body):
    return server.post(PATH, {"max_output_tokens": 16, "temperature": 0, **body})


def ask(server, **body):
    r = post(server, **body)
    assert r.status_code == 200, r.text
    return r.json()


def text_of(response):
    return "".join(p["text"] for i in response["output"] if i["type"] == "message" for p in i["content"])


def chat(server, messages, **fields):
    r = server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 16, "temperature": 0, **fields})
    assert r.status_code == 200, r.text
    return r.json()["choices"][0]["message"]


def events(server, **body):
    """The events of a stream; each is checked for what all have."""
    r = post(server, stream=True, **body)
    assert r.status_code == 200 and r.headers["Content-Type"].startswith("text/event-stream")
    frames = [f for f in r.text.split("\n\n") if f and not f.startswith(":")]
    assert frames.pop() == "data: [DONE]"
    out = []
    for frame in frames:
        name, data = frame.split("\n")
        out.append(json.loads(data.removeprefix("data: ")))
        assert name == "event: " + out[-1]["type"] and out[-1]["sequence_number"] == len(out) - 1
    return out


def check_response(r, status="completed"):
    """The specification's response object."""
    assert REQUIRED <= set(r), REQUIRED - set(r)
    assert r["object"] == "response" and r["id"].startswith("resp_") and r["status"] == status
    assert (r["completed_at"] is not None) == (status == "completed") and (r["error"] is not None) == (status == "failed")
    for item in r["output"]:
        assert item["id"] and item["status"] in ("in_progress", "completed", "incomplete")
        if item["type"] == "message":
            assert item["role"] == "assistant" and all(p["type"] == "output_text" and p["annotations"] == [] for p in item["content"])
        elif item["type"] == "reasoning":
            assert item["summary"] == [] and all(p["type"] == "reasoning_text" for p in item["content"])
    assert [i["status"] for i in r["output"][:-1]] == ["completed"] * (len(r["output"]) - 1)
    if r["usage"]:
        u = r["usage"]
        assert u["total_tokens"] == u["input_tokens"] + u["output_tokens"] and u["input_tokens_details"]["cached_tokens"] <= u["input_tokens"]
        assert u["output_tokens_details"]["reasoning_tokens"] <= u["output_tokens"]
    return r


def check_order(got):
    """The life of a response and of each item in it, and that what is told piece by piece is what is told at the end."""
    kinds = [e["type"] for e in got]
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] in ("response.completed", "response.incomplete", "response.failed")
    for e in got[:2]:
        check_response(e["response"], "in_progress")
        assert e["response"]["output"] == [] and e["response"]["usage"] is None
    final = got[-1]["response"]
    at = 2
    for index, item in enumerate(final["output"]):
        thought = item["type"] == "reasoning"
        word = "response.reasoning_text" if thought else "response.output_text"
        added = got[at]
        assert added["type"] == "response.output_item.added" and added["output_index"] == index and added["item"]["status"] == "in_progress"
        assert added["item"]["id"] == item["id"] and added["item"]["content"] == []
        assert got[at + 1]["type"] == "response.content_part.added" and got[at + 1]["part"]["text"] == ""
        at += 2
        told = ""
        while got[at]["type"] == word + ".delta":
            told += got[at]["delta"]
            assert got[at]["delta"] and got[at]["item_id"] == item["id"] and (got[at]["output_index"], got[at]["content_index"]) == (index, 0)
            at += 1
        done, part, closed = got[at:at + 3]
        assert [done["type"], part["type"], closed["type"]] == [word + ".done", "response.content_part.done", "response.output_item.done"]
        assert told == done["text"] == part["part"]["text"] == item["content"][0]["text"] and closed["item"] == item
        assert done["item_id"] == part["item_id"] == item["id"] and closed["output_index"] == index
        at += 3
    assert at == len(got) - 1
    return final


@pytest.fixture
def client(server):
    return server.client()


@pytest.fixture
def model(server):
    return server.get("/v1/models").json()["data"][0]["id"]


# --- answers

def test_an_answer_is_the_chats(server, client, model):
    r = client.responses.create(model=model, input="What is the capital of France?", temperature=0, max_output_tokens=16)
    assert r.output_text == chat(server, [{"role": "user", "content": "What is the capital of France?"}])["content"] and "Paris" in r.output_text
    assert r.status == "completed" and r.model == model and r.usage.output_tokens > 0 and [i.type for i in r.output] == ["message"]
    assert set(r.usage.attention_route) >= {"mask", "full_layers", "kv_bytes"}
    raw = check_response(ask(server, input="What is the capital of France?"))
    assert text_of(raw) == r.output_text


def test_the_clients_stream_is_the_answer(server, client, model):
    fields = dict(model=model, input="What is the capital of France?", temperature=0, max_output_tokens=24)
    whole = client.responses.create(**fields)
    with client.responses.stream(**fields) as s:
        deltas = "".join(e.delta for e in s if e.type == "response.output_text.delta")
        final = s.get_final_response()
    assert deltas == whole.output_text == final.output_text and final.status == whole.status
    assert final.usage.output_tokens == whole.usage.output_tokens


@pytest.mark.parametrize("body,status", [(dict(input="What is the capital of France?"), "completed"), (dict(input="Tell me a story.", max_output_tokens=5), "incomplete"),
                                         (dict(input=THINKER, max_output_tokens=30), "completed"), (dict(input=THINKER, max_output_tokens=3), "incomplete")])
def test_events_come_in_order_and_add_up(server, body, status):
    got = events(server, **body)
    final = check_response(check_order(got), status)
    assert got[-1]["type"] == "response." + status
    whole = check_response(ask(server, **body), status)
    strip = lambda r: [{k: v for k, v in i.items() if k != "id"} for i in r["output"]]  # noqa: E731
    assert strip(final) == strip(whole) and final["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert final["incomplete_details"] == whole["incomplete_details"] == ({"reason": "max_output_tokens"} if status == "incomplete" else None)
    assert final["output"][-1]["status"] == ("incomplete" if status == "incomplete" else "completed")


def test_what_is_reasoned_is_an_item_of_its_own(server):
    r = ask(server, input=THINKER, max_output_tokens=30)
    assert [i["type"] for i in r["output"]] == ["reasoning", "message"]
    assert r["output"][0]["content"][0]["text"] == "I say white.\n" and text_of(r) == "white"
    assert 0 < r["usage"]["output_tokens_details"]["reasoning_tokens"] < r["usage"]["output_tokens"]


def test_what_was_asked_is_said_again(server):
    asked = dict(instructions="Be kind.", metadata={"a": "b"}, user="u", safety_identifier="s", prompt_cache_key="k", temperature=0.5, top_p=0.25, presence_penalty=0.5,
                 frequency_penalty=-0.5, max_output_tokens=7, max_tool_calls=3, parallel_tool_calls=False, store=False, reasoning={"effort": "low"},
                 text={"format": {"type": "text"}})
    r = ask(server, input="Hi", **asked)
    assert {k: r[k] for k in asked} == asked
    r = ask(server, input="Hi", temperature=None)
    assert r["temperature"] == 1 and r["store"] is True and r["tools"] == [] and r["tool_choice"] == "auto" and r["truncation"] == "disabled" and r["metadata"] == {}


def test_log_probabilities_are_the_chats(server):
    c = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0, "logprobs": True, "top_logprobs": 2}).json()
    want = c["choices"][0]["logprobs"]["content"]
    fields = dict(input="Hi", max_output_tokens=4, top_logprobs=2)
    assert ask(server, **fields)["output"][0]["content"][0]["logprobs"] == want
    assert ask(server, input="Hi", max_output_tokens=4, include=["message.output_text.logprobs"])["output"][0]["content"][0]["logprobs"][0]["top_logprobs"] == []
    got = events(server, **fields)
    assert [t for e in got if e["type"] == "response.output_text.delta" for t in e["logprobs"]] == want
    assert [e["logprobs"] for e in got if e["type"] == "response.output_text.done"] == [want]
    assert ask(server, input="Hi")["output"][0]["content"][0]["logprobs"] == []


def test_the_route_and_a_clamped_length_are_carried(server):
    r = ask(server, input="Say hello.", route="sparse", max_output_tokens=10**6)
    assert r["usage"]["attention_route"]["mask"] == "0" * 30 and r["usage"]["clamped_max_tokens"] == 8192 - r["usage"]["input_tokens"]


# --- input

def test_items_are_the_chats_messages(server):
    items = [message("system", "Be short."), message("user", [{"type": "input_text", "text": "My name is"}, {"type": "input_text", "text": "Alice."}]),
             message("assistant", [{"type": "output_text", "text": "Hello Alice!"}]), {"role": "user", "content": "What is my name?"}]
    same = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "My name is\nAlice."}, {"role": "assistant", "content": "Hello Alice!"},
            {"role": "user", "content": "What is my name?"}]
    assert text_of(ask(server, input=items)) == chat(server, same)["content"]
    assert text_of(ask(server, input=items[1:], instructions="Be short.")) == chat(server, same)["content"]


def test_calls_and_thoughts_of_one_answer_become_one_message(server):
    count = lambda **b: server.post(PATH + "/input_tokens", b).json()["input_tokens"]  # noqa: E731
    user = message("user", "How is Rome?")
    call = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{\"city\": \"Rome\"}"}
    custom = {"type": "custom_tool_call", "call_id": "c2", "name": "shell", "input": "ls"}
    out = [{"type": "function_call_output", "call_id": "c1", "output": "sunny"}, {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "a b"}]}]
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    got = count(input=[user, thought, message("assistant", "I look."), call, custom, *out, message("user", "So?")])
    calls = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}},
             {"id": "c2", "type": "function", "function": {"name": "shell", "arguments": {"input": "ls"}}}]
    same = [{"role": "user", "content": "How is Rome?"}, {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"}, {"role": "tool", "tool_call_id": "c2", "content": "a b"}, {"role": "user", "content": "So?"}]
    assert got == server.post("/v1/chat/completions/render", {"messages": same}).json()["prompt_tokens"]


def test_tokens_are_counted_without_an_answer(server, client, model):
    r = client.responses.input_tokens.count(model=model, input="Hello there", instructions="Be kind.")
    assert r.object == "response.input_tokens" and r.input_tokens == ask(server, input="Hello there", instructions="Be kind.")["usage"]["input_tokens"]


REFUSED = [
    ({"input": None}, "missing_required_parameter", "input"), ({"input": 5}, "invalid_type", "input"), ({"input": []}, "missing_required_parameter", "input"),
    ({"input": [5]}, "invalid_type", "input"), ({"input": [{"type": "message", "content": "x"}]}, "missing_required_parameter", "input[0].role"),
    ({"input": [{}]}, "missing_required_parameter", "input[0].type"), ({"input": [message("king", "x")]}, "invalid_value", "input[0].role"),
    ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"), ({"input": [{"type": "computer_call"}]}, "unsupported_parameter", "input[0].type"),
    ({"input": [message("user", [{"type": "input_image", "image_url": "http://127.0.0.1:1/x.png"}])]}, "unsupported_parameter", "input[0].content[0].type"),
    ({"input": [message("user", [{"type": "input_text"}])]}, "missing_required_parameter", "input[0].content[0].text"),
    ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "missing_required_parameter", "input[0].arguments"),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "invalid_value", "input[0].call_id"),
    ({"background": True}, "unsupported_parameter", "background"), ({"conversation": "conv_1"}, "unsupported_parameter", "conversation"),
    ({"previous_response_id": "resp_none"}, "previous_response_not_found", "previous_response_id"), ({"include": ["all"]}, "invalid_value", "include"),
    ({"truncation": "always"}, "invalid_value", "truncation"), ({"max_output_tokens": 0}, "invalid_value", "max_output_tokens"),
    ({"max_tokens": 5}, "unsupported_parameter", "max_tokens"), ({"reasoning": {"effort": "endless"}}, "invalid_value", "reasoning.effort"),
    ({"text": {"format": {"type": "xml"}}}, "invalid_value", "text.format.type"), ({"text": {"verbosity": "none"}}, "invalid_value", "text.verbosity"),
    ({"top_logprobs": 21}, "invalid_value", "top_logprobs"), ({"input": "x " * 9000}, "context_length_exceeded", "input"), ({"store": "yes"}, "invalid_type", "store"),
]


@pytest.mark.parametrize("fields,code,param", REFUSED, ids=[f"{i}-{r[2]}" for i, r in enumerate(REFUSED)])
def test_refusals_name_the_field(server, fields, code, param):
    check_error(post(server, **{"input": "Hi", **fields}), 400, code, param)


def test_fields_of_coding_agents_are_taken(server):
    r = ask(server, input="Hi", include=["reasoning.encrypted_content"], tools=[], tool_choice="auto", parallel_tool_calls=True, store=False, prompt_cache_key="x",
            reasoning={"effort": "medium", "summary": "auto"}, text={"verbosity": "low"}, service_tier="auto", client_metadata={"a": "b"}, background=False)
    assert text_of(r) == text_of(ask(server, input="Hi"))


# --- the store

def test_a_conversation_goes_on_by_its_id(server, client, model):
    one = client.responses.create(model=model, input="My name is Alice.", temperature=0, max_output_tokens=16, instructions="Be short.")
    two = client.responses.create(model=model, input="What is my name?", temperature=0, max_output_tokens=16, previous_response_id=one.id)
    same = [{"role": "user", "content": "My name is Alice."}, {"role": "assistant", "content": one.output_text}, {"role": "user", "content": "What is my name?"}]
    assert two.output_text == chat(server, same)["content"] and two.previous_response_id == one.id  # instructions are not carried on
    three = client.responses.create(model=model, input=[message("user", "Sure?")], temperature=0, max_output_tokens=16, previous_response_id=two.id)
    assert three.output_text == chat(server, [*same, {"role": "assistant", "content": two.output_text}, {"role": "user", "content": "Sure?"}])["content"]
    assert three.usage.input_tokens_details.cached_tokens >= 0
    client.responses.delete(one.id)  # what goes on from it has its own hold
    again = client.responses.create(model=model, input=[message("user", "Sure?")], temperature=0, max_output_tokens=16, previous_response_id=two.id)
    assert again.output_text == three.output_text


def test_a_stored_response_is_found_and_deleted(server, client):
    told = ask(server, input="Hi", metadata={"k": "v"})
    assert server.get(f"{PATH}/{told['id']}").json() == told
    streamed = events(server, input="Hi")[-1]["response"]
    assert server.get(f"{PATH}/{streamed['id']}").json() == streamed
    assert client.responses.retrieve(told["id"]).output_text == text_of(told)
    r = requests.delete(f"{server.url}{PATH}/{told['id']}")
    assert r.json() == {"id": told["id"], "object": "response", "deleted": True}
    for r in (server.get(f"{PATH}/{told['id']}"), requests.delete(f"{server.url}{PATH}/{told['id']}"), server.post(f"{PATH}/{told['id']}/cancel"), server.get(PATH + "/resp_x")):
        check_error(r, 404, "response_not_found")
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(told["id"])
    check_error(post(server, input="x", previous_response_id=told["id"]), 400, "previous_response_not_found", "previous_response_id")
    unstored = ask(server, input="Hi", store=False)
    assert unstored["store"] is False
    check_error(server.get(f"{PATH}/{unstored['id']}"), 404, "response_not_found")
    check_error(server.post(f"{PATH}/{streamed['id']}/cancel"), 400, "invalid_request")
    check_error(server.post(f"{PATH}/{streamed['id']}/run"), 405, "method_not_allowed")
    check_error(requests.put(f"{server.url}{PATH}/x"), 405, "method_not_allowed")


@pytest.mark.parametrize("stream", [True, False])
def test_a_running_response_is_cancelled_by_another_connection(server, stream):
    """Found while it runs; ended as cancelled, with what there was; stored so."""
    body = dict(input="Tell me a long story.", max_output_tokens=4000, ignore_eos=True, temperature=0, user="cancel me")
    if stream:
        with Stream(server, PATH, **body) as s:
            raw = iter(lambda: s.open().read1(1 << 16), b"")
            seen = b""
            while b"output_text.delta" not in seen:
                seen += next(raw)
            rid = json.loads(seen.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
            assert server.get(f"{PATH}/{rid}").json()["status"] == "in_progress"
            now = server.post(f"{PATH}/{rid}/cancel")
            assert now.status_code == 200 and now.json()["status"] == "cancelled" and now.json()["id"] == rid
            seen += b"".join(raw)
        frames = [f for f in seen.decode().split("\n\n") if f and not f.startswith(":")]
        assert frames[-1] == "data: [DONE]"
        final = json.loads(frames[-2].split("data: ")[1])
        assert final["type"] == "response.incomplete"
        final = final["response"]
    else:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.post, PATH, {**body, "store": True})
            server.wait_metric("fluxd_requests_running", 1)
            first = ask(server, input="Hi", max_output_tokens=1)["id"]  # ids count up: one of those before it runs
            near = [f"{first[:-8]}{int(first[-8:], 16) - n:08x}" for n in range(1, 400)]
            rid = next(i for i in near if server.get(f"{PATH}/{i}").json().get("status") == "in_progress")
            assert server.post(f"{PATH}/{rid}/cancel").json()["status"] == "cancelled"
            final = answer.result().json()
    check_response(final, "cancelled")
    assert final["id"] == rid and final["usage"]["output_tokens"] < 4000 and final["output"][-1]["status"] == "incomplete"
    assert server.get(f"{PATH}/{rid}").json() == final
    check_error(server.post(f"{PATH}/{rid}/cancel"), 400, "invalid_request")
    server.wait_free()


def test_a_deleted_running_response_is_not_stored(server):
    with Stream(server, PATH, input="Tell me a long story.", max_output_tokens=4000, ignore_eos=True) as s:
        first = s.open().read1(1 << 16)
        rid = json.loads(first.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
        assert requests.delete(f"{server.url}{PATH}/{rid}").json()["deleted"] is True
        rest = b"".join(iter(lambda: s.open().read1(1 << 16), b""))
        assert rest.endswith(b"data: [DONE]\n\n")
    check_error(server.get(f"{PATH}/{rid}"), 404, "response_not_found")
    server.wait_free()


def test_a_client_that_leaves_ends_the_generation_and_nothing_is_stored(server):
    with Stream(server, PATH, input="Tell me a long story.", max_output_tokens=4000, ignore_eos=True) as s:
        rid = json.loads(s.open().read1(1 << 16).split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
    server.wait_free()
    wait_until(lambda: server.get(f"{PATH}/{rid}").status_code == 404)


def test_keys_part_the_store_and_its_bytes_are_bounded(make_server, tmp_path):
    (tmp_path / "keys").write_text("sk-one\nsk-two\n")
    s = make_server("--api-key-file", tmp_path / "keys", "--response-store-bytes", "16K")
    auth = [{"Authorization": f"Bearer sk-{k}"} for k in ("one", "two")]
    told = s.post(PATH, {"input": "Hi", "max_output_tokens": 2}, headers=auth[0]).json()
    assert s.get(f"{PATH}/{told['id']}", headers={"x-api-key": "sk-one"}).json() == told
    for call in (lambda h: s.get(f"{PATH}/{told['id']}", headers=h), lambda h: requests.delete(f"{s.url}{PATH}/{told['id']}", headers=h),
                 lambda h: s.post(f"{PATH}/{told['id']}/cancel", headers=h)):
        check_error(call(auth[1]), 404, "response_not_found")
        check_error(call({}), 401, "invalid_api_key")
    check_error(s.post(PATH, {"input": "x", "previous_response_id": told["id"]}, headers=auth[1]), 400, "previous_response_not_found")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # nor may another key end what runs
        c = http.client.HTTPConnection("127.0.0.1", s.port)
        c.request("POST", PATH, json.dumps({"input": "Hi", "stream": True, "max_output_tokens": 2000, "ignore_eos": True}), {"Content-Type": "application/json", **auth[0]})
        stream = pool.submit(c.getresponse).result()
        rid = json.loads(stream.read1(1 << 16).split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
        check_error(s.post(f"{PATH}/{rid}/cancel", headers=auth[1]), 404, "response_not_found")
        assert s.post(f"{PATH}/{rid}/cancel", headers=auth[0]).json()["status"] == "cancelled"
        c.close()
    for _ in range(12):
        last = s.post(PATH, {"input": "x" * 900, "max_output_tokens": 1}, headers=auth[0]).json()["id"]
    check_error(s.get(f"{PATH}/{told['id']}", headers=auth[0]), 404, "response_not_found")
    assert s.get(f"{PATH}/{last}", headers=auth[0]).status_code == 200
    big = s.post(PATH, {"input": "Hi", "metadata": {"a": "x" * 20000}, "max_output_tokens": 1}, headers=auth[0]).json()
    assert big["object"] == "response"
    check_error(s.get(f"{PATH}/{big['id']}", headers=auth[0]), 404, "response_not_found")


@pytest.mark.parametrize("method,path,allow", [("GET", "/input_tokens", "POST"), ("DELETE", "/input_tokens", "POST"), ("PUT", "/input_tokens", "POST"),
                                               ("GET", "/x/cancel", "POST"), ("DELETE", "/x/cancel", "POST"), ("POST", "/x", "GET, HEAD, DELETE"), ("GET", "", "POST")])
def test_the_closest_path_says_what_it_takes(server, method, path, allow):
    r = requests.request(method, server.url + PATH + path)
    assert r.status_code == 405 and r.headers["Allow"] == allow, r.text
