"""The server's own page in a real browser: each test has a fresh profile, and ends without an error on the console and without a request to
anybody but this server. FLUXD_SHOTS=FOLDER (make screenshots) writes the pictures of docs/ there."""
import json
import os
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from conftest import REAL, ROOT, Server, need_binary, wait_until

KEY = "sk-page"
CONTEXT = 4096
MASK = "110" * 10
ROUTER = os.path.join(ROOT, "configs/routers/smollm2-135m-instruct.safetensors")
AUTH = {"Authorization": "Bearer " + KEY}
expect.set_options(timeout=int(os.environ.get("FLUXD_PAGE_MS", "60000")))


@pytest.fixture(scope="module")
def fluxd():
    need_binary()
    s = Server("--route", MASK, "--max-model-len", CONTEXT, env={"FLUXD_API_KEY": KEY})
    s.session.headers.update(AUTH)
    yield s
    assert s.stop() == 0


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield b
        b.close()


class Visit:
    """A page in a profile of its own, and what was seen of it."""

    def __init__(self, chromium, url, key=KEY, **how):
        self.context = chromium.new_context(**{"viewport": {"width": 1100, "height": 700}, **how})
        if key:
            self.context.add_init_script(f"sessionStorage.setItem('key', '{key}')")
        self.page = self.context.new_page()
        self.errors, self.asked, self.bodies = [], [], []
        self.page.on("console", lambda m: m.type == "error" and self.errors.append(m.text))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("request", self.note)
        self.url = url
        self.page.goto(url)
        if key:
            self.ready()

    def note(self, request):
        self.asked.append(request.url)
        if request.url.endswith("/v1/chat/completions"):
            self.bodies.append(request.post_data_json)

    def ready(self):
        expect(self.page.locator("#state")).to_have_attribute("data-s", "ready")
        expect(self.page.locator("#left")).to_have_text(re.compile("tokens left"))

    def say(self, text, **sampling):
        """Sends it; sampling as the drawer would set it."""
        self.page.evaluate("s => { sampling = s; }", {"temperature": 0, "max_tokens": 12, **sampling})
        self.page.fill("#text", text)
        self.page.keyboard.press("Enter")
        return self.page.locator("article.answer").last

    def text(self, turn=-1):
        return self.page.evaluate("i => talk.turns.at(i).text", turn)

    def answered(self):
        expect(self.page.locator("#send")).to_have_attribute("aria-label", "Send")
        return self.page.locator("article.answer").last

    def feed(self):
        """From now on the test is the one who answers: put(delta) is a frame."""
        self.page.evaluate("""() => { const real = window.fetch; window.fetch = (path, init) => {
            if (path !== "/v1/chat/completions") return real(path, init);
            window.sent = JSON.parse(init.body);
            return Promise.resolve(new Response(new ReadableStream({ start(c) {
                window.put = data => c.enqueue(new TextEncoder().encode(`data: ${typeof data === "string" ? data : JSON.stringify(data)}\\n\\n`));
                window.shut = () => c.close();
            } }))); }; }""")

    def put(self, finish=None, usage=None, **delta):
        self.page.evaluate("d => put(d)", {"choices": [{"delta": delta, "finish_reason": finish}], **({"usage": usage} if usage else {})})

    def close(self, allowed=()):
        foreign = [u for u in self.asked if not u.startswith((self.url, "data:", "blob:" + self.url))]
        assert foreign == []
        assert [e for e in self.errors if not any(a in e for a in allowed)] == []
        self.context.close()


@pytest.fixture
def visit(chromium, fluxd):
    made = []

    def make(**how):
        made.append(Visit(chromium, fluxd.url + "/", **how))
        return made[-1]

    make.allowed = []
    yield make
    for v in made:
        v.close(make.allowed)


def count(fluxd, what):
    body = {"prompt": what, "add_special_tokens": False} if isinstance(what, str) else {"messages": what}
    return fluxd.post("/tokenize", body, headers=AUTH).json()["count"]


def scrape(fluxd):
    return {m[0]: float(m[1]) for m in re.findall(r"^([a-z]\S*) (\S+)$", fluxd.get("/metrics", headers=AUTH).text, re.M)}


# --- asking and answering

