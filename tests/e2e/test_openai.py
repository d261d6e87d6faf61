"""What an OpenAI client sees, by the openai SDK: completions and chat, streamed and whole, are the same answer."""
import concurrent.futures
import json
import os

import pytest

from conftest import Stream, check_error, on_gpu

both = pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])

pytestmark = pytest.mark.real_model

FACE, FLAG, CJK = "😀", "🏴‍☠️", "日本語"
LAYERS = 30


@pytest.fixture
def client(server):
    return server.client()


@pytest.fixture
def model(client):
    return client.models.list().data[0].id


def user(text):
    return [{"role": "user", "content": text}]


def stream_completion(client, **ask):
    """Text, finish reason and chunks of each choice of a streamed completion."""
    text, finish, chunks = {}, {}, []
    for chunk in client.completions.create(stream=True, **ask):
        chunks.append(chunk)
        for c in chunk.choices:
            assert c.index not in finish, "a chunk after the finish reason"
            text[c.index] = text.get(c.index, "") + c.text
            if c.finish_reason:
                finish[c.index] = c.finish_reason
    return text, finish, chunks


def stream_chat(client, **ask):
    text, finish, chunks = {}, {}, []
    for chunk in client.chat.completions.create(stream=True, **ask):
        chunks.append(chunk)
        for c in chunk.choices:
            if c.index not in text:
                assert c.delta.role == "assistant", "the role comes first"
            assert c.index not in finish
            text[c.index] = text.get(c.index, "") + (c.delta.content or "")
            if c.finish_reason:
                finish[c.index] = c.finish_reason
    return text, finish, chunks


# --- the answer itself

def test_chat_knows_the_capital_of_france(client, model):
    r = client.chat.completions.create(model=model, messages=user("What is the capital of France?"), temperature=0)
    assert "Paris" in r.choices[0].message.content
    assert r.choices[0].finish_reason == "stop" and r.choices[0].message.role == "assistant"
    assert r.object == "chat.completion" and r.id.startswith("chatcmpl-") and r.model == model
    assert "<|im_end|>" not in r.choices[0].message.content
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens
    assert r.usage.prompt_tokens_details.cached_tokens == 0


def test_a_completion_has_the_documented_shape(client, model):
    r = client.completions.create(model=model, prompt="The capital of France is", temperature=0)
    assert r.object == "text_completion" and r.id.startswith("cmpl-") and r.model == model and r.created > 1.6e9
    c, = r.choices
    assert c.index == 0 and c.logprobs is None and c.finish_reason == "length" and "Paris" in c.text
    assert r.usage.completion_tokens == 16 and r.usage.total_tokens == r.usage.prompt_tokens + 16


def test_models_are_listed_and_found(client, model):
    assert client.models.retrieve(model).id == model
    import openai
    with pytest.raises(openai.NotFoundError) as e:
        client.models.retrieve("no-such-model")
    assert e.value.code == "model_not_found"


def test_system_and_part_messages_reach_the_template(client, model):
    parts = [{"role": "system", "content": "You are a poet."},
             {"role": "user", "content": [{"type": "text", "text": "Name a colour"}, {"type": "text", "text": "of the sky."}]}]
    whole = [parts[0], {"role": "user", "content": "Name a colour\nof the sky."}]  # parts are joined as vLLM joins them
    a, b = (client.chat.completions.create(model=model, messages=m, temperature=0, max_tokens=12) for m in (parts, whole))
    assert a.choices[0].message.content == b.choices[0].message.content and a.usage.prompt_tokens == b.usage.prompt_tokens
    c = client.chat.completions.create(model=model, messages=whole[1:], temperature=0, max_tokens=12)
    assert c.usage.prompt_tokens != b.usage.prompt_tokens


def test_text_of_a_user_never_becomes_a_control_token(server):
    """A raw prompt's <|im_end|> is one token; a message's is letters."""
    assert len(server.ids("<|im_end|>")) == 1
    bare, marked = (server.chat(t)["usage"]["prompt_tokens"] for t in ("ab", "a<|im_end|>b"))
    assert marked > bare + 3


# --- streamed equals whole

