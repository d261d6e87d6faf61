#!/usr/bin/env python3
"""Records what a server answers, to show that a change of the code changes no bit: tokens, logprobs as sent, routes, ends.

usage: record.py record BIN OUT.json [--device cpu|cuda] [--dtype auto|bf16|f32] [--gguf FILE | --dummy]
              [--router FILE] [--flags "..."] [--only SERVER,...]
       record.py compare A.json B.json

requests.json lists the servers (model and flags), and for each its rounds: the requests of a round are sent together, a round of one is a
request alone. `record` fails where a request fails, or where a server did not come to do what the list says it must (preempt, hit the prefix
cache). `compare` names the first difference of each request and fails where there is one. Needs Python 3.11 and nothing else.

A prompt is a string, or a list of parts: {"ids": [first, n]} are n token ids by a formula, {"words": of, "seed": s, "n": n} are n tokens of
random words out of "texts", {"after": name} are the prompt and the answer of an earlier request, {"of": name, "n": n} the first n tokens of its
prompt. "vary" makes a request for each value of its lists. A "content" that is an object holds words too, or {"answer": name}."""
import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "../.."))
START_S, ANSWER_S = 600, 1800  # end a run that hangs
WATCHED = ("fluxd_preemptions_total", "fluxd_swaps_total", "fluxd_prefix_hits_total", "fluxd_prefix_restarts_total", "fluxd_prefix_evicted_pages_total",
           "fluxd_requests_running", "fluxd_requests_decoding", "fluxd_engine_steps_total", "fluxd_generation_tokens_total")


def byte_symbols():
    """GPT-2's letters for the 256 bytes (Radford 2019, encoder.py's table)."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = iter(range(256, 512))
    return [chr(b if b in keep else next(extra)) for b in range(256)]


def make_folder(path, source):
    """A Hugging Face directory of a checkpoint without a tokenizer, or of a configuration alone: its tokens are bytes."""
    if "folder" in source:
        shutil.copytree(os.path.join(ROOT, source["folder"]), path, dirs_exist_ok=True)
    else:
        with open(os.path.join(path, "config.json"), "w") as f:
            json.dump(source["config"], f)
    words = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    first = b"[] abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # in the least vocabulary too
    symbols = byte_symbols()
    symbols = [symbols[b] for b in first] + [c for b, c in enumerate(symbols) if b not in first]
    vocab = {symbols[i] if i < 256 else f"t{i}": i for i in range(source["vocab"])}
    with open(os.path.join(path, "tokenizer.json"), "w") as f:
        json.dump({"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": words, "pre_tokenizer": words,
                   "model": {"type": "BPE", "vocab": vocab, "merges": []}}, f)
    with open(os.path.join(path, "tokenizer_config.json"), "w") as f:
        json.dump({"chat_template": "{% for m in messages %}[{{ m.content }}]{% endfor %}"}, f)


class Server:
    """One running fluxd."""

    def __init__(self, binary, flags):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.log = tempfile.TemporaryFile()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FLUXD_")}
        self.proc = subprocess.Popen([binary, "--port", str(self.port), *flags], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment)

    def wait_ready(self):
        for _ in range(START_S * 50):
            if self.proc.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.call("GET", "/ready")[0] == 200:
                    return
            time.sleep(0.02)
        raise SystemExit(f"the server is not ready, exit {self.proc.poll()}\n{self.logged()[-3000:]}")

    def logged(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def call(self, method, path, body=None):
        """Status and body."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            c.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
            r = c.getresponse()
            return r.status, r.read().decode()
        finally:
            c.close()

    def metrics(self):
        text = self.call("GET", "/metrics")[1]
        return {m[1]: float(m[2]) for m in re.finditer(r"^([^#\s]\S*) (\S+)$", text, re.M)}

    def stop(self):
        if self.proc.poll() is None:
            self.proc.terminate()
        try:
            return self.proc.wait(120)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            raise