def test_an_answer_comes_with_its_cost(visit, fluxd):
    v = visit()
    v.say("What is the capital of France?")
    answer = v.answered()
    same = fluxd.post("/v1/chat/completions", v.bodies[0] | {"stream": False, "stream_options": None}, headers=AUTH).json()
    assert v.text() == same["choices"][0]["message"]["content"]
    assert answer.locator(".strip").get_attribute("aria-label") == "Route: 20 full and 10 sparse layers"
    assert v.page.evaluate("[...document.querySelectorAll('.strip i')].map(i => i.className === 'f' ? '1' : '0').join('')") == MASK
    assert re.fullmatch(r"20 of 30 layers full\s*KV [\d.]+ MiB, as with full attention", answer.locator(".cost").inner_text())
    assert re.fullmatch(r"first token [\d.,]+ m?s · [\d.,]+ tok/s · 37 \+ 12 tokens", answer.locator(".facts").inner_text())
    assert v.page.title() == "fluxd · " + v.page.locator("#model").inner_text()
    assert v.bodies[0]["messages"] == [{"role": "user", "content": "What is the capital of France?"}]


def test_system_prompt_and_sampling_of_the_drawer_are_sent(visit):
    v = visit()
    v.page.click("#tune")
    v.page.get_by_label("System prompt").fill("Be short.")
    for label, value in (("Temperature", "0.5"), ("Top p", "0.9"), ("Top k", "40"), ("Longest answer", "3"), ("Seed", "7"), ("Stop at", "zzz")):
        v.page.get_by_label(label).fill(value)
    v.page.locator("#sampling select").select_option("sparse")
    v.page.keyboard.press("Escape")
    v.page.fill("#text", "Hello")
    v.page.keyboard.press("Enter")
    v.answered()
    body = v.bodies[0]
    assert {k: body[k] for k in ("temperature", "top_p", "top_k", "max_tokens", "seed", "stop", "route")} == {
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "max_tokens": 3, "seed": 7, "stop": "zzz", "route": "sparse"}
    assert body["messages"][0] == {"role": "system", "content": "Be short."} and "min_p" not in body
    assert v.page.locator(".strip i.f").count() == 0


def test_a_stopped_answer_keeps_its_text_and_frees_its_work(visit, fluxd):
    v = visit()
    answer = v.say("Tell a story", max_tokens=3900, ignore_eos=True)
    expect(answer.locator(".md")).not_to_be_empty()
    expect(v.page.locator("#send")).to_have_attribute("aria-label", "Stop")
    v.page.keyboard.press("Escape")
    v.answered()
    expect(answer.locator(".facts")).to_have_text(re.compile(r"stopped.*\d+ tokens"))
    assert 1 < len(v.text()) and v.page.evaluate("talk.turns[1].out") < 3900
    wait_until(lambda: scrape(fluxd)["fluxd_requests_running"] == 0)


def test_messages_are_edited_and_answers_made_again(visit):
    v = visit()
    v.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    v.say("What is the capital of France?")
    v.answered()
    first = v.text()
    v.page.get_by_label("Copy answer").click()
    assert v.page.evaluate("navigator.clipboard.readText()") == first
    v.say("And of Spain?")
    v.answered()
    v.page.get_by_label("Answer again").first.click()
    v.answered()
    assert len(v.bodies[2]["messages"]) == 1 and v.page.locator("article").count() == 2
    assert v.text() == first
    v.page.focus("#text")
    v.page.keyboard.press("ArrowUp")
    v.page.get_by_label("Edit message").fill("What is the capital of Italy?")
    v.page.keyboard.press("Enter")
    v.answered()
    assert v.bodies[3]["messages"] == [{"role": "user", "content": "What is the capital of Italy?"}]
    expect(v.answered().locator(".md")).not_to_be_empty()


def test_an_error_is_told_and_can_be_tried_again(visit):
    v = visit()
    visit.allowed.append("400 (Bad Request)")
    answer = v.say("Hello", temperature=9)
    v.answered()
    expect(answer.get_by_role("alert")).to_have_text(re.compile("temperature"))
    v.page.evaluate("sampling = { max_tokens: 4 }")
    answer.get_by_role("button", name="Try again").click()
    v.answered()
    assert v.page.get_by_role("alert").count() == 0 and v.page.locator("article").count() == 2


def test_thinking_is_folded(visit):
    v = visit()
    v.feed()
    answer = v.say("Hello")
    v.put(reasoning_content="First I ")
    expect(answer.locator("summary")).to_have_text("Thinking…")
    v.put(reasoning_content="think.")
    v.put(content="Done.", finish="stop")
    v.page.evaluate("put('[DONE]')")
    v.answered()
    expect(answer.locator("summary")).to_have_text(re.compile("^Thought for"))
    thought = answer.locator("details div")
    expect(thought).to_be_hidden()
    answer.locator("summary").click()
    expect(thought).to_have_text("First I think.")
    assert v.page.evaluate("messagesOf(talk)")[1] == {"role": "assistant", "content": "Done."}


