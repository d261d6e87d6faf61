"""No memory for an answer: whatever allocation fails, and whether it is one or every one from there on, a client can tell a cut answer from a whole one.
The server is tests/server/starve_app.c's (`make build/tests/server/starve_app`; STARVE_APP names another build)."""
import http.client
import json
import mmap
import os
import struct
import tempfile

import pytest

from conftest import ROOT, Server, need_binary

APP = os.environ.get("STARVE_APP", os.path.join(ROOT, "build/tests/server/starve_app"))
NEVER = 1 << 62


class Starving:
    """A server whose allocations can be made to fail, started again when it has ended for lack of memory."""

    def __init__(self):
        need_binary(APP)
        self.file = tempfile.NamedTemporaryFile()
        self.file.write(bytes(24))
        self.file.flush()
        self.shared = mmap.mmap(self.file.fileno(), 24)
        self.server = None
        self.n_start = 0

    def feed(self):
        struct.pack_into("qq", self.shared, 8, NEVER, NEVER)

    def asked(self):
        return struct.unpack_from("q", self.shared, 0)[0]

    def starve(self, k, every):
        """The k-th allocation from now on fails, or every one from it on."""
        first = self.asked() + k
        struct.pack_into("q", self.shared, 16, NEVER if every else first)
        struct.pack_into("q", self.shared, 8, first)

    def up(self):
        self.feed()
        if self.server is None or not self.server.alive():
            self.server = Server("--threads", "2", "--prefix-cache-bytes", "0", binary=APP, env={"STARVE_FILE": self.file.name})
            self.n_start += 1
        return self.server

    def close(self):
        self.feed()
        if self.server:
            self.server.kill()


@pytest.fixture(scope="module")
def starving():
    s = Starving()
    yield s
    s.close()


def gist(answer):
    """What of an answer, or of a frame, is the same each time."""
    return {k: v for k, v in answer.items() if k not in ("id", "created")}


def exchange(server, path, body, midway=None):
    """(status, frames or the answer, whether [DONE] came, whether HTTP says that it is whole). midway: run once the first frame is there."""
    conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        conn.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        r = conn.getresponse()
        data, whole = b"", True
        try:
            while part := r.read1(1 << 16):
                data += part
                if midway and b"\n\n" in data:
                    midway()
                    midway = None
        except (http.client.IncompleteRead, ConnectionError):
            whole = False
        if r.length:  # fewer bytes than were announced
            whole = False
        kind = r.getheader("Content-Type", "")
        assert kind.startswith(("text/event-stream", "application/json")), "a head that is not whole"
        if kind.startswith("application/json"):
            return r.status, json.loads(data) if whole else None, False, whole
        *frames, rest = data.split(b"\n\n")
        told = [f[6:] for f in frames if f.startswith(b"data: ")]
        done = bool(told) and told[-1] == b"[DONE]"
        assert not (whole and rest), rest
        return r.status, [json.loads(f) for f in told if f != b"[DONE]"], done, whole
    except (http.client.HTTPException, ConnectionError):
        return None, None, False, False
    finally:
        conn.close()


def text_of(frames):
    return ["".join(c.get("text") or c.get("delta", {}).get("content") or "" for f in frames for c in f["choices"] if c["index"] == i) for i in range(2)]


def check(got, want):
    """Whole and equal, or known to be neither."""
    status, answer, done, whole = got
    if status is None or not whole:
        assert not done or text_of(answer) == text_of(want[1]), "the mark of a whole answer is on a cut one"
        return False
    if status != 200:
        assert status in (500, 503) and set(answer) == {"error"}, got
        return False
    if isinstance(answer, dict):
        assert gist(answer) == gist(want[1])
        return True
    if "error" in answer[-1]:
        assert not done
        return False
    assert done, "a stream that ends like a whole one has its mark"
    assert text_of(answer) == text_of(want[1]) and gist(answer[-1]) == gist(want[1][-1])
    return True


ASKS = {
    "completion": ("/v1/completions", dict(prompt="Once upon a time", logprobs=2, echo=True, return_token_ids=True)),
    "chat": ("/v1/chat/completions", dict(messages=[{"role": "user", "content": "Hello \u4f60\u597d"}], logprobs=True, top_logprobs=2, stop=["zebra"], n=2)),
}


def some(n, most):
    """Of 0 .. n-1 at most so many, evenly."""
    return sorted({i * n // most for i in range(most)}) if n > most else range(n)


@pytest.mark.parametrize("every", [False, True], ids=["one", "every"])
@pytest.mark.parametrize("how", ["streamed", "streamed, midway", "whole"])
@pytest.mark.parametrize("kind", ASKS)
def test_a_client_can_tell_a_cut_answer_from_a_whole_one(starving, kind, how, every):
    path, fields = ASKS[kind]
    body = {**fields, "temperature": 0, "max_tokens": 6, "ignore_eos": True, "seed": 1}
    if how != "whole":
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    s = starving.up()
    exchange(s, path, body)
    marks = []
    begin = starving.asked()
    want = exchange(s, path, body, midway=lambda: marks.append(starving.asked()))
    n = starving.asked() - (marks[0] if how == "streamed, midway" else begin)
    assert want[0] == 200 and want[3] and n > 0
    cut = 0
    for k in some(n, 40):
        s = starving.up()
        if how == "streamed, midway":
            got = exchange(s, path, body, midway=lambda: starving.starve(k, every))
        else:
            starving.starve(k, every)
            got = exchange(s, path, body)
        starving.feed()
        cut += not check(got, want)
    assert cut > 0, "the shortage was felt"
    again = [exchange(starving.up(), path, body) for _ in range(2)]  # the first may meet one that is about to end
    assert check(again[-1], want), "with memory again all is as before"
    print(f"{n} allocations, {cut} answers cut, {starving.n_start} starts")
