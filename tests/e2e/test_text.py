"""Long texts and long answers: who sends them waits for himself alone, and what his answers hold is bounded."""
import contextlib
import json
import re
import socket
import statistics
import threading
import time

import pytest

from conftest import REAL, Server, check_error, need_binary, processor_s, seconds_of, wait_until

ATTACKERS = 6
BIG = (8 << 20) - 4096  # bytes of text in a body that is just allowed


def rss_mib(server):
    with open(f"/proc/{server.proc.pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) / 1024


@contextlib.contextmanager
def running(*flags, **more):
    need_binary()
    s = Server(*flags, **more)
    try:
        yield s
        assert s.stop() == 0
    finally:
        s.kill()


@pytest.fixture(scope="module")
def wide():
    """A million ids may be asked for."""
    with running("--max-detokenize-ids", 1_000_000) as s:
        yield s


@pytest.fixture(scope="module")
def real():
    """Its chats take as long as they do: those of the small model are over within a few slices of a processor's time."""
    with running("--max-detokenize-ids", 1_000_000, model=REAL) as s:
        yield s


def run_of(unit):
    return unit * (BIG // (len(json.dumps(unit, ensure_ascii=False).encode()) - 2))


def body_of(fields):
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def send_and_not_read(server, path, body):
    s = socket.create_connection(("127.0.0.1", server.port))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(120)
    s.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body)
    return s


def chat_s(server):
    return seconds_of(lambda: server.chat("hi", max_tokens=2))


# --- small bodies beside large ones

CROWDS = {
    "spaces": ("/tokenize", lambda: {"prompt": run_of(" ")}),
    "letters": ("/tokenize", lambda: {"prompt": run_of("a")}),
    "digits": ("/tokenize", lambda: {"prompt": run_of("1")}),
    "messages": ("/tokenize", lambda: {"messages": [{"role": "user", "content": run_of("\n ")}]}),
    "chat": ("/v1/chat/completions", lambda: {"messages": [{"role": "user", "content": run_of("- ")}], "truncate_prompt_tokens": 8, "max_tokens": 1}),
    "route": ("/v1/route", lambda: {"prompt": run_of("\t"), "truncate_prompt_tokens": 8}),
    "ids": ("/detokenize", lambda: {"tokens": [1] * 999_990}),
}


class Crowd:
    """Clients that send the same body again and again, each as soon as it has the head of an answer."""

    def __init__(self, server, path, body):
        self.server, self.path, self.body = server, path, body
        self.stop, self.heads = threading.Event(), []
        self.threads = [threading.Thread(target=self.attack) for _ in range(ATTACKERS)]

    def attack(self):
        while not self.stop.is_set():
            s = None
            try:
                s = send_and_not_read(self.server, self.path, self.body)
                s.settimeout(0.05)
                head = b""
                while len(head) < 12 and not self.stop.is_set():
                    try:
                        more = s.recv(12 - len(head))
                        if not more:
                            break
                        head += more
                    except TimeoutError:
                        pass
                if len(head) == 12:
                    self.heads.append(int(head[9:]))
            except OSError:
                pass  # a 503 while the body was on its way
            finally:
                if s:
                    s.close()

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *why):
        self.stop.set()
        for t in self.threads:
            t.join()


@pytest.mark.parametrize("kind", CROWDS)
def test_a_chat_beside_large_bodies_takes_at_most_3_times_its_time_alone(real, kind):
    path, make = CROWDS[kind]
    alone = statistics.median(chat_s(real) for _ in range(3))
    with Crowd(real, path, body_of(make())) as crowd:
        real.wait_metric("fluxd_preparations_open", lambda n: n >= ATTACKERS / 2, 60)
        beside = min(chat_s(real) for _ in range(3))  # a chat that waits for large ones takes many times that, each time
        assert real.metrics()["fluxd_preparations_open"] >= 1
    print(f"{kind}: alone {alone:.3f} s, beside {beside:.3f} s; answers to large ones: {sorted(crowd.heads)}")
    assert set(crowd.heads) <= {200, 503}
    assert beside <= 3 * alone
    real.wait_metric("fluxd_preparations_open", 0, 60)


# --- long answers

def test_long_answers_are_the_same_as_short_ones_put_together(wide):
    text = "Hello, 中文 \U0001f600 \"quoted\\\" \u0001\n" * 20_000
    r = wide.post("/tokenize", {"prompt": text, "return_token_strs": True})
    assert r.status_code == 200 and r.headers["Content-Type"] == "application/json"
    whole = r.json()
    assert whole["count"] == len(whole["tokens"]) == len(whole["token_strs"]) > 200_000
    names = {i: s for i, s in zip(whole["tokens"], whole["token_strs"])}
    assert [names[i] for i in whole["tokens"]] == whole["token_strs"]
    r = wide.post("/detokenize", {"tokens": whole["tokens"]})
    assert r.status_code == 200 and r.json() == {"prompt": text}
    assert len(r.content) > 65536