# --- scrolling

SCROLL = "() => { const s = document.getElementById('scroll'); return [s.scrollTop, s.scrollHeight - s.scrollTop - s.clientHeight]; }"
USAGE = {"prompt_tokens": 40, "completion_tokens": 300, "attention_route": {"mask": "10" * 15, "full_layers": 15, "sparse_layers": 15, "kv_bytes": 1, "kv_bytes_full": 2}}


def end_answer(v, finish="length"):
    v.put(finish=finish, usage=USAGE)
    v.page.evaluate("put('[DONE]')")
    v.answered()
    expect(v.page.locator(".facts").last).to_be_attached()
    v.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_an_answer_longer_than_the_window_ends_in_sight(visit):
    v = visit()
    v.feed()
    answer = v.say("Hello")
    for i in range(60):
        v.put(content=f"paragraph {i}\n\n")
    expect(answer.locator("p")).to_have_count(60)
    end_answer(v)
    assert v.page.evaluate(SCROLL)[1] <= 1
    below = v.page.evaluate("() => document.getElementById('form').getBoundingClientRect().top - document.querySelector('.cut').getBoundingClientRect().bottom")
    assert below >= 0
    assert v.page.locator("#latest").is_hidden()


def test_a_reader_who_scrolled_up_is_left_there(visit):
    v = visit()
    v.feed()
    answer = v.say("Hello")
    for i in range(60):
        v.put(content=f"paragraph {i}\n\n")
    expect(answer.locator("p")).to_have_count(60)
    v.page.mouse.move(600, 300)
    v.page.mouse.wheel(0, -400)
    expect(v.page.locator("#latest")).to_be_visible()
    where = wait_until(lambda: (lambda a, b: a if a == b else None)(v.page.evaluate(SCROLL)[0], v.page.evaluate(SCROLL)[0]))
    for i in range(60, 80):
        v.put(content=f"paragraph {i}\n\n")
    expect(answer.locator("p")).to_have_count(80)
    end_answer(v)
    assert v.page.evaluate(SCROLL)[0] == where
    v.page.click("#latest")
    assert v.page.evaluate(SCROLL)[1] <= 1


# --- the context

def test_a_cut_answer_says_so_and_goes_on(visit):
    v = visit()
    v.say("What is the capital of France?", max_tokens=4)
    answer = v.answered()
    expect(answer.locator(".cut")).to_have_text(re.compile(rf"cut at 4 tokens, {CONTEXT - 41:,} left"))
    begun = v.text()
    answer.get_by_role("button", name="go on").click()
    expect(answer.locator(".cut")).to_have_text(re.compile("cut at 8 tokens"))
    v.answered()
    assert v.text().startswith(begun) and len(v.text()) > len(begun)
    assert v.bodies[1]["continue_final_message"] and v.bodies[1]["messages"][1] == {"role": "assistant", "content": begun}
    assert v.page.locator("article.answer").count() == 1


def test_what_is_left_is_seen_before_and_a_full_context_has_a_way_out(visit, fluxd):
    v = visit()
    left = v.page.locator("#left")
    expect(left).to_have_text(f"{CONTEXT:,} of {CONTEXT:,} tokens left")
    words = "one two three four five " * 240
    v.page.fill("#text", words)
    n = count(fluxd, words)
    expect(left).to_have_text(f"{CONTEXT - n:,} of {CONTEXT:,} tokens left after these {n:,}")
    v.say(words, max_tokens=2)
    v.answered()
    v.say(words, max_tokens=3600)  # more than fits: what fits is asked for
    expect(v.page.locator("article.answer")).to_have_count(2)
    expect(v.page.locator("article.answer").last.locator(".md")).not_to_be_empty()
    v.page.keyboard.press("Escape")
    v.answered()
    used = count(fluxd, v.bodies[1]["messages"])
    assert v.bodies[1]["max_tokens"] == CONTEXT - used
    expect(v.page.locator("#meter")).to_have_attribute("data-s", "low")
    v.page.fill("#text", words + words)
    expect(v.page.locator("#bar")).to_have_text(re.compile("is full"))
    v.page.keyboard.press("Enter")
    assert len(v.bodies) == 2
    v.page.get_by_role("button", name="Leave out the oldest turns").click()
    expect(v.page.locator(".line")).to_have_text("turns above are no longer sent")
    v.say("Hello", max_tokens=2)
    v.answered()
    assert len(v.bodies[2]["messages"]) == 3 and v.page.locator("article.left-out").count() == 2


