"""POST /v1/messages and what stands beside it, by anthropic's own client: the same generation as a chat's, in another dialect."""
import json

import anthropic
import pytest
import requests

from conftest import Stream

pytestmark = pytest.mark.real_model

PATH = "/v1/messages"
THINKER = [m for w in ("red", "blue", "green", "black") for m in (
    {"role": "user", "content": f"Say {w}"}, {"role": "assistant", "content": f"<think>\nI say {w}.\n</think>\n\n{w}"})] + [{"role": "user", "content": "Say white"}]


def user(text):
    return [{"role": "user", "content": text}]


@pytest.fixture
def client(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120)


@pytest.fixture
def model(server):
    return server.get("/v1/models").json()["data"][0]["id"]


def ask(server, messages, **fields):
    r = server.post(PATH, {"messages": messages, "max_tokens": 16, "temperature": 0, **fields})
    assert r.status_code == 200, r.text
    return r.json()


def chat(server, messages, **fields):
    r = server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 16, "temperature": 0, **fields})
    assert r.status_code == 200, r.text
    return r.json()["choices"][0]


def events(server, **body):
    """(name, data) of each event; names and types must agree."""
    r = server.post(PATH, {"stream": True, "max_tokens": 16, "temperature": 0, **body})
    assert r.status_code == 200 and r.headers["Content-Type"].startswith("text/event-stream")
    out = []
    for frame in r.text.split("\n\n"):
        if not frame or frame.startswith(":"):
            continue
        name, data = frame.split("\n")
        assert name.startswith("event: ") and data.startswith("data: ")
        out.append((name[7:], json.loads(data[6:])))
        assert out[-1][1]["type"] == out[-1][0]
    return out


def test_an_answer_is_the_chats(server, client, model):
    m = client.messages.create(model=model, max_tokens=16, messages=user("What is the capital of France?"), extra_body={"temperature": 0})
    c = chat(server, user("What is the capital of France?"))
    assert [b.type for b in m.content] == ["text"] and m.content[0].text == c["message"]["content"] and "Paris" in m.content[0].text
    assert m.type == "message" and m.role == "assistant" and m.id.startswith("msg_") and m.model == model
    assert m.stop_reason == "end_turn" and m.stop_sequence is None and c["finish_reason"] == "stop"
    usage = m.usage
    counted = client.messages.count_tokens(model=model, messages=user("What is the capital of France?")).input_tokens
    assert usage.input_tokens + usage.cache_read_input_tokens == counted and usage.output_tokens > 0
    assert set(m.usage.attention_route) >= {"mask", "full_layers", "kv_bytes"}


def test_the_clients_stream_is_the_answer(server, client, model):
    ask = dict(model=model, max_tokens=24, messages=user("Name three colours."), extra_body={"temperature": 0})
    whole = client.messages.create(**ask)
    with client.messages.stream(**ask) as s:
        text = "".join(s.text_stream)
        final = s.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.stop_reason == whole.stop_reason and final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.input_tokens + final.usage.cache_read_input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens


