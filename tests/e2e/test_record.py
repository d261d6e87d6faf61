"""The recorder (tests/record): two records of one binary are equal, and a bit that differs is named."""
import json
import os
import subprocess
import sys

from conftest import BIN, DEVICE, ROOT, need_binary, on_gpu, plain_environment

RECORDER = os.path.join(ROOT, "tests/record/record.py")
SERVERS = "made llama3" if on_gpu() else "tiny paw_llama,tiny preempted,tiny qwen3"


def run(*args):
    """Exit status and output."""
    done = subprocess.run([sys.executable, RECORDER, *map(str, args)], capture_output=True, text=True, timeout=900, env=plain_environment())
    return done.returncode, done.stdout + done.stderr


def changed(source, to, change):
    with open(source) as f:
        whole = json.load(f)
    change(whole["records"])
    with open(to, "w") as f:
        json.dump(whole, f)


def test_a_bit_that_differs_is_named(tmp_path):
    need_binary()
    one, two, other = (tmp_path / f"{n}.json" for n in ("one", "two", "other"))
    for out in (one, two):
        code, text = run("record", BIN, out, "--device", DEVICE, "--only", SERVERS)
        assert code == 0, text
    assert run("compare", one, two) == (0, run("compare", one, one)[1])
    name = next(k for k, r in json.loads(one.read_text())["records"].items() if "token_logprobs" in r.get("choices", [{}])[0].get("logprobs", {}))

    def logprob(records):
        probs = records[name]["choices"][0]["logprobs"]["token_logprobs"]
        probs[1] = probs[1][:-1] + str((int(probs[1][-1]) + 1) % 10)

    def token(records):
        records[name]["choices"][0]["token_ids"][0] += 1

    def route(records):
        records[name]["usage"]["attention_route"]["mask"] += "1"

    for change, word in ((logprob, "token_logprobs[1]"), (token, "token_ids[0]"), (route, "attention_route.mask"), (lambda r: r.pop(name), "not in both")):
        changed(one, other, change)
        code, text = run("compare", one, other)
        assert code == 1 and f"{name}: " in text and word in text and "1 differ" in text, text