SAME = {
    "greedy": dict(prompt="Once upon a time", max_tokens=40, temperature=0),
    "seeded": dict(prompt="Once upon a time", max_tokens=40, temperature=1.3, seed=7),
    "seeded top_p top_k min_p": dict(prompt="I went to", max_tokens=40, temperature=1, top_p=0.9, seed=1, extra_body={"top_k": 40, "min_p": 0.02}),
    "penalties": dict(prompt="la la la la", max_tokens=40, temperature=0, presence_penalty=1, frequency_penalty=0.5,
                      extra_body={"repetition_penalty": 1.2}),
    "one stop": dict(prompt="1, 2, 3, 4,", max_tokens=60, temperature=0, stop=" 11,"),
    "stops never met": dict(prompt="1, 2, 3, 4,", max_tokens=24, temperature=0, stop=["7, 9", "8, 8, 8", "zz", ", 100"]),
    "emoji": dict(prompt=FACE * 24, max_tokens=24, temperature=0),
    "flags": dict(prompt=" ".join([FLAG] * 12), max_tokens=40, temperature=0),
    "CJK": dict(prompt=CJK * 12, max_tokens=40, temperature=0),
    "echo": dict(prompt=f"Say {FACE}{CJK} again", max_tokens=20, temperature=0, echo=True),
    "n": dict(prompt="My name is", max_tokens=20, temperature=1.2, seed=3, n=3),
    "prompts": dict(prompt=["One", "Two", CJK], max_tokens=12, temperature=0, n=2),
}


@pytest.mark.parametrize("what", SAME)
def test_a_streamed_completion_equals_the_whole_one(client, model, what):
    ask = {"model": model, **SAME[what]}
    whole = client.completions.create(**ask)
    text, finish, chunks = stream_completion(client, **ask)
    assert text == {c.index: c.text for c in whole.choices}
    assert finish == {c.index: c.finish_reason for c in whole.choices}
    assert all(c.object == "text_completion" and c.id == chunks[0].id and c.usage is None for c in chunks)
    assert any(whole.choices[0].text)
    if what in ("emoji", "flags", "CJK"):
        assert any(ord(ch) > 0x7f for ch in whole.choices[0].text)
    if what == "one stop":
        assert whole.choices[0].finish_reason == "stop" and whole.choices[0].text.endswith("10,")


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_of_characters_stream_as_they_are_whole(server, client, model, seed):
    """Only the byte pieces of these characters are allowed, so the answer is full of characters cut in two."""
    allowed = sorted(set(server.ids(FACE + FLAG + CJK + "éß")))
    ask = dict(model=model, prompt="x", max_tokens=40, temperature=2, seed=seed, extra_body={"allowed_token_ids": allowed, "ignore_eos": True})
    whole = client.completions.create(**ask).choices[0].text
    text, _, chunks = stream_completion(client, **ask)
    assert text[0] == whole and any(ord(ch) > 0x7f for ch in whole)
    assert len(chunks) < 42, "bytes of a character wait for its end"


CHATS = {
    "greedy": dict(messages=user("Tell me about the sea."), max_tokens=40, temperature=0),
    "seeded": dict(messages=user("Tell me a joke."), max_completion_tokens=40, temperature=1.2, seed=11),
    "to its end": dict(messages=user("What is the capital of France?"), temperature=0),
    "stop": dict(messages=user("Count from 1 to 20 with commas."), max_tokens=60, temperature=0, stop=["9"]),
    "emoji": dict(messages=user(f"Repeat exactly: {FACE * 8} {CJK}"), max_tokens=40, temperature=0),
    "n": dict(messages=user("Name an animal."), max_tokens=12, temperature=1.5, seed=5, n=3),
}


@pytest.mark.parametrize("what", CHATS)
def test_a_streamed_chat_equals_the_whole_one(client, model, what):
    ask = {"model": model, **CHATS[what]}
    whole = client.chat.completions.create(**ask)
    text, finish, chunks = stream_chat(client, **ask)
    assert text == {c.index: c.message.content for c in whole.choices}
    assert finish == {c.index: c.finish_reason for c in whole.choices}
    assert all(c.object == "chat.completion.chunk" and c.id == chunks[0].id for c in chunks)


def test_the_usage_chunk_is_last_and_equals_the_whole_usage(client, model):
    for create, ask in ((client.completions.create, dict(prompt="Hello", max_tokens=9, temperature=0)),
                        (client.chat.completions.create, dict(messages=user("Hello"), max_tokens=9, temperature=0))):
        whole = create(model=model, **ask).usage
        chunks = list(create(model=model, stream=True, stream_options={"include_usage": True}, **ask))
        assert chunks[-1].choices == [] and chunks[-1].usage == whole
        assert all(c.choices and c.usage is None for c in chunks[:-1])
        assert "usage" in chunks[0].model_dump(exclude_unset=True), "the other chunks have usage null"


def test_continuous_usage_counts_up(server):
    with Stream(server, "/v1/completions", prompt="Hello", max_tokens=6, temperature=0, ignore_eos=True,
                stream_options={"include_usage": True, "continuous_usage_stats": True}) as s:
        counts = [f["usage"]["completion_tokens"] for _, f in s]
    assert counts == sorted(counts) and counts[0] < counts[-1] == 6