def test_events_come_in_order(server):
    got = events(server, messages=user("Name three colours."))
    names = [n for n, _ in got]
    n = names.count("content_block_delta")
    assert n > 1
    assert names == ["message_start", "content_block_start", *["content_block_delta"] * n, "content_block_stop", "message_delta", "message_stop"]
    start = got[0][1]["message"]
    assert start["content"] == [] and start["stop_reason"] is None and start["usage"]["output_tokens"] == 1
    end = got[-2][1]
    assert end["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None} and end["usage"]["output_tokens"] == 16
    assert len(end["usage"]["attention_route"]["mask"]) == 30


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_reasoned_is_a_block_of_its_own(server, stream):
    fields = dict(messages=THINKER, max_tokens=30)
    if stream:
        got = events(server, **fields)
        kinds = [d["content_block"]["type"] for n, d in got if n == "content_block_start"]
        text = {"thinking": "", "text": "", "signature": ""}
        for _, d in got:
            for key in text:
                text[key] += d.get("delta", {}).get(key, "")
        usage = got[-2][1]["usage"]
    else:
        m = ask(server, **fields)
        kinds = [b["type"] for b in m["content"]]
        text = {"thinking": m["content"][0]["thinking"], "text": m["content"][1]["text"], "signature": m["content"][0]["signature"]}
        usage = m["usage"]
    assert kinds == ["thinking", "text"] and len(text.pop("signature")) == 16
    assert text == {"thinking": "I say white.\n", "text": "white"}
    assert 0 < usage["output_tokens_details"]["thinking_tokens"] < usage["output_tokens"]


def test_a_budget_ends_the_thought_and_the_answer_goes_on(server):
    """What is reasoned is as without the budget, up to where its tokens are used up."""
    free = chat(server, THINKER, max_tokens=40)["message"]
    assert free["reasoning_content"] == "I say white.\n" and free["content"] == "white"
    body = {"messages": THINKER, "max_tokens": 40, "temperature": 0}
    lengths, before = [], server.metrics()["fluxd_forced_tokens_total"]
    for budget in (0, 1, 4, 5, 6, 30):
        got = server.post("/v1/chat/completions", {**body, "thinking_token_budget": budget}).json()
        m, used = got["choices"][0]["message"], got["usage"]["completion_tokens_details"]["reasoning_tokens"]
        reason = m.get("reasoning_content") or ""
        assert free["reasoning_content"].startswith(reason.rstrip("\n")) and m["content"]
        assert used <= max(budget, 4) + 6, "the tokens of <think> and </think> count"
        lengths.append(len(reason.strip()))
        with Stream(server, "/v1/chat/completions", **body, thinking_token_budget=budget) as s:
            deltas = [c["choices"][0]["delta"] for _, c in s if c["choices"]]
        assert ["".join(d.get(k) or "" for d in deltas) for k in ("reasoning_content", "content")] == [reason, m["content"]]
    assert lengths == sorted(lengths) and lengths[0] == 0 and lengths[-1] == len("I say white.") and len(set(lengths)) > 2 and m == free
    assert server.metrics()["fluxd_forced_tokens_total"] > before
    held = chat(server, THINKER, max_tokens=40, thinking_token_budget=5)["message"]
    m = ask(server, THINKER, max_tokens=40, thinking={"type": "enabled", "budget_tokens": 5})
    assert m["content"][0]["thinking"] == held["reasoning_content"] and m["content"][1]["text"] == held["content"]


def test_a_stop_sequence_is_named(server):
    free = ask(server, user("Count from 1 to 9."), max_tokens=32)["content"][0]["text"]
    word = free.split()[2]
    m = ask(server, user("Count from 1 to 9."), max_tokens=32, stop_sequences=["never there", word])
    assert m["stop_reason"] == "stop_sequence" and m["stop_sequence"] == word and m["content"][0]["text"] == free[:free.index(word)]
    assert [d for n, d in events(server, messages=user("Count from 1 to 9."), max_tokens=32, stop_sequences=[word]) if n == "message_delta"][0]["delta"] == {
        "stop_reason": "stop_sequence", "stop_sequence": word}


def test_a_last_message_of_the_assistant_is_gone_on_with(server):
    m = [*user("What is the capital of France?"), {"role": "assistant", "content": "The capital of"}]
    assert ask(server, m)["content"][0]["text"] == chat(server, m, continue_final_message=True)["message"]["content"]


def test_blocks_are_one_text(server):
    blocks = [{"role": "user", "content": [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": "of France?", "cache_control": {"type": "ephemeral"}}]}]
    same = chat(server, user("What is the capital\nof France?"))
    assert ask(server, blocks, system=[{"type": "text", "text": "Be short."}])["content"][0]["text"] == chat(
        server, [{"role": "system", "content": "Be short."}, *user("What is the capital\nof France?")])["message"]["content"]
    assert ask(server, blocks)["content"][0]["text"] == same["message"]["content"]


def test_calls_and_results_in_the_history_reach_the_template(server):
    count = lambda m: server.post(PATH + "/count_tokens", {"messages": m}).json()["input_tokens"]  # noqa: E731
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "sunny and warm"}]}
    told = [*user("How is Rome?"), {"role": "assistant", "content": [{"type": "text", "text": "I look."}, use]}, {"role": "user", "content": [result, {"type": "text", "text": "So?"}]}]
    plain = [*user("How is Rome?"), {"role": "assistant", "content": "I look."}, {"role": "tool", "content": "sunny and warm"}, *user("So?")]
    as_chat = [{**plain[1], "tool_calls": [{"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}]}]
    body = {"messages": [plain[0], *as_chat, {**plain[2], "tool_call_id": "toolu_1"}, plain[3]]}
    assert count(told) == server.post("/v1/chat/completions/render", body).json()["prompt_tokens"]
    failed = json.loads(json.dumps(told))
    failed[2]["content"][0]["is_error"] = True
    assert count(failed) == count(told) + len(server.ids("Error:\n"))


def test_lines_that_change_with_every_request_stay_out_of_the_prompt(server):
    before = server.metrics()["fluxd_system_lines_dropped_total"]
    count = lambda s: server.post(PATH + "/count_tokens", {"messages": user("Hi"), "system": s}).json()["input_tokens"]  # noqa: E731
    line = "x-anthropic-billing-header: cc_version=2.1; cch={};"
    bare = count("Be kind.\nBe short.")
    assert count(line.format(1) + "\nBe kind.\nBe short.") == count(line.format("a0b1c2") + "\nBe kind.\nBe short.") == bare
    assert count([{"type": "text", "text": line.format(7)}, {"type": "text", "text": "Be kind.\nBe short."}]) == bare
    assert count("Be kind.\n" + line.format(1)) > count("Be kind.\n")  # not at the head: it is text
    asked = ask(server, user("Hi"), system=line.format(1) + "\n" + line.format(2) + "\nBe kind.\nBe short.")
    assert asked["usage"]["input_tokens"] + asked["usage"]["cache_read_input_tokens"] == bare
    assert server.metrics()["fluxd_system_lines_dropped_total"] == before + 2


def test_more_tokens_than_are_left_are_clamped_and_told(server):
    m = ask(server, user("Say hello."), max_tokens=10**6, stop_sequences=[" "])
    left = 8192 - m["usage"]["input_tokens"] - m["usage"]["cache_read_input_tokens"]
    assert m["usage"]["clamped_max_tokens"] == left
    assert "clamped_max_tokens" not in ask(server, user("Say hello."))["usage"]
    c = server.chat("Say hello.", max_tokens=10**6, stop=[" "])
    assert c["usage"]["clamped_max_tokens"] == 8192 - c["usage"]["prompt_tokens"]


def test_the_route_is_carried(server):
    for route, mask in (("sparse", "0" * 30), ("01" * 15, "01" * 15)):
        assert ask(server, user("Hi"), route=route)["usage"]["attention_route"]["mask"] == mask


def test_the_same_seed_is_the_chats_answer(server):
    fields = dict(temperature=1, seed=5, top_p=0.9, top_k=40)
    assert ask(server, user("Tell me a story."), **fields)["content"][0]["text"] == chat(server, user("Tell me a story."), **fields)["message"]["content"]


REFUSED = [
    ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens"), ({"max_tokens": 0}, 400, "invalid_request_error", "max_tokens"),
    ({"messages": []}, 400, "invalid_request_error", "messages"), ({"messages": [{"role": "tool", "content": "x"}]}, 400, "invalid_request_error", "messages[0].role"),
    ({"messages": [{"role": "user"}]}, 400, "invalid_request_error", "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, 400, "invalid_request_error", "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]}, 400, "invalid_request_error", "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 400, "invalid_request_error", "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}]}, 400, "invalid_request_error", "messages[0].content[0].tool_use_id"),
    ({"system": 5}, 400, "invalid_request_error", "system"), ({"system": [{"type": "image"}]}, 400, "invalid_request_error", "system[0].type"),
    ({"stop": ["x"]}, 400, "invalid_request_error", "stop"), ({"thinking": {"type": "often"}}, 400, "invalid_request_error", "thinking.type"),
    ({"thinking": {"type": "enabled", "budget_tokens": 99}}, 400, "invalid_request_error", "thinking.budget_tokens"),
    ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, 400, "invalid_request_error", "context_management"),
    ({"context_management": {"edits": {}}}, 400, "invalid_request_error", "context_management.edits"),
    ({"output_config": {"effort": "endless"}}, 400, "invalid_request_error", "output_config.effort"), ({"mcp_servers": [{}]}, 400, "invalid_request_error", "mcp_servers"),
    ({"model": "other"}, 404, "not_found_error", "model"), ({"messages": [{"role": "user", "content": "x " * 9000}]}, 400, "invalid_request_error", "messages"),
]


