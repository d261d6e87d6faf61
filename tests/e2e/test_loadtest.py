"""The load generator against a scripted server: what it counts is what the server did, request by request. No model is needed."""
import asyncio
import collections
import contextlib
import glob
import html.parser
import json
import os
import re
import subprocess
import sys
import threading

import pytest

from conftest import BIN, REAL, ROOT, need_binary

FOLDER = os.path.join(ROOT, "loadtest")
sys.path.insert(0, FOLDER)
import measure  # noqa: E402
from report import distribution, token_rate, write_report  # noqa: E402
from scenario import WORDS, ScenarioError, load_scenario  # noqa: E402

SHIPPED = sorted(glob.glob(f"{FOLDER}/scenarios/*.toml"))
CONTEXT = 4000


class Scripted:
    """An OpenAI-compatible server that answers max_tokens words, one a frame, and says its usage. fail(n) may name another fate for request n."""

    def __init__(self, fail=lambda n: None):
        self.fail, self.bodies, self.open, self.most_open = fail, [], 0, 0
        self.cached = 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=1 << 22)
        return self.server.sockets[0].getsockname()[1]

    def __enter__(self):
        self.thread.start()
        self.url = f"http://127.0.0.1:{asyncio.run_coroutine_threadsafe(self.start(), self.loop).result(10)}"
        return self

    def __exit__(self, *why):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    async def serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            body = await reader.readexactly(int(re.search(r"Content-Length: (\d+)", head)[1]))
            if head.startswith("GET"):
                text = json.dumps({"data": [{"id": "scripted", "max_model_len": CONTEXT}]}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
            else:
                self.open += 1
                self.most_open = max(self.most_open, self.open)
                try:
                    await self.answer(writer, json.loads(body))
                finally:
                    self.open -= 1
            await writer.drain()
        writer.close()

    async def answer(self, writer, body):
        n = len(self.bodies)
        self.bodies.append(body)
        fate = self.fail(n)
        if isinstance(fate, int):
            writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % fate)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        words = sum(len(m["content"].split()) for m in body["messages"])
        frames = [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]
        frames += [{"choices": [{"index": 0, "delta": {"content": f"{WORDS[i % len(WORDS)]} "}}]} for i in range(body["max_tokens"])]
        if fate == "error":
            frames = [*frames[:2], {"error": {"message": "broken", "type": "server_error", "param": None, "code": "x"}}]
        route = {"full_layers": 3, "sparse_layers": 9}
        usage = {"prompt_tokens": words, "completion_tokens": body["max_tokens"], "prompt_tokens_details": {"cached_tokens": words // 2}, "attention_route": route}
        for frame in frames:
            writer.write(b"data: " + json.dumps(frame).encode() + b"\n\n")
            await writer.drain()
            await asyncio.sleep(0)
        if fate is None:
            writer.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n")


def run(server, tmp_path, *args, code=0):
    done = subprocess.run([sys.executable, f"{FOLDER}/run.py", *([server.url] if server else []), *map(str, args), "--out", str(tmp_path)],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def result(tmp_path, name):
    with open(tmp_path / f"{name}.json") as f:
        return json.load(f)


def write_scenario(tmp_path, text, name="mine"):
    path = tmp_path / f"{name}.toml"
    path.write_text(text)
    return path


CLOSED = '''
sessions = 7
warmup = 2
seed = 5
[arrivals]
kind = "closed"
clients = 3
[[kinds]]
name = "talk"
turns = "2-4"
shared_tok = 50
first_tok = "10-20"
more_tok = "5-9"
answer_tok = "3-6"
'''


def test_counts_are_the_servers(tmp_path):
    with Scripted() as server:
        run(server, tmp_path, write_scenario(tmp_path, CLOSED))
    r = result(tmp_path, "mine")
    rows, s = r["rows"], r["summary"]
    warm = len(server.bodies) - len(rows)
    measured = server.bodies[warm:]
    assert {row["session"] for row in rows} == set(range(7)) and warm >= 2 * 2
    assert s["requests"] == s["answered"] == len(measured) and s["failed"] == {}
    assert s["answer_tok"] == sum(b["max_tokens"] for b in measured)
    assert s["prompt_tok"] == sum(len(m["content"].split()) for b in measured for m in b["messages"])
    assert s["cached_tok"] == sum(sum(len(m["content"].split()) for m in b["messages"]) // 2 for b in measured)
    assert s["full_layer_share"] == 3 / 12
    assert s["ttft_ms"]["n"] == s["e2e_ms"]["n"] == len(measured) and s["gap_ms"]["n"] == sum(b["max_tokens"] - 1 for b in measured)
    assert server.most_open <= 3
    assert all(b["model"] == "scripted" and b["stream"] and b["ignore_eos"] for b in measured)


def test_saved_bodies_are_what_was_sent(tmp_path):
    with Scripted() as server:
        run(server, tmp_path, write_scenario(tmp_path, CLOSED.replace("warmup = 2", "warmup = 0")), "--save-bodies")
    files = sorted(glob.glob(f"{tmp_path}/mine-bodies/*.jsonl"))
    saved = [[json.loads(line) for line in open(f)] for f in files]
    assert len(files) == 7 and sorted(map(json.dumps, sum(saved, []))) == sorted(map(json.dumps, server.bodies))
    assert all(b["messages"][:-2] == a["messages"] for session in saved for a, b in zip(session, session[1:]))


def test_a_turn_begins_with_all_of_the_turn_before_and_its_answer(tmp_path):
    with Scripted() as server:
        run(server, tmp_path, write_scenario(tmp_path, CLOSED.replace("clients = 3", "clients = 1").replace("warmup = 2", "warmup = 0")))
    bodies, rows = iter(server.bodies), result(tmp_path, "mine")["rows"]
    by_session = collections.defaultdict(list)
    for row, body in zip(rows, bodies, strict=True):
        by_session[row["session"]].append(body)
    firsts = set()
    for turns in by_session.values():
        assert 2 <= len(turns) <= 4
        firsts.add(turns[0]["messages"][0]["content"])
        for a, b in zip(turns, turns[1:]):
            answer = " ".join(WORDS[i % len(WORDS)] for i in range(a["max_tokens"])) + " "
            assert b["messages"][:-1] == [*a["messages"], {"role": "assistant", "content": answer}]
            assert 5 <= len(b["messages"][-1]["content"].split()) <= 9
    assert len(firsts) == 1 and len(firsts.pop().split()) == 50


def test_the_same_seed_sends_the_same_bytes_and_another_does_not(tmp_path):
    sent = []
    for seed in (5, 5, 6):
        with Scripted() as server:
            run(server, tmp_path, write_scenario(tmp_path, CLOSED.replace("clients = 3", "clients = 1")), "--seed", seed)
        sent.append(server.bodies)
    assert sent[0] == sent[1] != sent[2]


def test_failures_are_counted_by_reason_end_their_session_and_the_exit_tells(tmp_path):
    fates = {2: 429, 4: 503, 5: "error", 6: "cut", 9: 429}
    with Scripted(lambda n: fates.get(n)) as server:
        text = run(server, tmp_path, write_scenario(tmp_path, CLOSED.replace("warmup = 2", "warmup = 0").replace('"2-4"', "3").replace("clients = 3", "clients = 1")), code=1)
    s = result(tmp_path, "mine")["summary"]
    assert s["failed"]["429"] == 2 and s["failed"]["503"] == 1 and sum(s["failed"].values()) == 5
    assert any("broken" in why for why in s["failed"]) and any("[DONE]" in why for why in s["failed"])
    rows = result(tmp_path, "mine")["rows"]
    for session in range(7):
        mine = [r for r in rows if r["session"] == session]
        assert [r["turn"] for r in mine] == list(range(1, len(mine) + 1))
        assert not any(r["error"] for r in mine[:-1]) and (len(mine) == 3 or mine[-1]["error"])
    assert s["answered"] == len(rows) - 5 and "failed 2 x 429" in text


def test_an_unreachable_server_and_a_failing_warm_up_are_said(tmp_path):
    with Scripted(lambda n: 401) as server:
        assert "the warm-up fails: 401" in run(server, tmp_path, write_scenario(tmp_path, CLOSED), code=1)
        server.url = "http://127.0.0.1:9"
        assert "127.0.0.1:9" in run(server, tmp_path, code=1)


@pytest.mark.parametrize("path", SHIPPED, ids=os.path.basename)
def test_shipped_scenarios_fit_any_context_and_keep_their_proportions(path):
    for context in (2048, 8192, 32768, 1 << 20):
        s, whole = load_scenario(path), load_scenario(path)
        factor = s.shrink(context)
        assert all(k.longest_tok() <= context for k in s.kinds) and 0 < factor <= 1
        for k, w in zip(s.kinds, whole.kinds):
            assert abs(k.end_tok - w.end_tok * factor) <= w.end_tok * (1 - factor) / 1000 + 1 or factor == 1 or len(s.kinds) > 1
        for session in s.draw(3, 1):
            text, words = "", 0
            while body := session.next_body(text):
                words = sum(len(m["content"].split()) for m in body["messages"])
                assert words + body["max_tokens"] <= context
                text = "word " * body["max_tokens"]
            if session.kind.end_tok:
                assert session.kind.end_tok * 0.98 <= words <= session.kind.end_tok * 1.02 + 10


def test_agents_are_43_turns_behind_one_prompt_that_grow_evenly():
    s = load_scenario(os.path.join(FOLDER, "scenarios/agents.toml"))
    sizes, heads = [], set()
    for session in s.draw(2, 9):
        text, turns = "", []
        while body := session.next_body(text):
            turns.append(sum(len(m["content"].split()) for m in body["messages"]))
            heads.add(body["messages"][0]["content"])
            text = "word " * body["max_tokens"]
        assert len(turns) == 43 and 141_000 < turns[-1] < 143_000
        steps = [b - a for a, b in zip(turns, turns[1:])]
        assert max(steps) < 2 * min(steps)
        sizes.append(turns)
    assert len(heads) == 1


def test_poisson_arrivals_have_their_rate_and_spread_and_bursts_their_size():
    s = load_scenario("open.toml", 'sessions = 1\narrivals = {kind = "open", rate = 4}\nkinds = [{first_tok = 3}]')
    times = s.start_times(20_000, 3)
    gaps = [b - a for a, b in zip(times, times[1:])]
    mean = sum(gaps) / len(gaps)
    assert times[0] == 0 and abs(mean - 0.25) < 0.01
    assert abs(sum((g - mean) ** 2 for g in gaps) / len(gaps) / mean**2 - 1) < 0.06, "an exponential's variance is its mean's square"
    b = load_scenario("bursts.toml", 'sessions = 1\narrivals = {kind = "bursts", size = 3, every_s = 2}\nkinds = [{first_tok = 3}]')
    assert b.start_times(7, 3) == [0, 0, 0, 2, 2, 2, 4]


def test_open_arrivals_wait_for_nobody(tmp_path):
    """All sessions of a burst are open at once, though none has been answered."""
    text = 'sessions = 12\narrivals = {kind = "bursts", size = 12, every_s = 1}\nkinds = [{first_tok = 5, answer_tok = 200}]'
    with Scripted() as server:
        run(server, tmp_path, write_scenario(tmp_path, text))
    rows = result(tmp_path, "mine")["rows"]
    assert len(rows) == len(server.bodies) == 12 and server.most_open > 3 and {r["planned_s"] for r in rows} == {0}


@pytest.mark.parametrize("old, new, names", [
    ("sessions = 7", "session = 7", "session: no such key"), ("sessions = 7", "sessions = 0", "sessions"), ('kind = "closed"', 'kind = "ajar"', "arrivals.kind"),
    ("clients = 3", "clients = 0", "clients"), ("clients = 3", "rate = 3", "arrivals.rate"), ('"2-4"', '"4-2"', "kinds[0].turns"), ('"3-6"', "0", "answer_tok"),
    ("shared_tok = 50", "shared_tok = 50\nend_tok = 40", "end_tok"), ("shared_tok = 50", "shared_tok = -1", "shared_tok"), ("[[kinds]]", "[kinds]", "kinds"),
    ('"10-20"', '"ten"', "first_tok"), ("seed = 5", "seed = ", "line"), ("seed = 5", 'seed = "x"', "seed"),
])
def test_a_wrong_scenario_is_refused_by_its_key(tmp_path, old, new, names):
    assert old in CLOSED
    with Scripted() as server:
        text = run(server, tmp_path, write_scenario(tmp_path, CLOSED.replace(old, new)), code=2)
    assert names in text and "Traceback" not in text and server.bodies == []


def row(i, ttft, gaps, error="", kind="a", tok=None):
    return {"session": i, "turn": 1, "kind": kind, "planned_s": None, "sent_s": float(i), "ended_s": i + (ttft + sum(gaps)) / 1e3, "status": 200, "error": error,
            "ttft_ms": ttft, "gaps_ms": gaps, "e2e_ms": ttft + sum(gaps), "prompt_tok": 10, "cached_tok": 4, "answer_tok": tok or len(gaps) + 1, "full_layers": 1, "layers": 4}


def test_percentiles_and_goodput_are_their_definitions():
    assert [measure.quantile(range(1, 101), q) for q in (0.5, 0.9, 0.95, 0.99, 1)] == [50, 90, 95, 99, 100] and measure.quantile([7], 0.5) == 7
    rows = [row(0, 100, [10] * 9), row(1, 900, [10] * 9), row(2, 100, [10, 500]), row(3, 100, [10] * 9, error="gone"), row(4, 100, [])]
    s = measure.summarize(rows, {"ttft_ms": 500, "gap_ms": 50, "e2e_ms": 0})
    assert (s["requests"], s["answered"], s["met"], s["met_share"]) == (5, 4, 2, 0.4) and s["failed"] == {"gone": 1}
    assert s["prompt_tok"] == 40 and s["cached_tok"] == 16 and s["answer_tok"] == 10 + 10 + 3 + 1
    assert s["wall_s"] == 4.1 and s["goodput_s"] == 2 / 4.1 and s["gap_ms"]["n"] == 20 and s["gap_ms"]["max"] == 500
    assert measure.summarize(rows, {"ttft_ms": 0, "gap_ms": 0, "e2e_ms": 0})["met"] == 4 and measure.summarize(rows, {"ttft_ms": 0, "gap_ms": 0, "e2e_ms": 200})["met"] == 2


def test_two_results_differ_only_where_the_medians_do():
    objectives = {"ttft_ms": 0.0, "gap_ms": 0.0, "e2e_ms": 0.0}

    def made(factor):
        rows = [row(i, factor * (90 + i % 21), [10 + i % 5] * 9) for i in range(60)]
        return {"rows": rows, "summary": measure.summarize(rows, objectives)}

    verdicts = {name: verdict for name, _, _, verdict in measure.compare(made(1), made(1.5))}
    assert verdicts["ttft_ms p50"].endswith("slower") and "x 1.50" in verdicts["ttft_ms p50"] and verdicts["gap_ms p50"].endswith("no difference seen")
    assert {n: v for n, _, _, v in measure.compare(made(1.5), made(1))}["ttft_ms p50"].endswith("faster")


class Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.outside, self.tags = [], collections.Counter()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.outside += [(tag, k, v) for k, v in attrs if k in ("src", "href", "srcset", "action", "data", "poster") or "url(" in (v or "")]


def test_the_report_opens_without_network_and_escapes_what_it_was_given(tmp_path):
    with Scripted() as server:
        run(server, tmp_path, write_scenario(tmp_path, CLOSED + '[[kinds]]\nname = "<script>alert(1)</script>"\nweight = 2\n'), "chat", "--sessions", 5)
    one = tmp_path / "mine.json"
    out = run(None, tmp_path, "--compare", one, one)
    assert "no difference seen" in out
    for name in ("report.html", "compare.html"):
        text = (tmp_path / name).read_text()
        links = Links()
        links.feed(text)
        assert links.outside == [] and links.tags["script"] == 0 and "<script" not in text and "&lt;script&gt;" in text and "http-equiv" in text
        assert links.tags["svg"] >= 5 and "default-src 'none'" in text
    assert "no result of this program" in run(None, tmp_path, "--compare", one, write_scenario(tmp_path, '{"format": 99}', "x"), code=2)


def test_plots_hold_all_that_was_measured():
    values = [float(v) for v in range(1, 1001)]
    points = distribution(values)
    assert points[-1] == (1000.0, 1.0) and len(points) <= 502 and all(y == x / 1000 for x, y in points)
    rows = [row(i, 100, [50] * 9) for i in range(7)]
    rate = token_rate(rows)
    width = rate[1][0] - rate[0][0]
    assert abs(sum(v for _, v in rate) * width - 70) < 2
    assert token_rate([row(0, 1, [], error="x")]) == []


def test_an_empty_result_makes_a_report_too(tmp_path):
    rows = [row(0, 1, [], error="x")]
    r = {"scenario": "s", "model": "m", "url": "u", "started": "t", "seed": 0, "scale": 1.0, "arrivals": {"kind": "open"}, "objectives": {}, "rows": rows}
    r.update(summary=measure.summarize(rows, {}), kinds=measure.by_kind(rows, {}))
    write_report(tmp_path / "r.html", [("s", r)])
    assert "failed: 1 x x" in (tmp_path / "r.html").read_text()


def test_a_server_of_its_own_is_started_counted_and_stopped(tmp_path):
    need_binary()
    text = 'sessions = 2\narrivals = {kind = "closed"}\nkinds = [{turns = 2, first_tok = 9, more_tok = 3, answer_tok = 2}]'
    run(None, tmp_path, "--serve", f"{BIN} --model {REAL}", write_scenario(tmp_path, text))
    r = result(tmp_path, "mine")
    assert r["summary"]["answered"] == 4 and r["summary"]["answer_tok"] == 8 and r["summary"]["full_layer_share"] == 1 and r["context"] > 2000
    assert "before it was ready" in run(None, tmp_path, "--serve", f"{BIN} --model {tmp_path}/none.gguf", code=1)