THINKER = [m for w in ("red", "blue", "green", "black") for m in (*user(f"Say {w}"), {"role": "assistant", "content": f"<think>\nI say {w}.\n</think>\n\n{w}"})] + user("Say white")


@pytest.mark.parametrize("begun", [None, "<think>\nI say"])
def test_what_is_reasoned_is_told_apart(server, begun):
    ask = dict(messages=THINKER if begun is None else [*THINKER, {"role": "assistant", "content": begun}], max_tokens=30, temperature=0,
               continue_final_message=begun is not None)
    r = server.post("/v1/chat/completions", ask).json()["choices"][0]
    assert r["message"]["content"] == "white" and r["finish_reason"] == "stop"
    assert r["message"]["reasoning_content"] == ("white.\n" if begun else "I say white.\n")
    told = {"content": "", "reasoning_content": ""}
    with Stream(server, "/v1/chat/completions", **ask) as s:
        for _, f in s:
            for key in told:
                told[key] += f["choices"][0]["delta"].get(key, "")
    assert told == {key: r["message"][key] for key in told}
    cut = server.post("/v1/chat/completions", {**ask, "max_tokens": 2 if begun else 5}).json()["choices"][0]
    assert cut["message"]["content"] == "" and r["message"]["reasoning_content"].startswith(cut["message"]["reasoning_content"])
    assert "reasoning_content" not in server.post("/v1/chat/completions", {"messages": user("Hi"), "max_tokens": 2}).json()["choices"][0]["message"]


def test_a_template_may_begin_the_thought(make_server, tmp_path):
    path = tmp_path / "thinks.jinja"
    path.write_text("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n<think>\n")
    s = make_server("--chat-template", path)
    r = s.post("/v1/chat/completions", {"messages": THINKER, "max_tokens": 30, "temperature": 0}).json()["choices"][0]["message"]
    assert r["reasoning_content"] == "I say white.\n" and r["content"] == "white"


def test_a_remote_tokenizer_has_what_it_needs(server, make_server, tmp_path):
    """As lm-eval's: special tokens and the template by /tokenizer_info, text by /tokenize."""
    info = server.get("/tokenizer_info").json()
    assert info["bos_token"] == "<|im_start|>" and info["eos_token"] == "<|im_end|>" and info["model_max_length"] == 8192 and info["vocab_size"] == 49152
    assert len(server.ids(info["eos_token"])) == len(server.ids(info["bos_token"])) == 1
    path = tmp_path / "own.jinja"
    path.write_text("\u00e9" + info["chat_template"])
    s = make_server("--chat-template", path)
    assert s.get("/tokenizer_info").json() == {**info, "chat_template": path.read_text()}
    mine, theirs = (x.post("/tokenize", {"messages": user("Hi")}).json()["tokens"] for x in (s, server))
    assert mine == [*server.ids("\u00e9"), *theirs]


def test_fifty_parallel_streams_all_end_well_and_are_the_answers_alone(server):
    asks = [dict(prompt=f"Number {i} is", max_tokens=12, temperature=0 if i % 2 else 1, seed=i, ignore_eos=True) for i in range(50)]

    def one(ask):
        with Stream(server, "/v1/completions", **ask) as s:
            frames = [f["choices"][0] for _, f in s]
            return "".join(c["text"] for c in frames), frames[-1]["finish_reason"], s.done

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        got = list(pool.map(one, asks))
    assert all(finish == "length" and done for _, finish, done in got)
    for i in (0, 1, 24, 49):
        assert got[i][0] == server.complete(**asks[i])["choices"][0]["text"]


# --- several answers

def test_three_answers_are_distinct_and_counted(client, model):
    ask = dict(model=model, prompt="My favourite word is", max_tokens=16, temperature=1.5, seed=42, n=3, extra_body={"ignore_eos": True})
    r = client.completions.create(**ask)
    assert [c.index for c in r.choices] == [0, 1, 2] and len({c.text for c in r.choices}) == 3
    assert r.usage.completion_tokens == 48
    assert [c.text for c in client.completions.create(**ask).choices] == [c.text for c in r.choices]
    unseeded = {client.completions.create(**{**ask, "seed": None, "n": 1}).choices[0].text for _ in range(3)}
    assert len(unseeded) == 3


def test_prompts_and_answers_are_numbered_by_prompt(server):
    prompts = ["One two three", "Red green", "The capital of France is"]
    got = server.complete(prompts, n=2)
    assert [c["index"] for c in got["choices"]] == list(range(6))
    for i, p in enumerate(prompts):
        alone = server.complete(p)
        assert got["choices"][2 * i]["text"] == got["choices"][2 * i + 1]["text"] == alone["choices"][0]["text"]
    assert len(got["usage"]["attention_route"]) == 3