@pytest.mark.parametrize("fields,status,kind,param", REFUSED, ids=[f"{i}-{r[3]}" for i, r in enumerate(REFUSED)])
def test_refusals_have_the_dialects_shape_and_name_the_field(server, fields, status, kind, param):
    r = server.post(PATH, {"messages": user("Hi"), "max_tokens": 8, **fields})
    body = r.json()
    assert r.status_code == status and set(body) == {"type", "error", "request_id"} and body["type"] == "error", r.text
    assert body["error"]["type"] == kind and body["error"]["param"] == param and body["error"]["message"], r.text
    assert body["request_id"] == r.headers["request-id"] == r.headers["X-Request-Id"]


def test_refusals_before_the_body_have_the_shape_too(server, client, model):
    for r in (requests.post(server.url + PATH, data="{}", headers={"Content-Type": "text/plain"}), requests.post(server.url + PATH, data="{", headers={"Content-Type": "application/json"})):
        assert r.status_code in (400, 415) and r.json()["type"] == "error", r.text
    with pytest.raises(anthropic.BadRequestError) as e:
        client.messages.create(model=model, max_tokens=8, messages=[])
    assert e.value.body["error"]["type"] == "invalid_request_error" and e.value.request_id.startswith("req_")
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        client.messages.create(model=model, max_tokens=8, messages=user("x " * 9000))
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="other", max_tokens=8, messages=user("Hi"))


