"""Every call that can fail is failed once: allocations, files, maps, sockets, threads, polling, libuv's (tests/server/starve_app.c and
torture_calls.c). The law: a clear error or a clean exit, nothing leaked, nothing hung, DONE once, and the next request is served.

    make torture                     all places, in the plain and in the sanitizers' build
    torture.py [--every N] [--phase NAME ...]

A run without failures notes the places of a phase (what is called, and from where); then each place fails once, in a run of its own. A second
turn lets every call of the place fail from its first on. test_torture.py takes a few of each phase.
"""
import argparse
import collections
import concurrent.futures
import contextlib
import ctypes
import json
import mmap
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import requests

sys.path.insert(0, os.path.dirname(__file__))
from conftest import MODEL, ROOT, free_port, launch, read_log, wait_until

APP = os.environ.get("TORTURE_APP", os.path.join(ROOT, "build/torture/tests/server/starve_app"))
KINDS = ("memory", "file", "map", "socket", "thread", "poll", "uv")
N_SITE, FRAMES, HEAD = 1 << 14, 6, 64
SITE = struct.Struct("<QII6Q")
NEVER = 1 << 62
CODES = (2, 3, 4, 70, 71)
SHORT_OF_S = 2
END_S = 60  # only ends what hangs
NO_RANDOM_ADDRESSES = 0x0040000
LIBC = ctypes.CDLL(None)


def before_exec():
    LIBC.personality(NO_RANDOM_ADDRESSES)


class Site(collections.namedtuple("Site", "hash n kind frames")):
    def __str__(self):
        return f"{KINDS[self.kind]} {' < '.join(names(f) for f in self.frames if f)}"



_names, _libs, _first = {}, [], {}


def know_libraries(pid):
    """Where they lie, which is the same in each run."""
    first = {}
    for line in open(f"/proc/{pid}/maps").read().splitlines():
        at, *_, path = line.split()
        begin, end = (int(x, 16) for x in at.split("-"))
        if ".so" in path:
            first.setdefault(path, begin)
            _libs.append((begin, end, path))
    _first.update(first)


def names(address):
    """function file:line of an address of the program; the address elsewhere."""
    if address not in _names:
        lib = next((l for b, e, l in _libs if b <= address < e), APP)
        base = _first.get(lib, 0)
        out = subprocess.run(["addr2line", "-sfe", lib, hex(address - base - 1)], capture_output=True, text=True).stdout.split()
        _names[address] = " ".join(out) if out and out[0] != "??" else f"{os.path.basename(lib)}+{address - base:#x}"
    return _names[address]


class Room:
    """The file that is shared with the server."""

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile()
        self.size = HEAD + N_SITE * SITE.size
        self.file.truncate(self.size + 4096)
        self.map = mmap.mmap(self.file.fileno(), self.size)
        self.calm()

    def calm(self):
        struct.pack_into("<qqQ", self.map, 8, NEVER, NEVER, 0)

    def note(self, on=True):
        struct.pack_into("<Q", self.map, 32, (1 << len(KINDS)) - 1 if on else 0)

    def forget(self):
        self.map[HEAD:self.size] = bytes(self.size - HEAD)

    def arm(self, site, every):
        """From now on its first call fails, or every one."""
        self.forget()
        struct.pack_into("<qqq", self.map, 40, 0, int(every), 0)
        struct.pack_into("<Q", self.map, 24, site.hash)
        self.note()

    def felt(self):
        return struct.unpack_from("<q", self.map, 56)[0]

    def sites(self):
        found = []
        for i in range(N_SITE):
            h, n, kind, *frames = SITE.unpack_from(self.map, HEAD + i * SITE.size)
            if h:
                found.append(Site(h, n, kind, tuple(frames)))
        return sorted(found)


class Breach(AssertionError):
    pass


def expect(test, what):
    if not test:
        raise Breach(what)