class Watch:
    """The most that each metric was while requests ran."""

    def __init__(self, server, every_s):
        self.server, self.every_s, self.most, self.over = server, every_s, {}, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def look(self):
        for k, v in self.server.metrics().items():
            self.most[k] = max(v, self.most.get(k, 0))

    def run(self):
        while not self.over.wait(self.every_s):
            self.look()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *why):
        self.over.set()
        self.thread.join()
        if self.server.proc.poll() is None:
            self.look()


# --- answers: what must be the same at every run

def parse(text):
    """Decimals stay the text that was sent."""
    return json.loads(text, parse_float=str)


def add_logprobs(whole, part):
    """A frame's logprobs behind those before it."""
    for k, v in part.items():
        if isinstance(v, list):
            whole.setdefault(k, []).extend(v)


def join_frames(text):
    """A streamed answer as one: how tokens fall into frames depends on time."""
    frames = [f[6:] for f in text.split("\n\n") if f.startswith("data: ")]
    if not frames or frames.pop() != "[DONE]":
        raise SystemExit(f"a stream without its end: {text[-500:]}")
    choices, usage = {}, None
    for frame in map(parse, frames):
        usage = frame.get("usage") or usage
        for c in frame["choices"]:
            to = choices.setdefault(c["index"], {"index": c["index"], "text": "", "token_ids": [], "logprobs": {}, "finish_reason": None})
            to["text"] += c.get("text") or c.get("delta", {}).get("content") or ""
            to["token_ids"] += c.get("token_ids") or []
            add_logprobs(to["logprobs"], c.get("logprobs") or {})
            to["finish_reason"] = c["finish_reason"] or to["finish_reason"]
    return {"choices": [choices[i] for i in sorted(choices)], "usage": usage}


def keep(answer, alone):
    """Without ids, dates, times and the memory in use. What the prefix cache held is the same at every run only for a request alone."""
    usage = dict(answer["usage"])
    cached = usage.pop("prompt_tokens_details", {}).get("cached_tokens")
    out = {k: answer[k] for k in ("choices", "margins", "attention_route", "prompt_token_ids") if k in answer} | {"usage": usage}
    for at in (out, usage):
        if "attention_route" in at:
            routes = at["attention_route"]
            at["attention_route"] = [without_bytes(r) for r in routes] if isinstance(routes, list) else without_bytes(routes)
    return out | ({"cached_tokens": cached} if alone else {})


def without_bytes(route):
    return {k: v for k, v in route.items() if not k.startswith("kv_bytes")}


# --- requests: from the list to bodies

def expand(request):
    """One request for each value of what varies."""
    vary = request.get("vary")
    if not vary:
        return [request]
    one = {k: v for k, v in request.items() if k != "vary"}
    return [{**one, **{k: v[i] for k, v in vary.items()}, "name": f"{request['name']}/{i}"} for i in range(len(next(iter(vary.values()))))]