def test_files_are_counted_and_sent_under_their_names(visit, fluxd):
    v = visit()
    text = "The secret word is maple. " * 30
    drop = """([name, data]) => { const d = new DataTransfer(); d.items.add(new File([new Uint8Array(data)], name));
        document.body.dispatchEvent(new DragEvent("dragover", { dataTransfer: d, bubbles: true, cancelable: true }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: d, bubbles: true, cancelable: true })); }"""
    v.page.evaluate(drop, ["notes.txt", list(text.encode())])
    n = count(fluxd, text)
    expect(v.page.locator("#files .chip")).to_have_text(re.compile(rf"notes\.txt\s*{n} tokens"))
    expect(v.page.locator("#left")).to_have_text(re.compile(f"after these {n}$"))
    for name, data, why in (("cat.png", [0x89, 0x50, 0xff, 0xfe], "is not a text in UTF-8"), ("zero.txt", [65, 0, 66], "is not a text file"), ("none.txt", [], "is empty")):
        v.page.evaluate(drop, [name, data])
        expect(v.page.locator("#toast")).to_have_text(re.compile(f"{re.escape(name)} {why}"))
    v.page.set_input_files("#pick", {"name": "two.md", "mimeType": "text/markdown", "buffer": b"# Two"})
    expect(v.page.locator("#files .chip")).to_have_count(2)
    v.page.get_by_label("Leave out two.md").click()
    expect(v.page.locator("#files .chip")).to_have_count(1)
    v.say("Which word?", max_tokens=4)
    v.answered()
    assert v.bodies[0]["messages"] == [{"role": "user", "content": f'File "notes.txt":\n{text}\n\nWhich word?'}]
    v.page.get_by_label("Answer again").click()
    v.answered()
    expect(v.page.locator(".facts")).to_have_text(re.compile(r"\d+ cached"))


# --- keeping

def test_conversations_are_kept_exported_and_deleted(visit):
    v = visit()
    v.say("What is the capital of France?")
    v.answered()
    said = v.text()
    v.page.reload()
    v.ready()
    assert v.text() == said and v.page.locator("article.answer .facts").count() == 1
    v.page.keyboard.press("Alt+n")
    v.say("Hello", max_tokens=2)
    v.answered()
    expect(v.page.locator("#talks li")).to_have_count(2)
    with v.page.expect_download() as got:
        v.page.get_by_label('Export "What is the capital of France?"').click()
    with open(got.value.path()) as f:
        out = json.load(f)
    assert [m["role"] for m in out["messages"]] == ["user", "assistant"] and out["messages"][1]["content"] == said
    v.page.click("#tune")
    with v.page.expect_download() as got:
        v.page.click("#export")
    with open(got.value.path()) as f:
        assert [t["title"] for t in json.load(f)] == ["Hello", "What is the capital of France?"]
    v.page.keyboard.press("Escape")
    v.page.get_by_label('Delete "Hello"').click()
    expect(v.page.locator("#talks li")).to_have_count(1)
    v.page.get_by_role("button", name="Undo").click()
    expect(v.page.locator("#talks li")).to_have_count(2)
    v.page.click("#tune")
    v.page.click("#forget")
    expect(v.page.locator("#talks li")).to_have_count(0)
    assert v.page.evaluate("Object.keys(localStorage).filter(k => k.startsWith('fluxd.talk.')).length") == 0


def test_what_is_kept_is_bounded_and_the_oldest_go_first(visit):
    v = visit()
    got = v.page.evaluate("""() => {
        const make = (i, text) => ({ ...newTalk(""), id: "t" + i, at: i, title: "t" + i, turns: [{ role: "user", text, files: [] }] });
        for (let i = 0; i < KEEP_TALKS + 5; i++) keepTalk(make(i, "x"));
        const many = listTalks();
        for (let i = 0; i < 6; i++) keepTalk(make(1000 + i, "x".repeat(KEEP_CHARS / 4)));
        const large = listTalks();
        const fits = keepTalk(make(2000, "x".repeat(KEEP_CHARS + 1)));
        return { n: many.length, oldest: many[many.length - 1].id, chars: large.reduce((n, t) => n + t.chars, 0), most: KEEP_CHARS, newest: large[0].id, fits };
    }""")
    assert got["n"] == 100 and got["oldest"] == "t5" and got["newest"] == "t1005" and got["chars"] <= got["most"] and not got["fits"]