@pytest.mark.parametrize("path,body", [
    ("/detokenize", {"tokens": [46778] * 999_990}),  # the longest token: 80 bytes, 82 MB in all
    ("/tokenize", {"prompt": run_of("\u0001"), "return_token_strs": True}),
], ids=["detokenize", "tokenize"])
def test_answers_that_nobody_reads_hold_their_ids_alone(wide, path, body):
    """Bound: 4 bytes an id, one body, and 1 MiB, for each; and the work of one large body, which takes up to 64 bytes a byte."""
    data = body_of(body)
    n_id = len(body["tokens"]) if "tokens" in body else len(body["prompt"])
    r = wide.post(path, data=data, headers={"Content-Type": "application/json"}, stream=True)
    assert r.status_code == 200
    r.close()
    time.sleep(2)  # freed memory goes back within a second
    before, peak = rss_mib(wide), 0
    clients = [send_and_not_read(wide, path, data) for _ in range(ATTACKERS)]
    heads = [b""] * ATTACKERS
    for i, s in enumerate(clients):
        s.settimeout(120)
        while b"\r\n\r\n" not in heads[i]:
            heads[i] += s.recv(64)
            peak = max(peak, rss_mib(wide))
    time.sleep(1)
    peak = max(peak, rss_mib(wide))
    assert all(b" 200 " in h for h in heads), heads
    each = (4 * n_id + 2 * len(data)) / (1 << 20) + 1
    work = 64 * len(data) / (1 << 20)
    print(f"{path}: {before:.0f} MiB before, {peak:.0f} at the peak; {each:.0f} a client and {work:.0f} may be")
    assert peak - before <= each * ATTACKERS + work
    for s in clients:
        s.close()
    wide.chat("hi", max_tokens=2)


def test_answers_being_read_are_bounded_together():
    s = Server("--max-answers-bytes", "1M", "--client-answers-bytes", "1M", "--write-stall-ms", 60000)
    try:
        body = body_of({"prompt": "\u0001" * 200_000})  # a token each: 800,000 bytes
        first = send_and_not_read(s, "/tokenize", body)
        assert b" 200 " in first.recv(64)
        r = s.post("/tokenize", data=body, headers={"Content-Type": "application/json"})
        e = check_error(r, 503)
        assert "--max-answers-bytes" in e["message"] and r.headers["Retry-After"]
        assert s.post("/tokenize", {"prompt": "a b c"}).status_code == 200  # short answers hold nothing
        s.chat("hi", max_tokens=2)
        first.close()
        r = wait_until(lambda: (a := s.post("/tokenize", data=body, headers={"Content-Type": "application/json"})).status_code != 503 and a)
        assert r.status_code == 200 and r.json()["count"] == 200_000
        assert s.stop() == 0
    finally:
        s.kill()


def test_limits_of_text_are_400_and_named(server):
    rows = {row["name"]: row for row in server.get("/v1/limits").json()["data"]}
    most = rows["max_detokenize_ids"]["value"]
    assert most == rows["max_model_len"]["value"]
    assert server.post("/detokenize", {"tokens": [5] * most}).status_code == 200
    e = check_error(server.post("/detokenize", {"tokens": [5] * (most + 1)}), 400, param="tokens")
    assert "--max-detokenize-ids" in e["message"] and str(most) in e["message"]
    small = Server("--max-tokenize-bytes", 2048, "--max-detokenize-ids", 1_200_000)
    try:
        assert small.post("/tokenize", {"prompt": "a" * 2048}).status_code == 200
        for field, body in {"prompt": {"prompt": "a" * 2049}, "messages": {"messages": [{"role": "user", "content": "a" * 2048}]}}.items():
            e = check_error(small.post("/tokenize", body), 400, param=field)
            assert "--max-tokenize-bytes" in e["message"] and "2048" in e["message"]
        assert small.post("/detokenize", {"tokens": [5] * 1_200_000}).status_code == 200
        for more in 1, 600_000:  # one more, and beyond the values that a body has as a rule
            e = check_error(small.post("/detokenize", {"tokens": [5] * (1_200_000 + more)}), 400, param="tokens")
            assert "--max-detokenize-ids" in e["message"]
        assert small.stop() == 0
    finally:
        small.kill()


def test_who_leaves_the_lane_takes_his_body_along(wide):
    """Of many large bodies whose clients leave, the one in work comes to its end and no other is begun: a ratio, as all would take 6 times one."""
    body = body_of({"prompt": run_of("1")})
    start = processor_s(wide.proc)
    assert wide.post("/tokenize", data=body, headers={"Content-Type": "application/json"}).status_code == 200
    one = processor_s(wide.proc) - start
    clients = [send_and_not_read(wide, "/tokenize", body) for _ in range(ATTACKERS)]
    wide.wait_metric("fluxd_preparations_open", lambda n: n >= ATTACKERS - 2, 60)
    start = processor_s(wide.proc)
    for s in clients:
        s.close()
    wide.wait_metric("fluxd_preparations_open", 0)
    left = processor_s(wide.proc) - start
    assert left < 3.5 * one, (left, one)