def test_prompts_of_ids_equal_their_text(server):
    texts = ["The capital of France is", CJK + FACE]
    ids = [server.ids(t) for t in texts]
    want = [server.complete(t)["choices"][0]["text"] for t in texts]
    assert [server.complete(i)["choices"][0]["text"] for i in ids] == want
    assert [c["text"] for c in server.complete(ids)["choices"]] == want


@pytest.mark.parametrize("text", ["Hello world", CJK + FACE + FLAG, "e\u0301 \u00e9 \ufffe \ue000 \u202eabc\u200d", " \n\t  x\r\n", "123456 7"])
def test_text_comes_back_from_its_tokens(server, text):
    r = server.post("/tokenize", {"prompt": text}).json()
    assert r["count"] == len(r["tokens"])
    assert server.post("/detokenize", {"tokens": r["tokens"]}).json()["prompt"] == text


# --- stopping

def test_stop_strings_cut_exactly_wherever_the_tokens_end(server):
    """Every substring of 1 to 7 bytes at several places: across tokens, inside one, in the first and the last."""
    full = server.complete("Once upon a time, in a", max_tokens=24)["choices"][0]["text"]
    stops = [full[a:a + n] for a in (0, 1, 5, 12, 23, len(full) - 7) for n in (1, 3, 7)]

    def check(stop):
        ask = dict(prompt="Once upon a time, in a", temperature=0, max_tokens=24, stop=[stop])
        for keep in (False, True):
            end = full.index(stop) + (len(stop) if keep else 0)
            got = server.complete(**ask, include_stop_str_in_output=keep)["choices"][0]
            assert got["text"] == full[:end] and got["finish_reason"] == "stop", (stop, keep)
        with Stream(server, "/v1/completions", **ask) as s:
            assert "".join(f["choices"][0]["text"] for _, f in s) == full[:full.index(stop)] and s.done, stop

    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        list(pool.map(check, stops))


def test_of_several_stop_strings_the_first_to_end_wins(server):
    full = server.complete("1, 2, 3, 4,", max_tokens=30)["choices"][0]["text"]
    assert " 7, 8" in full
    got = server.complete("1, 2, 3, 4,", max_tokens=30, stop=["never", " 7, 8", ", 8", "8, 9"])["choices"][0]
    assert got["text"] == full[:full.index(" 7, 8")] and got["finish_reason"] == "stop"


@both
def test_bad_words_are_never_said(server, path):
    """Each ban moves the answer; a token that was said is banned in turn, alone and behind a space."""
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    ask = dict(max_tokens=12, temperature=0, ignore_eos=True, return_token_ids=True, **(chat if "chat" in path else {"prompt": "Once upon a time"}))
    words, banned = [], set()
    for _ in range(6):
        choice = server.post(path, {**ask, "bad_words": words}).json()["choices"][0]
        assert not banned & set(choice["token_ids"]), (words, choice)
        with Stream(server, path, **{**ask, "bad_words": words}) as x:
            assert [t for _, f in x for c in f["choices"] for t in c.get("token_ids") or []] == choice["token_ids"]
        new = choice["token_ids"][0]
        words.append(server.post("/detokenize", {"tokens": [new]}).json()["prompt"].lstrip(" "))
        banned |= {i for w in (words[-1], " " + words[-1]) for i in server.ids(w) if len(server.ids(w)) == 1}


def test_half_a_stop_string_at_the_end_is_text(server):
    full = server.complete("1, 2, 3, 4,", max_tokens=11)["choices"][0]["text"]
    got = server.complete("1, 2, 3, 4,", max_tokens=11, stop=[full[-4:] + "never"])["choices"][0]
    assert got["text"] == full and got["finish_reason"] == "length"
    with Stream(server, "/v1/completions", prompt="1, 2, 3, 4,", temperature=0, max_tokens=11, stop=[full[-4:] + "never"]) as s:
        assert "".join(f["choices"][0]["text"] for _, f in s) == full


def test_half_a_stop_string_at_eos_is_text(server):
    full = server.chat("What is the capital of France?", max_tokens=60)["choices"][0]
    assert full["finish_reason"] == "stop"
    text = full["message"]["content"]
    got = server.chat("What is the capital of France?", max_tokens=60, stop=[text[-3:] + "never"])["choices"][0]
    assert got["message"]["content"] == text and got["finish_reason"] == "stop"


def test_stop_token_ids_end_the_answer(server):
    ids = server.complete("1, 2, 3, 4,", max_tokens=20, return_token_ids=True)["choices"][0]["token_ids"]
    got = server.complete("1, 2, 3, 4,", max_tokens=20, stop_token_ids=[ids[5]], return_token_ids=True)["choices"][0]
    first = ids.index(ids[5])
    assert got["finish_reason"] == "stop" and got["token_ids"][:first] == ids[:first] and len(got["token_ids"]) <= first + 1


