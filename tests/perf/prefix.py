"""What the prefix cache saves: time to the first token through HTTP, with --prefix-cache-bytes and with 0.
  turns: a prompt of N tokens, then three of 61 more that begin with it, for given routes and for the routers'.
  chats: conversations over /v1/chat/completions, texts of this repository and questions about them, routed by the routers: by turn the median with
         and without the cache, the share of tokens that were cached, how often a route was not that of the cached pages.
usage: prefix.py turns|chats [--fluxd build/fluxd] [--model FILE] [--router FILE] [--tokens 4000] [--chats 8] [--first 0] [--hits-only] [-- flags of fluxd]"""
import argparse
import asyncio
import glob
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import urllib.request

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
sys.path.insert(0, os.path.join(ROOT, "loadtest"))
from stream import Target, ask, get_json, read_head, read_parts  # noqa: E402

ASKS = ["Summarize this in two sentences.", "What is the most important point here?", "Which file or command does it name first, and what is it for?",
        "Explain the second paragraph to a beginner.", "List three facts from the text, one a line.", "Is anything in it measured? Say what and how."]
MORE = ["Thanks. Can you say that in simpler words?", "And why is that so?", "Please continue.", "Give me an example of how I would use it, with the exact command.",
        "What did you leave out? I need everything that concerns memory.", "I do not understand the last part. Which settings change it, and what are their defaults? "
        "I run it on a small machine with two cores and little memory, and I would rather not read the whole page again.", "Translate your answer into a list.", "Are you sure?"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


async def wait_ready(target):
    for _ in range(1200):
        try:
            if (await get_json(target, "/ready"))[0] == 200:
                return
        except (OSError, EOFError, ValueError):
            pass
        await asyncio.sleep(0.05)
    sys.exit("prefix.py: the server does not become ready")


class Fluxd:
    def __init__(self, a, cache):
        self.port = free_port()
        flags = ["--router", a.router] if a.router else []
        self.proc = subprocess.Popen([a.fluxd, "--model", a.model, *flags, "--port", str(self.port), "--prefix-cache-bytes", cache, *a.flags],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.target = Target(f"127.0.0.1:{self.port}")

    async def first_s(self, path, body):
        answer = await ask(self.target, path, {"temperature": 0, **body}, 600)
        if not answer.ok:
            sys.exit(f"prefix.py: {answer.status} {answer.error}")
        return answer.ttft, answer

    async def answer_text(self, body):
        status, said = await post_json(self.target, "/v1/chat/completions", {"temperature": 0, **body})
        if status != 200:
            sys.exit(f"prefix.py: {status} {said}")
        return said["choices"][0]["message"]["content"]

    async def counter(self, name):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics").read().decode()
        return sum(int(float(line.split()[-1])) for line in text.splitlines() if line.startswith(name + " "))

    def end(self):
        self.proc.terminate()
        self.proc.wait()


async def post_json(target, path, body):

    reader, writer = await target.open()
    try:
        writer.write(target.request("POST", path, json.dumps(body).encode()))
        status, headers = await read_head(reader)
        data = b"".join([part async for part in read_parts(reader, headers)])
        return status, json.loads(data)
    finally:
        writer.close()


async def turns(a):
    s = Fluxd(a, a.cache)
    await wait_ready(s.target)
    n_layer = len((await post_json(s.target, "/v1/route", {"prompt": "x", "route": "full"}))[1]["attention_route"]["mask"])
    print("| route | first prompt, nothing cached, ms | those behind it, ms | cached tokens | ratio of the medians |\n|---|---|---|---|---|")
    for name, route in (("full", "full"), ("1010...", ("10" * n_layer)[:n_layer]), ("sparse", "sparse"), ("routers", "auto")):
        rng = random.Random(a.first)
        base = [rng.randrange(1000, 30_000) for _ in range(a.tokens)]
        told = []
        for i in range(4):
            tail = [rng.randrange(1000, 30_000) for _ in range(61)] if i else []
            t, answer = await s.first_s("/v1/completions", {"prompt": base + tail, "max_tokens": 1, "route": route, "cache_salt": name})
            told.append((t, answer.cached_tok))
        rest = [t for t, _ in told[1:]]
        print(f"| {name} | {told[0][0] * 1e3:.0f} | {', '.join(f'{t * 1e3:.0f}' for t in rest)} | {', '.join(str(n) for _, n in told[1:])} | "
              f"{told[0][0] / statistics.median(rest):.1f} |", flush=True)
    s.end()


def texts():
    names = sorted(glob.glob(os.path.join(ROOT, "*.md")) + glob.glob(os.path.join(ROOT, "*/*.md")) + glob.glob(os.path.join(ROOT, "scheduler/*.[ch]")))
    return [open(n, encoding="utf-8").read() for n in names]


async def chats(a):
    both = [Fluxd(a, a.cache)] + ([] if a.hits_only else [Fluxd(a, "0")])
    for s in both:
        await wait_ready(s.target)
    by_turn, restarts, behind, pool = {}, 0, 0, texts()
    for i in range(a.first, a.first + a.chats):
        rng = random.Random(i)
        text = rng.choice(pool)
        at, n = rng.randrange(max(1, len(text) - 6000)), rng.choice([0, 1500, 4000, 6000, 9000])
        talk = [{"role": "system", "content": "You are a helpful assistant who answers shortly."}] if rng.random() < 0.5 else []
        talk.append({"role": "user", "content": text[at:at + n] + "\n\n" + rng.choice(ASKS)})
        for turn in range(4):
            body = {"messages": talk, "max_tokens": 1}
            before = await both[0].counter("fluxd_prefix_restarts_total")
            pair = [await s.first_s("/v1/chat/completions", body) for s in both]
            again = await both[0].counter("fluxd_prefix_restarts_total") - before
            by_turn.setdefault(turn, []).append((*[t for t, _ in pair], pair[0][1].cached_tok, pair[0][1].prompt_tok, again))
            answer = await both[0].answer_text({"messages": talk, "max_tokens": 60})
            talk = talk + [{"role": "assistant", "content": answer}, {"role": "user", "content": rng.choice(MORE)}]
    print("| turn | prompts | tokens | cached | begun again | first token without, ms | with, ms | mean of the ratios |\n|---|---|---|---|---|---|---|---|")
    for turn, all_of in by_turn.items():
        cold = [x[1] for x in all_of] if not a.hits_only else [x[0] for x in all_of]
        warm = [x[0] for x in all_of]
        again = sum(x[-1] > 0 for x in all_of)
        print(f"| {turn + 1} | {len(all_of)} | {statistics.mean(x[-2] for x in all_of):.0f} | {sum(x[-3] for x in all_of) / sum(x[-2] for x in all_of):.0%} | {again} | "
              f"{statistics.mean(cold) * 1e3:.0f} | {statistics.mean(warm) * 1e3:.0f} | {statistics.mean(c / w for c, w in zip(cold, warm)):.1f} |")
    for s in both:
        s.end()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["turns", "chats"])
    p.add_argument("--fluxd", default=os.path.join(ROOT, "build/fluxd"))
    p.add_argument("--model", default=os.path.join(ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    p.add_argument("--router", default=os.path.join(ROOT, "configs/routers/smollm2-135m-instruct.safetensors"))
    p.add_argument("--cache", default="1G")
    p.add_argument("--tokens", type=int, default=4000)
    p.add_argument("--chats", type=int, default=8)
    p.add_argument("--first", type=int, default=0, help="number of the first chat: others are other chats")
    p.add_argument("--hits-only", action="store_true", help="no server without cache beside")
    p.add_argument("flags", nargs="*")
    a = p.parse_args()
    asyncio.run(turns(a) if a.what == "turns" else chats(a))


if __name__ == "__main__":
    main()