class Talk:
    """One server's requests: what was asked and answered before is at hand."""

    def __init__(self, server, plan, vocab):
        self.server, self.plan, self.vocab = server, plan, vocab
        self.prompt, self.answer, self.text = {}, {}, {}

    def words(self, part):
        """Text of n words at most."""
        rng, words = random.Random(part["seed"]), self.plan["texts"][part["words"]].split(" ")
        return " ".join(rng.choice(words) for _ in range(part["n"]))

    def ids(self, part):
        if "ids" in part:
            first, n = part["ids"]
            low = min(100, self.vocab // 16)
            return [low + (first + i) * 7919 % (self.vocab - low) for i in range(n)]
        if "after" in part:
            return self.prompt[part["after"]] + self.answer[part["after"]]
        if "of" in part:
            return self.prompt[part["of"]][: part["n"]]
        ids = json.loads(self.server.call("POST", "/tokenize", {"prompt": self.words(part)})[1])["tokens"]
        return ids[: part["n"]]

    def content(self, c):
        return c if isinstance(c, str) else self.text[c["answer"]] if "answer" in c else self.words(c)

    def body(self, request):
        """Path and body."""
        r = {k: v for k, v in request.items() if k not in ("name", "path")}
        chat = "messages" in r
        if chat:
            r["messages"] = [{**m, "content": self.content(m["content"])} for m in r["messages"]]
        elif isinstance(r["prompt"], list) and isinstance(r["prompt"][0], dict):
            r["prompt"] = self.prompt[request["name"]] = [i for part in r["prompt"] for i in self.ids(part)]
        path = request.get("path") or ("/v1/chat/completions" if chat else "/v1/completions")
        if path == "/v1/route":
            return path, r
        if r.get("stream"):
            r["stream_options"] = {"include_usage": True}
        own = {"logprobs": True, "top_logprobs": 3} if chat else {"logprobs": 3}
        body = self.plan["defaults"] | own | r
        return path, {k: v for k, v in body.items() if v is not None}

    def ask(self, request, alone):
        path, body = self.body(request)
        status, text = self.server.call("POST", path, body)
        if status != 200:
            raise SystemExit(f"{request['name']}: {status} {text[:500]}")
        whole = join_frames(text) if body.get("stream") else parse(text)
        for c in whole.get("choices", [])[:1]:
            self.answer[request["name"]] = c["token_ids"]
            self.text[request["name"]] = c["text"] if "text" in c else c["message"]["content"]
        return keep(whole, alone)

    def round(self, requests):
        """Answers by name."""
        with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
            got = list(pool.map(lambda r: self.ask(r, len(requests) == 1), requests))
        return {r["name"]: g for r, g in zip(requests, got)}


# --- the whole run

class Run:
    def __init__(self, plan, a):
        self.plan, self.a = plan, a
        self.page_bytes, self.records, self.seen, self.folder = {}, {}, {}, None
        self.server = None

    def flags(self, s):
        model = self.plan["models"][s["model"]]
        out = ["--device", self.a.device, "--dtype", self.a.dtype]
        if model.get("router"):
            out += ["--router", self.a.router]
        if model.get("gguf") and not self.a.dummy:
            out += ["--model", self.a.gguf]
        else:
            path = os.path.join(self.folder, s["model"].replace("/", "-"))
            os.makedirs(path, exist_ok=True)
            make_folder(path, model)
            out += ["--model", path, *(["--load-format", "dummy"] if "config" in model else [])]
        for flag, pages in (("--kv-pool-bytes", s.get("pool_pages")), ("--prefix-cache-bytes", s.get("cached_pages"))):
            if pages:
                out += [flag, str(pages * self.page_size(s["model"], out))]
        if "pool_pages" not in s:
            out += ["--kv-pool-bytes", self.plan["pool_bytes"]]
        return out + s["flags"] + self.a.flags

    def page_size(self, model, flags):
        """Bytes of a KV page: they depend on the arithmetic, so a server tells them."""
        if model not in self.page_bytes:
            server = Server(self.a.binary, [*flags, "--kv-pool-bytes", self.plan["pool_bytes"]])
            try:
                server.wait_ready()
                self.page_bytes[model] = int(server.metrics()["fluxd_kv_page_bytes"])
            finally:
                server.stop()
        return self.page_bytes[model]

    def serve(self, s):
        server = self.server = Server(self.a.binary, self.flags(s))
        try:
            server.wait_ready()
            talk = Talk(server, self.plan, self.plan["models"][s["model"]]["vocab"])
            with Watch(server, 0.004 if self.a.device == "cuda" else 0.05) as watch:
                for requests in s["rounds"]:
                    for name, got in talk.round([r for q in requests for r in expand(q)]).items():
                        assert f"{s['name']}: {name}" not in self.records, name
                        self.records[f"{s['name']}: {name}"] = got
            seen = {k: watch.most.get(k, 0) for k in WATCHED}
        finally:
            code = server.stop()
        if code != 0:
            raise SystemExit(f"{s['name']}: exit {code}\n{server.logged()[-3000:]}")
        self.seen[s["name"]] = seen
        told = " ".join(f"{k[6:].removesuffix('_total')}={v:.0f}" for k, v in seen.items() if v)
        print(f"{s['name']:<16} {told}", flush=True)
        return [f"{s['name']}: {k} is {seen[k]:.0f}, it must be {least} at least" for k, least in s.get("expect", {}).items() if seen[k] < least]

    def asked(self, s):
        return self.a.device in s.get("devices", ["cpu", "cuda"]) and (not self.a.only or s["name"] in self.a.only.split(","))

    def leave(self, *why):
        """A run that is ended leaves no server behind."""
        if self.server:
            self.server.proc.kill()
        sys.exit(143)

    def all(self):
        missed = []
        with tempfile.TemporaryDirectory() as self.folder:
            for s in self.plan["servers"]:
                if self.asked(s):
                    missed += self.serve(s)
        return missed


def record(a):
    with open(os.path.join(HERE, "requests.json")) as f:
        run = Run(json.load(f), a)
    signal.signal(signal.SIGTERM, run.leave)
    missed = run.all()
    with open(a.out, "w") as f:
        json.dump({"device": a.device, "dtype": a.dtype, "seen": run.seen, "records": run.records}, f, indent=0)
    print(f"{len(run.records)} requests on {len(run.seen)} servers", *missed, sep="\n")
    return bool(missed)


def difference(a, b, at=""):
    """Where two values differ first, in words; None if they are equal."""
    if isinstance(a, dict) and isinstance(b, dict):
        for k in [*a, *(k for k in b if k not in a)]:
            if k not in a or k not in b:
                return f"{at}.{k} is only in the {'second' if k in b else 'first'}"
            if found := difference(a[k], b[k], f"{at}.{k}"):
                return found
        return None
    if isinstance(a, list) and isinstance(b, list):
        for i, (x, y) in enumerate(zip(a, b)):
            if found := difference(x, y, f"{at}[{i}]"):
                return found
        return None if len(a) == len(b) else f"{at} has {len(a)} and {len(b)} items"
    return None if a == b and type(a) is type(b) else f"{at}: {a!r} and {b!r}"


def compare(a):
    with open(a.first) as f, open(a.second) as g:
        first, second = json.load(f), json.load(g)
    one, two = first["records"], second["records"]
    if any(first[k] != second[k] for k in ("device", "dtype")):
        print("the records are of different devices or arithmetic")
        return True
    bad = 0
    for name in [*one, *(k for k in two if k not in one)]:
        found = "is not in both" if name not in one or name not in two else difference(one[name], two[name])
        if found:
            bad += 1
            print(f"{name}: {found}")
    print(f"{len(one)} and {len(two)} requests: " + (f"{bad} differ" if bad else "equal"))
    return bad > 0 or not one


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(required=True)
    r = sub.add_parser("record")
    r.add_argument("binary")
    r.add_argument("out")
    r.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    r.add_argument("--dtype", default="auto", choices=("auto", "bf16", "f32"))
    r.add_argument("--gguf", default=os.path.join(ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    r.add_argument("--dummy", action="store_true")
    r.add_argument("--router", default=os.path.join(ROOT, "configs/routers/smollm2-135m-instruct.safetensors"))
    r.add_argument("--flags", default=[], type=shlex.split, help="more flags for every server")
    r.add_argument("--only", default="", help="these servers alone")
    r.set_defaults(run=record)
    c = sub.add_parser("compare")
    c.add_argument("first")
    c.add_argument("second")
    c.set_defaults(run=compare)
    a = p.parse_args()
    return a.run(a)


if __name__ == "__main__":
    sys.exit(main())