def test_ignore_eos_goes_on_and_min_tokens_waits(server):
    ask = "What is the capital of France?"
    short = server.chat(ask, max_tokens=40)
    n = short["usage"]["completion_tokens"]
    assert short["choices"][0]["finish_reason"] == "stop" and n < 40
    on = server.chat(ask, max_tokens=40, ignore_eos=True)
    assert on["choices"][0]["finish_reason"] == "length" and on["usage"]["completion_tokens"] == 40
    assert on["choices"][0]["message"]["content"].startswith(short["choices"][0]["message"]["content"])
    late = server.chat(ask, max_tokens=40, min_tokens=n + 5)
    assert n + 5 <= late["usage"]["completion_tokens"] <= 40


def test_logit_bias_forbids_and_forces(server):
    first = server.complete("The capital of France is", max_tokens=1, return_token_ids=True)["choices"][0]["token_ids"][0]
    other = server.ids(" banana")[0]
    got = server.complete("The capital of France is", max_tokens=1, logit_bias={str(first): -100}, return_token_ids=True)
    assert got["choices"][0]["token_ids"][0] != first
    got = server.complete("The capital of France is", max_tokens=3, logit_bias={str(other): 100}, return_token_ids=True)
    assert got["choices"][0]["token_ids"] == [other] * 3


def test_allowed_token_ids_bound_the_answer(server):
    allowed = server.ids(" one two three")
    got = server.complete("Count:", max_tokens=12, temperature=1.5, seed=1, allowed_token_ids=allowed, ignore_eos=True, return_token_ids=True)
    assert set(got["choices"][0]["token_ids"]) <= set(allowed)


# --- ids and probabilities

def test_return_token_ids_gives_both_sides(server):
    whole = server.complete("The capital of France is", return_token_ids=True)["choices"][0]
    assert whole["prompt_token_ids"] == server.ids("The capital of France is")
    assert server.post("/detokenize", {"tokens": whole["token_ids"]}).json()["prompt"] == whole["text"]
    with Stream(server, "/v1/completions", prompt="The capital of France is", max_tokens=8, temperature=0, return_token_ids=True) as s:
        frames = [f["choices"][0] for _, f in s]
    assert frames[0]["prompt_token_ids"] == whole["prompt_token_ids"]
    assert sum((f.get("token_ids") or [] for f in frames), []) == whole["token_ids"]
    chat = server.chat("Hello", return_token_ids=True)
    assert len(chat["prompt_token_ids"]) == chat["usage"]["prompt_tokens"] and len(chat["choices"][0]["token_ids"]) == 8


def check_legacy(lp, text, n_top, start=0):
    n = len(lp["tokens"])
    assert n == len(lp["token_logprobs"]) == len(lp["top_logprobs"]) == len(lp["text_offset"])
    assert "".join(lp["tokens"]) == text
    at = 0
    for i, token in enumerate(lp["tokens"]):
        assert lp["text_offset"][i] == start + at
        at += len(token)
        if lp["token_logprobs"][i] is None:
            assert i == 0 and lp["top_logprobs"][i] is None
            continue
        assert lp["token_logprobs"][i] <= 0
        assert n_top <= len(lp["top_logprobs"][i]) <= n_top + 1 or n_top == 0


@pytest.mark.parametrize("n_top", [0, 1, 20])
def test_legacy_logprobs(server, n_top):
    ask = dict(max_tokens=8, logprobs=n_top)
    c = server.complete("The capital of France is", **ask)["choices"][0]
    check_legacy(c["logprobs"], c["text"], n_top)
    if n_top:
        for lp, top in zip(c["logprobs"]["token_logprobs"], c["logprobs"]["top_logprobs"]):
            assert max(top.values()) == lp, "a greedy token is the best, as the same number"
    parts = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    with Stream(server, "/v1/completions", prompt="The capital of France is", temperature=0, **ask) as s:
        for _, f in s:
            if lp := f["choices"][0]["logprobs"]:
                for k, v in parts.items():
                    v += lp[k]
    assert parts == {k: c["logprobs"][k] for k in parts}


def test_offsets_count_the_returned_text_where_tokens_cut_characters(server):
    """The prompt's text and the answer's: an offset is where the token's own character begins or ends in what the client got."""
    r = server.complete("na\u00efve \U0001f9dc\u200d\u2640\ufe0f <|im_end|> caf\u00e9", echo=True, logprobs=0, max_tokens=6, logit_bias={"2": -100})["choices"][0]
    lp, text = r["logprobs"], r["text"]
    assert any(t.startswith("bytes:") for t in lp["tokens"]), "no token cuts a character"
    assert lp["text_offset"] == sorted(lp["text_offset"]) and lp["text_offset"][0] == 0 and lp["text_offset"][-1] <= len(text)
    for token, at in zip(lp["tokens"], lp["text_offset"]):
        if not token.startswith("bytes:"):
            assert text[at:at + len(token)] == token, (token, at)