class App:
    """One run of the server. It leaves nothing behind when closed, whatever happened."""

    def __init__(self, room, *flags, armed=None, every=False):
        self.room, self.port = room, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        room.calm()
        room.note(False)
        if armed:
            room.arm(armed, every)
        else:
            room.forget()
            room.note()
        args = ["--model", MODEL, "--port", self.port, "--device", "cpu", "--threads", 1, "--kv-pool-bytes", "100M", "--health-timeout-ms", "60000", *flags]
        self.proc, self.log = launch(*args, binary=APP, preexec_fn=before_exec,
                                     env={"STARVE_FILE": room.file.name, "ASAN_OPTIONS": "detect_leaks=1:exitcode=86:allocator_may_return_null=1"})

    def text(self):
        return read_log(self.log)

    def ready(self):
        with contextlib.suppress(requests.RequestException):
            return requests.get(self.url + "/ready", timeout=5).status_code == 200
        return False

    def settle(self):
        """True once it is ready, False when it has ended. What it needs to be asked at all comes back after a while."""
        ended_or_ready = lambda: self.proc.poll() is not None or self.ready()
        with contextlib.suppress(AssertionError):
            wait_until(ended_or_ready, timeout=SHORT_OF_S)
        self.room.calm()
        try:
            wait_until(ended_or_ready, timeout=END_S)
        except AssertionError:
            raise Breach("it hangs at the start: " + self.text()[-2000:]) from None
        return self.proc.poll() is None

    def end(self):
        """Its exit status; it is told to end if it has not."""
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        try:
            return self.proc.wait(END_S)
        except subprocess.TimeoutExpired:
            raise Breach("it does not end: " + self.text()[-2000:]) from None

    def check_end(self, codes=(0,)):
        code = self.end()
        text = self.text()
        expect("Sanitizer" not in text and "runtime error" not in text, "the sanitizer: " + text[-6000:])
        expect(code in codes, f"exit status {code}: {text[-2000:]}")
        return code

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.log.close()


# --- requests