def test_storage_of_others_breaks_nothing(visit):
    v = visit()
    v.page.evaluate("""() => { for (const [k, x] of Object.entries({ a: "{", b: "null", c: '{"id":"c","title":1}', d: '{"id":"d","title":"d","at":1,"system":"","from":0,"turns":[{"role":"user","text":"x","files":[{}]}]}' }))
        localStorage.setItem("fluxd.talk." + k, x); localStorage.setItem("fluxd.set.sampling", "[1"); localStorage.setItem("fluxd.set.open", '"d"'); }""")
    v.page.reload()
    v.ready()
    expect(v.page.locator("#talks li")).to_have_count(0)


# --- Markdown

RENDER = "text => { const box = el('div'); new Markdown(box).set(text); return box.innerHTML; }"
MARKDOWN = [
    ("# One\n## Two #", "<h1>One</h1><h2>Two</h2>"),
    ("a *b* **c** ***d*** ~~e~~ `f*g*` _h_ i_j_k 2 * 3 * 4",
     "<p>a <em>b</em> <strong>c</strong> <strong><em>d</em></strong> <del>e</del> <code>f*g*</code> <em>h</em> i_j_k 2 * 3 * 4</p>"),
    ("a\nb\\\nc", "<p>a<br>b<br>c</p>"),
    ("- a\n- b\n  1. c\n  2. d\n\n- e", "<ul><li>a</li><li>b<ol><li>c</li><li>d</li></ol></li><li>e</li></ul>"),
    ("3. a\n4. b\n\ntext", '<ol start="3"><li>a</li><li>b</li></ol><p>text</p>'),
    ("- [ ] a\n- [x] b", '<ul><li class="task">☐ a</li><li class="task">☑ b</li></ul>'),
    ("> a\n> > b\n\nc", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>"),
    ("a\n---\n***\nb", "<p>a</p><hr><hr><p>b</p>"),
    ("\\*a\\* &lt;b&gt; <i>c</i> **open", "<p>*a* &lt;b&gt; &lt;i&gt;c&lt;/i&gt; **open</p>"),
    ("`` a`b `` and `open", "<p><code>a`b</code> and `open</p>"),
    ("[a](https://x.org/b_(c) \"t\") ![d](https://x.org/e.png)",
     '<p><a href="https://x.org/b_(c)" target="_blank" rel="noopener noreferrer"><span>a</span></a> '
     '<a href="https://x.org/e.png" target="_blank" rel="noopener noreferrer"><span>image: d</span></a></p>'),
    ("see https://x.org/a(b), ok", '<p>see <a href="https://x.org/a(b)" target="_blank" rel="noopener noreferrer">https://x.org/a(b)</a>, ok</p>'),
]
HOSTILE = ["<script>window.pwned=1</script>", "<img src=x onerror=window.pwned=1>", "[a](javascript:window.pwned=1)", "[a](JaVaScRiPt:window.pwned=1)",
           "[a](java\tscript:window.pwned=1)", "[a](\x01javascript:window.pwned=1)", "[a](data:text/html,<script>window.pwned=1</script>)", "[a](vbscript:x)",
           "[a](&#106;avascript:window.pwned=1)", "![a](javascript:window.pwned=1)", "![a](https://evil.example/pixel.png)", "<https://evil.example/\" onclick=window.pwned=1>",
           "[a](https://evil.example/\"onmouseover=\"window.pwned=1)", "```html\n<script>window.pwned=1</script>\n```", "```\"><script>window.pwned=1</script>\nx\n```",
           "|<img src=x onerror=window.pwned=1>|b|\n|-|-|\n|<svg onload=window.pwned=1>|[x](javascript:window.pwned=1)|", "<svg><style><img src=x onerror=window.pwned=1>",
           "# <iframe srcdoc='<script>parent.pwned=1</script>'>", "&lt;script&gt;window.pwned=1&lt;/script&gt;", "[<img src=x onerror=window.pwned=1>](https://x.org)",
           "> - <style>@import 'https://evil.example/x.css'</style>", "<base href=https://evil.example/>", "<form action=https://evil.example/><button>x</button></form>",
           "[a](blob:https://x.org/y)", "[a](file:///etc/passwd)", "[a](//evil.example/x)", "[a](/v1/models)"]
TAGS = set("A BLOCKQUOTE BR BUTTON CODE DEL DIV EM H1 H2 H3 H4 H5 H6 HEADER HR LI OL P PRE SPAN STRONG TABLE TBODY TD TH THEAD TR UL svg use".split())


def test_markdown_is_rendered(visit):
    v = visit()
    for text, html in MARKDOWN:
        assert v.page.evaluate(RENDER, text) == html, text
    code = v.page.evaluate("text => { const box = el('div'); new Markdown(box).set(text); return [box.querySelector('pre').textContent, box.querySelector('header span').textContent, [...box.querySelectorAll('code span')].map(s => s.className + s.textContent)]; }",
                           "```py\nif x: # <b>\n\ty = 'é' + 1\n```\nafter")
    assert code == ["if x: # <b>\n\ty = 'é' + 1", "py", ["kif", "c# <b>", "s'é'", "n1"]]
    table = v.page.evaluate(RENDER, "a | b\n:-- | --:\n1 | `2`\n3")
    assert "<thead><tr><th>a</th>" in table and '<td class="right"><code>2</code></td>' in table and table.endswith("<p>3</p>")


def test_no_answer_becomes_markup_script_or_request(visit):
    v = visit()
    before = len(v.asked)
    seen = v.page.evaluate("""texts => { const box = el("div"); document.getElementById("log").append(box); const out = [];
        for (const text of texts) for (const t of [text, "- " + text, "> " + text, "**" + text + "**", "| a |\\n|-|\\n| " + text + " |"]) {
            new Markdown(box).set(t); box.querySelectorAll("a, button").forEach(a => a.focus());
            for (const e of box.querySelectorAll("*")) out.push([t, e.tagName, [...e.attributes].map(a => a.name), e.getAttribute("href")]); box.replaceChildren(); }
        return out; }""", HOSTILE)
    assert len(seen) > 500
    for text, tag, attributes, href in seen:
        assert tag in TAGS, (text, tag)
        assert not [a for a in attributes if a.startswith("on") or a in ("style", "src", "srcdoc", "action")], (text, attributes)
        assert href is None or href.startswith(("https://", "#i-")), (text, href)
    v.page.evaluate("new Promise(done => setTimeout(done, 50))")
    assert v.page.evaluate("window.pwned") is None
    assert not [u for u in v.asked[before:] if "evil" in u]


def test_a_growing_answer_looks_like_a_whole_one(visit):
    v = visit()
    text = "\n\n".join(t for t, _ in MARKDOWN) + "\n\n```c\nint a;\n\nint b;\n```\n\na | b\n--|--\n1 | 2\n\n- x\n\n  y\n- z\n"
    different = v.page.evaluate("""text => { const whole = el("div"); new Markdown(whole).set(text); const bad = [];
        for (const step of [1, 2, 3, 7, 31]) { const box = el("div"), m = new Markdown(box); for (let n = step; n < text.length; n += step) m.set(text.slice(0, n)); m.set(text);
            if (box.innerHTML !== whole.innerHTML) bad.push(step); }
        return bad; }""", text)
    assert different == []


def test_rendering_is_linear_in_the_text(visit):
    """As assert_linear: the least of several runs at two sizes, until eight times the text costs at most three times eight as much."""
    v = visit()
    units = ["*", "**a ", "_a ", "`", "`a``", "[", "[a](", "![", "> ", "- ", "  - a\n", "a|", "|-", "\\", "&lt", "http://", "~~", "***a*", "# ", "```\n", "1. a\n\n", "<b>", "a\n"]
    slow = v.page.evaluate("""units => { const cost = (u, n) => { const text = u.repeat(n / u.length), box = el("div"), t = performance.now(); new Markdown(box).set(text); return performance.now() - t; };
        return units.filter(u => { let few = Infinity, many = Infinity;
            for (let i = 0; i < 12; i++) { few = Math.min(few, cost(u, 4000)); many = Math.min(many, cost(u, 32000)); if (i && many <= 24 * Math.max(few, 3)) return false; }
            return true; }); }""", units)
    assert slow == []


# --- the engine

def test_the_engine_tab_tells_what_metrics_tell_and_asks_for_nothing_else(visit, fluxd):
    v = visit()
    fluxd.post("/v1/completions", {"prompt": "word " * 300, "max_tokens": 24, "ignore_eos": True}, headers=AUTH)
    v.page.click("#tab-engine")
    m = scrape(fluxd)
    finished = sum(n for k, n in m.items() if k.startswith("fluxd_requests_finished_total"))
    tile = lambda name: v.page.locator("#tiles div", has_text=name).locator("dd span")
    expect(tile("Answers")).to_have_text(f"{finished:.0f}")
    expect(tile("Running")).to_have_text("0")
    heights = v.page.evaluate("[...document.querySelectorAll('.layers i')].map(i => parseFloat(i.style.height))")
    assert heights == pytest.approx([100 * m[f'fluxd_route_layer_full_total{{layer="{i}"}}'] / m["fluxd_requests_routed_total"] for i in range(30)], abs=0.01)
    label = lambda name: v.page.locator(f".chart svg[aria-label^='{name}']")
    for name, said in (("Requests", r"running \d+ · waiting \d+"), ("KV memory", r"full · .* sparse · .* idle"), ("Generated tokens", r"[\d.]+/s$"),
                       ("Gap between tokens", r"median [\d.]+ m?s · 95% [\d.]+ m?s"), ("Time to first token", r"median [\d.]+ m?s")):
        expect(label(name)).to_have_attribute("aria-label", re.compile(said))
    assert v.page.locator("figure path.c0[d*='L']").count() >= 5
    before = len(v.asked)
    wait_until(lambda: v.page.evaluate("1") and len(v.asked) - before >= 2)
    assert {u for u in v.asked[before:]} == {fluxd.url + "/metrics"}
    assert "SmolLM2" in v.page.locator("#about").inner_text() or "135M" in v.page.locator("#about").inner_text()


def test_quantiles_rates_and_lines_are_those_of_what_came_in(visit):
    v = visit()
    got = v.page.evaluate("""() => { const held = samples.slice(); samples.length = 0;
        const s = (t, generated, a, b, c) => ({ t, generated, gaps: [[0.1, a], [0.2, a + b], [Infinity, a + b + c]] });
        samples.push(s(0, 0, 100, 0, 0), s(10, 50, 100, 0, 0), s(20, 150, 100, 10, 0), s(21, 160, 110, 10, 20));
        const out = [quantileAt(2, "gaps", 0.5), quantileAt(0, "gaps", 0.5), quantileAt(3, "gaps", 0.25), quantileAt(3, "gaps", 0.99), rateAt(2, "generated"), rateAt(0, "generated")];
        const c = chart({ title: "T", format: count, series: [{ name: "a", at: i => samples[i].generated }] });
        c.draw();
        out.push(c.figure.querySelector("path[class=c0]").getAttribute("d"), c.figure.querySelector("svg").getAttribute("aria-label"));
        samples.length = 0; samples.push(...held); return out; }""")
    assert got[6:] == ["M265.0 100.0M281.7 75.0M298.3 25.0L300.0 20.0", "T, the last 3 minutes; now 160"]  # a pause is a gap
    assert got[:1] + got[2:5] == pytest.approx([0.15, 0.1, 0.2, 10]) and got[1] is None and got[5] is None


# --- the door

def test_the_key_is_asked_for_and_stays_in_the_tab(visit):
    v = visit(key=None)
    visit.allowed.append("401 (Unauthorized)")
    dialog = v.page.locator("#key-ask")
    expect(dialog).to_be_visible()
    for key, why in (("wrong", "was not accepted"), (KEY, None)):
        v.page.fill("#key", key)
        v.page.keyboard.press("Enter")
        if why:
            expect(v.page.locator("#key-why")).to_have_text(re.compile(why))
    v.ready()
    expect(dialog).to_be_hidden()
    assert v.page.evaluate("JSON.stringify(localStorage)").find(KEY) < 0 and v.page.evaluate("sessionStorage.getItem('key')") == KEY


def test_the_policy_names_what_runs_by_its_hash(visit, fluxd):
    policy = fluxd.get("/", headers={"Accept": "text/html"}).headers["Content-Security-Policy"]
    rules = dict(r.strip().split(" ", 1) for r in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["connect-src"] == "'self'" and rules["frame-ancestors"] == "'none'" and "unsafe" not in policy
    assert all(re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", rules[x]) for x in ("script-src", "style-src"))
    v = visit()
    visit.allowed.append("Content Security Policy")
    v.page.evaluate("""() => { const s = document.createElement("script"); s.textContent = "window.pwned = 1"; document.body.append(s);
        const b = document.createElement("div"); b.innerHTML = "<img src='data:,' onerror='window.pwned = 1'>"; document.body.append(b); }""")
    v.page.evaluate("fetch('https://evil.example/').catch(() => 0)")
    assert v.page.evaluate("window.pwned") is None and any("Content Security Policy" in e for e in v.errors)
    v.asked = [u for u in v.asked if "evil" not in u and not u.startswith("data:")]


# --- everybody

def test_the_keyboard_is_enough(visit):
    v = visit()
    focused = lambda: v.page.evaluate("document.activeElement.id || document.activeElement.className")
    assert focused() == "text"
    v.say("Hello", max_tokens=2)
    v.answered()
    v.page.keyboard.press("Alt+2")
    assert focused() == "tab-engine" and v.page.locator("#engine").is_visible()
    v.page.keyboard.press("ArrowLeft")
    assert focused() == "tab-chat" and v.page.locator("#chat").is_visible()
    v.page.keyboard.press("/")
    assert focused() == "text" and v.page.input_value("#text") == ""
    v.page.keyboard.press("Alt+,")
    expect(v.page.locator("#drawer")).to_be_visible()
    v.page.keyboard.press("Escape")
    expect(v.page.locator("#drawer")).to_be_hidden()
    v.page.evaluate("document.activeElement.blur()")
    seen = set()
    for _ in range(40):
        v.page.keyboard.press("Tab")
        seen.add(v.page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()"))
    assert {"To the message", "Chat", "Settings", "New conversation", "Hello", 'Delete "Hello"', "Conversation", "Edit message", "Copy answer", "Answer again", "Message", "Send"} <= seen
    v.page.keyboard.press("Alt+n")
    assert focused() == "text" and v.page.locator("article").count() == 0


def serious(page):
    found = Axe().run(page).response["violations"]
    return [(f["id"], [n["html"][:120] for n in f["nodes"]]) for f in found if f["impact"] in ("serious", "critical")]


ANSWER = "# Title\n\nText with `code`, [a link](https://x.org).\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\ndef f(x):\n    return 'long line' * 40  # " + "word " * 30 + "\n```\n\n" + "x" * 300


@pytest.mark.parametrize("scheme,width", [("light", 1100), ("dark", 360)])
def test_every_view_fits_and_is_accessible(visit, scheme, width):
    v = visit(color_scheme=scheme, viewport={"width": width, "height": 700})
    v.feed()
    answer = v.say("Hello")
    v.put(reasoning_content="Thinking")
    v.put(content=ANSWER)
    end_answer(v)
    fits = lambda: v.page.evaluate("""() => document.documentElement.scrollWidth <= innerWidth && [...document.querySelectorAll("#scroll, #engine, #side, dialog[open]")]
        .every(e => e.scrollWidth <= e.clientWidth)""")
    assert v.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    assert fits() and serious(v.page) == []
    v.page.click("#tab-engine")
    expect(v.page.locator("#about")).to_have_text(re.compile("layers"))
    assert fits() and serious(v.page) == []
    v.page.click("#tune")
    assert fits() and serious(v.page) == []
    v.page.keyboard.press("Escape")
    if width < 600:
        v.page.click("#menu")
        expect(v.page.get_by_role("button", name="New conversation")).to_be_focused()
        assert serious(v.page) == []
        v.page.keyboard.press("Escape")
    for role in ("banner", "navigation", "main") if width > 600 else ("banner", "main"):
        assert v.page.get_by_role(role).count() == 1
    assert answer.count() == 1


@pytest.mark.skipif("FLUXD_SHOTS" not in os.environ, reason="make screenshots")
def test_screenshots_are_made(chromium):
    s = Server("--router", ROUTER, "--threads", 0, "--served-model-name", "SmolLM2-135M-Instruct", model=REAL)
    out = os.environ["FLUXD_SHOTS"]
    v = Visit(chromium, s.url + "/", key="any", viewport={"width": 1100, "height": 720})
    v.page.set_input_files("#pick", os.path.join(ROOT, "docs/architecture.md"))
    expect(v.page.locator("#files .chip")).to_have_count(1)
    v.say("Summarize this document in a short paragraph.", temperature=0.3, seed=3, max_tokens=90)
    v.answered()
    v.say("Explain what a hash table is, with a short Python example.", temperature=0.3, seed=7, max_tokens=220)
    v.answered()
    v.page.fill("#text", "And how are collisions handled?")
    expect(v.page.locator("#left")).to_have_text(re.compile("after these"))
    v.page.screenshot(path=f"{out}/page-chat.png")
    v.page.emulate_media(color_scheme="dark")
    v.page.click("#tab-engine")
    expect(v.page.locator(".chart svg[aria-label^='Gap']")).to_have_attribute("aria-label", re.compile(r"median [\d.]+ m?s"))
    v.page.screenshot(path=f"{out}/page-engine.png")
    v.close()
    assert s.stop() == 0