def test_tokens_are_named_by_their_ids_where_asked(server):
    ask = dict(max_tokens=5, return_token_ids=True, return_tokens_as_token_ids=True)
    c = server.complete("The capital of France is", logprobs=2, **ask)["choices"][0]
    assert c["logprobs"]["tokens"] == [f"token_id:{i}" for i in c["token_ids"]]
    assert all(len(t) == 2 and all(k.startswith("token_id:") for k in t) for t in c["logprobs"]["top_logprobs"])
    chat = server.chat("Hi", logprobs=True, top_logprobs=1, **ask)["choices"][0]
    assert [t["token"] for t in chat["logprobs"]["content"]] == [f"token_id:{i}" for i in chat["token_ids"]]


def test_prompt_logprobs_are_vllms(server):
    prompt, k = "The capital of France is Paris", 3
    ids = server.ids(prompt)
    echo = server.complete(prompt, echo=True, logprobs=k, max_tokens=1)["choices"][0]["logprobs"]
    got = server.complete(prompt, prompt_logprobs=k, n=2, temperature=1, seed=1)["choices"]
    assert got[0]["prompt_logprobs"] == got[1]["prompt_logprobs"]
    lp = got[0]["prompt_logprobs"]
    assert lp[0] is None and len(lp) == len(ids)
    for i in range(1, len(ids)):
        assert lp[i][str(ids[i])]["logprob"] == echo["token_logprobs"][i] and lp[i][str(ids[i])]["decoded_token"] == echo["tokens"][i]
        ranked = sorted((v["rank"], v["logprob"]) for v in lp[i].values() if v["rank"])
        assert [r for r, _ in ranked] == [1, 2, 3] and [p for _, p in ranked] == sorted((p for _, p in ranked), reverse=True)
        assert len(lp[i]) in (k, k + 1)
    chat = server.chat("Hi", prompt_logprobs=0, return_token_ids=True)
    assert [next(iter(x)) for x in chat["prompt_logprobs"][1:]] == [str(i) for i in chat["prompt_token_ids"][1:]]
    check_error(server.post("/v1/completions", {"prompt": "a", "prompt_logprobs": 1, "stream": True}), 400, param="prompt_logprobs")


@pytest.mark.parametrize("more", [{}, {"stop": ["7"]}, {"ignore_eos": True, "stop_token_ids": [28]}, {"logprobs": 1}], ids=["length", "stop string", "stop token", "logprobs"])
def test_a_streams_last_token_brings_the_finish_reason(server, more):
    with Stream(server, "/v1/completions", prompt="Count: 1, 2, 3,", max_tokens=16, temperature=0, return_token_ids=True, **more) as s:
        frames = [f["choices"][0] for _, f in s][1:]  # the first has the prompt's ids
    assert all(f.get("token_ids") for f in frames), "a frame without a token"
    assert [f["finish_reason"] is None for f in frames] == [True] * (len(frames) - 1) + [False]


def test_no_line_of_a_stream_ends_inside_a_frame(server):
    """Readers that split at every end of line Unicode knows see whole frames."""
    text = "a\u2028b\u2029c\u0085d"
    r = server.post("/v1/completions", {"prompt": text, "echo": True, "max_tokens": 1, "stream": True})
    frames = [l for l in r.content.decode().splitlines() if l]
    assert all(l.startswith("data: ") for l in frames)
    assert json.loads(frames[0][6:])["choices"][0]["text"] == text


def test_chat_logprobs(client, model):
    ask = dict(model=model, messages=user("What is the capital of France?"), max_tokens=6, temperature=0, logprobs=True, top_logprobs=4)
    c = client.chat.completions.create(**ask).choices[0]
    content = c.logprobs.content
    assert len(content) == 6 and b"".join(bytes(t.bytes) for t in content).decode() == c.message.content
    for t in content:
        assert len(t.top_logprobs) == 4 and t.top_logprobs[0].token == t.token and t.top_logprobs[0].logprob == t.logprob <= 0
        assert [x.logprob for x in t.top_logprobs] == sorted((x.logprob for x in t.top_logprobs), reverse=True)
    streamed = [t for k in client.chat.completions.create(stream=True, **ask) for x in k.choices if x.logprobs for t in x.logprobs.content]
    assert streamed == content
    bare = client.chat.completions.create(**{**ask, "top_logprobs": None}).choices[0].logprobs.content
    assert [t.logprob for t in bare] == [t.logprob for t in content] and all(t.top_logprobs == [] for t in bare)