SHORT = {"max_tokens": 4, "temperature": 0, "ignore_eos": True, "seed": 1}
SAY = {"messages": [{"role": "user", "content": "Hello \u4f60\u597d"}]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object", "properties": {"a": {"enum": ["b", "c"]}}, "required": ["a"]}}}
ASKS = {
    "completion": ("POST", "/v1/completions", {"prompt": ["Once upon", "Once upon a time"], "n": 2, "logprobs": 2, "echo": True, "bad_words": ["the"], **SHORT}),
    "chat": ("POST", "/v1/chat/completions", {**SAY, "logprobs": True, "top_logprobs": 2, "stop": ["zebra"], **SHORT}),
    "stream": ("POST", "/v1/chat/completions", {**SAY, "stream": True, "stream_options": {"include_usage": True}, "n": 2, **SHORT}),
    "tools": ("POST", "/v1/chat/completions", {**SAY, "tools": [TOOL], "tool_choice": "required", **SHORT}),
    "schema": ("POST", "/v1/chat/completions", {**SAY, "response_format": SCHEMA, **SHORT, "max_tokens": 12}),
    "messages": ("POST", "/v1/messages", {**SAY, "system": "Be kind", "max_tokens": 4, "temperature": 0, "ignore_eos": True, "stream": True}),
    "responses": ("POST", "/v1/responses", {"input": "Hello", "max_output_tokens": 4, "temperature": 0, "ignore_eos": True}),
    "tokenize": ("POST", "/tokenize", {"prompt": "Hello \u4f60\u597d", "return_token_strs": True}),
    "detokenize": ("POST", "/detokenize", {"tokens": [1, 2, 300, 4000]}),
    "route": ("POST", "/v1/route", {"prompt": "Hello", "max_tokens": 9}),
    "metrics": ("GET", "/metrics", None),
    "openapi": ("GET", "/openapi.json", None),
    "limits": ("GET", "/v1/limits", None),
    "models": ("GET", "/v1/models", None),
    "page": ("GET", "/", None),
}
VOLATILE = ("id", "created", "created_at", "completed_at", "request_id", "item_id", "response_id")


def gist(x):
    """What of an answer is the same each time."""
    if isinstance(x, dict):
        return {k: gist(v) for k, v in x.items() if k not in VOLATILE}
    return [gist(v) for v in x] if isinstance(x, list) else x


def told(frames):
    """What a stream says, however it was cut into frames: texts by choice, ends, usage, marks."""
    text, rest = collections.defaultdict(str), []
    for f in frames:
        if not isinstance(f, dict):
            rest.append(f)
            continue
        for c in f.get("choices") or []:
            d = c.get("delta") or c
            text[c["index"]] += d.get("content") or d.get("text") or ""
            if c.get("finish_reason"):
                rest.append((c["index"], c["finish_reason"]))
        if f.get("type") == "content_block_delta":
            text[f["index"]] += f["delta"].get("text", "")
        elif f.get("type") and f["type"] not in ("ping", "message_start"):  # which says how many tokens there were by then
            rest.append(f)
        if f.get("usage") and "choices" in f:
            rest.append({k: v for k, v in f["usage"].items() if k != "prompt_tokens_details"})
    return dict(text), sorted(map(str, rest))


def whole(x):
    """Without what the prefix cache changes."""
    if isinstance(x, dict):
        return {k: whole(v) for k, v in x.items() if k not in ("prompt_tokens_details", "input_tokens_details", "cache_read_input_tokens", "input_tokens")}
    return told(x) if isinstance(x, list) else x


def ask(app, method, path, body):
    """(status, answer), (status, frames), or None: the connection was cut."""
    relief = threading.Timer(SHORT_OF_S, app.room.calm)  # a server that nobody can reach says nothing
    relief.start()
    try:
        with requests.Session() as s:
            r = s.request(method, app.url + path, json=body, timeout=END_S, headers={"Connection": "close"})
    except requests.Timeout:
        raise Breach(f"no answer to {path}") from None
    except requests.RequestException:
        return None
    finally:
        relief.cancel()
    kind = r.headers.get("Content-Type", "")
    if kind.startswith("text/event-stream"):
        *frames, rest = r.text.split("\n\n")
        data = [f.split("data: ", 1)[1] for f in frames if "data: " in f]
        return r.status_code, [f if f == "[DONE]" else gist(json.loads(f)) for f in data] + ([rest] if rest else [])
    if kind.startswith("application/json"):
        return r.status_code, gist(json.loads(r.text))
    return r.status_code, r.text if path != "/metrics" else len(r.text) > 1000


def check_answer(got, want, path):
    if got is None:
        return "cut"
    status, answer = got
    if status != 200:
        expect(status in (429, 500, 503) and "error" in answer, f"a refusal that says nothing: {got}")
        return "refused"
    if path == "/metrics":
        return "whole"
    if isinstance(answer, list) and isinstance(want[1], list):
        failed = any(isinstance(f, dict) and (f.get("error") or f.get("type") == "error") for f in answer)
        expect(answer.count("[DONE]") <= 1 and not (failed and "[DONE]" in answer), f"an end that is none: {answer}")
        if failed:
            return "failed midway"
    expect(whole(answer) == whole(want[1]), f"another answer: {str(whole(answer))[:600]}\nnot {str(whole(want[1]))[:600]}")
    return "whole"


class Tally:
    def __init__(self, turns=(False, True)):
        """turns: whether all calls of a place fail, from the first on."""
        self.turns = turns
        self.sites, self.ends, self.breaches = 0, collections.Counter(), []

    def add(self, phase, site, every, end):
        self.sites += 1
        self.ends[f"{phase}: {end}"] += 1

    def breach(self, phase, site, every, why):
        self.breaches.append((phase, str(site), every, str(why)))
        print(f"BREACH {phase}{' every' if every else ''}: {site}\n    {why}", flush=True)


def some(things, every_nth, seed=0):
    things = list(things)
    return things if every_nth <= 1 else sorted(random.Random(seed).sample(things, max(1, len(things) // every_nth))) if things else things


def torture_start(tally, every_nth):
    room = Room()
    app = App(room)
    expect(app.settle(), app.text())
    sites = room.sites()
    know_libraries(app.proc.pid)
    app.check_end()
    app.kill()
    sites = [s for s in sites if "libcudart" not in str(s)]  # CUDA's own library fails there, as OpenMP's does
    print(f"start: {len(sites)} places", flush=True)

    def one(site, every, room):
        app = App(room, armed=site, every=every)
        try:
            if app.settle():
                got = ask(app, *ASKS["completion"])
                expect(got and got[0] == 200, f"ready, but {got}")
                app.check_end()
                return "served"
            code = app.check_end(CODES)
            said = [x for x in app.text().splitlines() if x.startswith("fluxd: ")]
            expect(len(said) == 1, f"status {code} without a line that says why: {app.text()[-1500:]}")
            return f"exit {code}"
        finally:
            app.kill()

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        rooms = [room, Room()]

        def take(job):
            i, site, every = job
            mine = rooms.pop()
            try:
                end = one(site, every, mine)
                tally.add("start", site, every, end if mine.felt() else "not met")
            except Breach as why:
                tally.breach("start", site, every, why)
            finally:
                rooms.append(mine)

        list(pool.map(take, [(i, s, e) for e in tally.turns for i, s in enumerate(some(sites, every_nth, e))]))


def torture_ask(name, tally, every_nth):
    method, path, body = ASKS[name]
    room = Room()
    app = None

    def up():
        nonlocal app
        if app is None or app.proc.poll() is not None:
            if app:
                app.kill()
            app = App(room)
            room.note(False)
            expect(app.settle(), app.text())
            know_libraries(app.proc.pid)
            for _ in range(2):
                ask(app, method, path, body)
        return app

    try:
        up()
        want = ask(app, method, path, body)
        expect(want and want[0] == 200, f"{name}: {want}")
        room.forget()
        room.note()
        ask(app, method, path, body)
        time.sleep(0.05)  # the connection's end belongs to it
        room.note(False)
        sites = room.sites()
        print(f"{name}: {len(sites)} places", flush=True)
        for every in tally.turns:
            for site in some(sites, every_nth, every):
                try:
                    room.note(False)
                    up()
                    room.arm(site, every)
                    got = ask(app, method, path, body)
                    met = room.felt()
                    end = check_answer(got, want, path)
                    room.calm()
                    room.note(False)
                    if app.proc.poll() is None:
                        again = ask(app, method, path, body)
                        if app.proc.poll() is None:
                            expect(again is not None and check_answer(again, want, path) == "whole", f"the next request: {again}")
                    if app.proc.poll() is not None:
                        app.check_end((70, 71))
                        end = "exit"
                    tally.add(name, site, every, end if met else "not met")
                except Breach as why:
                    tally.breach(name, site, every, why)
                    app.kill()
                    app = None
        room.calm()
        room.note(False)
        try:
            up()
            app.check_end()
        except Breach as why:
            tally.breach(name, "the end", False, why)
    finally:
        if app:
            app.kill()


def torture_signal(name, tally, every_nth):
    """SIGHUP (keys are read again), or SIGTERM while a stream runs."""
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write("key-one\n")
        keys.flush()
        room = Room()

        def run(site=None, every=False):
            app = App(room, "--api-key-file", keys.name)
            room.note(False)
            auth = {"Authorization": "Bearer key-one"}

            def served():
                r = requests.post(app.url + "/v1/completions", json={"prompt": "a", **SHORT}, headers=auth, timeout=END_S)
                return r.status_code == 200

            try:
                expect(app.settle() and served(), app.text())
                arm = lambda: (room.arm(site, every) if site else (room.forget(), room.note()))
                if name == "reload":
                    arm()
                    app.proc.send_signal(signal.SIGHUP)
                    wait_until(lambda: app.proc.poll() is not None or "key" in app.text().split("ready", 1)[-1] or room.felt(), timeout=END_S)
                    time.sleep(0.05)
                    met = room.felt()
                    room.note(False)
                    room.calm()
                    expect(app.proc.poll() is None and served(), "not served after a reload")
                    found = room.sites()
                    app.check_end()
                    return found, "served" if met or not site else "not met"
                with socket.create_connection(("127.0.0.1", app.port)) as c:
                    c.settimeout(END_S)
                    body = json.dumps({"prompt": "a", "max_tokens": 60, "ignore_eos": True, "stream": True}).encode()
                    c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer key-one\r\nContent-Type: application/json\r\n"
                              b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
                    data = c.recv(1 << 16)
                    arm()
                    app.proc.send_signal(signal.SIGTERM)
                    with contextlib.suppress(ConnectionError):
                        while part := c.recv(1 << 16):
                            data += part
                code = app.check_end((0, 70))
                expect(data.count(b"[DONE]") <= 1, "the end comes twice")
                return room.sites(), f"exit {code}" if room.felt() or not site else "not met"
            except (AssertionError, requests.RequestException) as e:
                raise Breach(f"{e}: {app.text()[-1500:]}") from None
            finally:
                app.kill()
                room.calm()

        sites, _ = run()
        print(f"{name}: {len(sites)} places", flush=True)
        for every in tally.turns:
            for site in some(sites, every_nth, every):
                try:
                    tally.add(name, site, every, run(site, every)[1])
                except Breach as why:
                    tally.breach(name, site, every, why)


PHASES = {"start": torture_start, **{n: (lambda t, k, n=n: torture_ask(n, t, k)) for n in ASKS},
          **{n: (lambda t, k, n=n: torture_signal(n, t, k)) for n in ("reload", "drain")}}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--every", type=int, default=1, help="one place of so many")
    p.add_argument("--phase", nargs="*", default=list(PHASES))
    a = p.parse_args()
    tally = Tally()
    for phase in a.phase:
        PHASES[phase](tally, a.every)
    for end, n in sorted(tally.ends.items()):
        print(f"{n:6} {end}")
    print(f"{tally.sites} failures, {len(tally.breaches)} breaches")
    sys.exit(bool(tally.breaches))


if __name__ == "__main__":
    main()