def test_fields_of_coding_agents_are_taken(server):
    m = ask(server, user("Hi"), metadata={"user_id": "u"}, thinking={"type": "disabled"}, output_config={"effort": "high"}, cache_control={"type": "ephemeral"}, tools=[],
            context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}, service_tier="auto")
    assert m["content"][0]["text"] == ask(server, user("Hi"))["content"][0]["text"]


def test_a_client_that_leaves_ends_the_generation(server):
    with Stream(server, PATH, messages=user("Tell me a long story."), max_tokens=4000, ignore_eos=True) as s:
        s.open().read1(100)
    server.wait_free()


def test_a_rendered_prompt_is_what_the_chat_reads(server):
    body = {"messages": [{"role": "system", "content": "Be short."}, *user("Caf\u00e9?")]}
    r = server.post("/v1/chat/completions/render", body).json()
    assert server.ids(r["prompt"]) == server.post("/tokenize", body).json()["tokens"] and r["prompt_tokens"] == len(server.ids(r["prompt"]))
    assert r["prompt"].endswith("<|im_start|>user\nCaf\u00e9?<|im_end|>\n<|im_start|>assistant\n") and r["max_model_len"] == 8192
    assert server.complete(r["prompt"], max_tokens=16)["choices"][0]["text"] == chat(server, body["messages"])["message"]["content"]
    assert server.post("/v1/chat/completions/render", {"messages": []}).json()["error"]["param"] == "messages"