def test_logprobs_of_a_forbidden_token_are_printed_as_a_number(server):
    """allowed ids leave -inf to all others; JSON has no infinity."""
    allowed = server.ids(" one")
    r = server.post("/v1/completions", {"prompt": "Count:", "max_tokens": 2, "temperature": 0, "logprobs": 5, "allowed_token_ids": allowed})
    assert r.status_code == 200 and "Infinity" not in r.text and "inf" not in r.text and "NaN" not in r.text
    tops = r.json()["choices"][0]["logprobs"]["top_logprobs"]
    assert all(v == -9999.0 or v <= 0 for t in tops for v in t.values())


def test_echo_repeats_the_prompt(server):
    prompt = f"The capital {FACE} of France is"
    c = server.complete(prompt)["choices"][0]["text"]
    assert server.complete(prompt, echo=True)["choices"][0]["text"] == prompt + c
    assert server.complete([prompt, "x"], echo=True)["choices"][1]["text"].startswith("x")


@pytest.mark.parametrize("max_tokens", [0, 1, 5])
def test_echo_with_logprobs_scores_the_prompt(server, max_tokens):
    prompt = "The capital of France is Paris and the capital of Spain is"
    n = len(server.ids(prompt))
    c = server.complete(prompt, echo=True, logprobs=1, max_tokens=max_tokens)["choices"][0]
    lp = c["logprobs"]
    assert len(lp["tokens"]) == n + max_tokens and c["text"].startswith(prompt)
    assert lp["token_logprobs"][0] is None and lp["top_logprobs"][0] is None
    check_legacy(lp, c["text"], 1)
    greedy = [top is not None and max(top.values()) == t for t, top in zip(lp["token_logprobs"], lp["top_logprobs"])]
    assert any(greedy[1:n]) and not all(greedy[1:n]) and all(greedy[n:])
    scored = server.complete(prompt, echo=True, logprobs=1, max_tokens=0)
    assert scored["choices"][0]["logprobs"]["token_logprobs"] == lp["token_logprobs"][:n]
    assert scored["choices"][0]["text"] == prompt and scored["usage"]["completion_tokens"] == 0


def test_a_scored_answer_has_the_probabilities_it_was_given(server):
    """The prompt's scores come from the prefill path, the answer's from the decode path: near, and the same choice."""
    c = server.complete("One, two, three,", max_tokens=10, logprobs=0)["choices"][0]
    again = server.complete("One, two, three," + c["text"], max_tokens=0, echo=True, logprobs=0)["choices"][0]["logprobs"]
    tail = again["token_logprobs"][-10:]
    assert again["tokens"][-10:] == c["logprobs"]["tokens"]
    assert max(abs(a - b) for a, b in zip(tail, c["logprobs"]["token_logprobs"])) < 0.15


# --- routes

ALTERNATING = "10" * (LAYERS // 2)
ROUTES = {
    "absent": (None, "1" * LAYERS), "auto": ("auto", "1" * LAYERS), "full": ("full", "1" * LAYERS), "sparse": ("sparse", "0" * LAYERS),
    "string": (ALTERNATING, ALTERNATING), "array": ([1, 0] * (LAYERS // 2), ALTERNATING),
}


@pytest.mark.parametrize("what", ROUTES)
def test_the_route_is_taken_and_told(server, what):
    """Without routers auto is full; with one (FLUXD_FLAGS) it is what the router says."""
    route, mask = ROUTES[what]
    if what in ("absent", "auto") and "--router" in os.environ.get("FLUXD_FLAGS", ""):
        mask = None
    for chat in (False, True):
        fields = {} if route is None else {"route": route}
        got = (server.chat if chat else server.complete)("Hello " * 5, **fields)["usage"]["attention_route"]
        assert mask in (None, got["mask"]) and len(got["mask"]) == LAYERS
        assert got["full_layers"] == got["mask"].count("1") and got["sparse_layers"] == got["mask"].count("0")
        assert 0 < got["kv_bytes"] <= got["kv_bytes_full"]


def test_sparse_layers_give_pages_back(server):
    got = {r: server.complete([1000 + i % 500 for i in range(1900)], max_tokens=2, route=r)["usage"]["attention_route"] for r in ("full", "sparse")}
    assert got["full"]["kv_bytes"] == got["full"]["kv_bytes_full"] == got["sparse"]["kv_bytes_full"]
    assert got["sparse"]["kv_bytes"] < (1 if on_gpu() else 0.9) * got["full"]["kv_bytes"]  # the peak: a GPU runs many layers of a short prompt at once
    server.wait_free()


def test_the_stream_tells_the_route_in_its_usage(server):
    with Stream(server, "/v1/completions", prompt="Hi", max_tokens=2, route="sparse", stream_options={"include_usage": True}) as s:
        last = [f for _, f in s][-1]
    assert last["usage"]["attention_route"]["mask"] == "0" * LAYERS


# --- clients that leave

def test_leaving_mid_stream_frees_the_pages(server):
    server.wait_free()
    with Stream(server, "/v1/completions", prompt="Once", max_tokens=4000, ignore_eos=True) as s:
        for i, _ in enumerate(s):
            if i == 5:
                break
        assert server.pages_used() > 0
        before = server.metrics()["fluxd_generation_tokens_total"]
    server.wait_free()
    assert server.metrics()["fluxd_generation_tokens_total"] < before + 2000, "it does not run to its end first"


@pytest.mark.parametrize("streamed", [True, False])
def test_leaving_in_prefill_frees_the_pages(server, streamed):
    server.wait_free()
    before = server.metrics()
    n = 16 if on_gpu() else 1  # one prompt is through before anybody could ask
    streams = [Stream(server, "/v1/completions", prompt=[2000 + 2 * k + streamed, *(1000 + i % 900 for i in range(7000))], max_tokens=1000, ignore_eos=True,
                      **({} if streamed else {"stream": False})) for k in range(n)]
    server.wait_metric("fluxd_requests_prefilling", lambda n: n > 0)
    for s in streams:
        s.close()
    server.wait_free()
    for name, more in (('fluxd_requests_finished_total{reason="cancelled"}', n), ("fluxd_prompt_tokens_total", 0)):  # no prompt is read to its end first
        assert server.metrics()[name] == before[name] + more


def test_leaving_the_queue_frees_the_place(make_server):
    s = make_server("--max-num-seqs", "1")
    with Stream(s, "/v1/completions", prompt="Once", max_tokens=4000, ignore_eos=True) as first:
        next(iter(first))
        waiting = [Stream(s, "/v1/completions", prompt="Next", max_tokens=2) for _ in range(3)]
        s.wait_metric("fluxd_requests_waiting", 3)
        for w in waiting:
            w.close()
        s.wait_metric("fluxd_requests_waiting", 0)
        assert s.metrics()["fluxd_requests_running"] == 1
    s.wait_free()


def test_many_leave_and_nothing_leaks(server):
    import os

    def fds():
        return len(os.listdir(f"/proc/{server.proc.pid}/fd"))

    server.wait_free()
    server.session.close()
    n_fd = fds()
    for i in range(300):
        path, ask = ("/v1/completions", {"prompt": "Once"}) if i % 2 else ("/v1/chat/completions", {"messages": user("Once")})
        s = Stream(server, path, max_tokens=500, ignore_eos=True, **ask)
        if i % 10 == 0:
            s.open()
        s.close()
    server.wait_free()
    server.wait_metric("process_open_fds", lambda v: v <= n_fd + 2)


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("stream", [False, True])
def test_however_a_client_leaves_its_connection_is_closed(server, how, stream):
    """Of a stream that was reset the library hears nothing more."""
    import json
    import socket
    import struct

    body = json.dumps(dict(prompt="Once", max_tokens=300, ignore_eos=True, stream=stream)).encode()
    ask = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    server.session.close()
    before = server.metrics()["fluxd_http_connections"]
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as k:
            k.sendall(ask)
            if stream:
                assert k.recv(10)
            if how == "reset":
                k.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.wait_free()
    server.wait_metric("fluxd_http_connections", lambda v: v <= before + 1)


def test_a_slow_reader_rests_and_gets_every_byte(server):
    """Nothing is read until the generation rests, then all is."""
    want = server.complete("Once", max_tokens=120, ignore_eos=True)["choices"][0]["text"]
    import http.client
    import json
    import socket

    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", server.port))
    conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    conn.sock = sock
    ask = dict(prompt=["Once"] * 4, max_tokens=120, temperature=0, ignore_eos=True, logprobs=5, stream=True)
    conn.request("POST", "/v1/completions", json.dumps(ask), {"Content-Type": "application/json"})
    server.wait_metric("fluxd_requests_resting", lambda v: v > 0)
    assert server.complete("Others go on")["choices"][0]["text"]
    body = conn.getresponse().read().decode()
    conn.close()
    frames = [json.loads(f[6:]) for f in body.split("\n\n") if f.startswith("data: {")]
    for i in range(4):
        assert "".join(c["text"] for f in frames for c in f["choices"] if c["index"] == i) == want
    assert body.endswith("data: [DONE]\n\n")
    server.wait_free()
