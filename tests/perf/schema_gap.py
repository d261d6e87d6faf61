"""What a schema costs a running answer: mean gaps between tokens (the median stream's) with a schema over those without, for several numbers of
streams at once, and the processor time of the server for the same answers, which other programs on the machine change less. Both answers have
the same lengths (the schema is one of an endless array); runs alternate, so that what else the machine does falls on both. One line for each
number on standard output, and the server's own times of masks at the end.
usage: schema_gap.py [--fluxd build/fluxd] [--model FILE] [--streams 1,4,16] [--tokens 96] [--repeat 3] [-- more flags of fluxd]"""
import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))

# Strings, numbers, keys, enums and optional members: masks of every kind.
SCHEMA = {"type": "array", "minItems": 400, "items": {
    "type": "object", "additionalProperties": False, "required": ["id", "name", "tags", "at"],
    "properties": {"id": {"type": "integer", "minimum": 0, "maximum": 99999}, "name": {"type": "string", "maxLength": 30},
                   "tags": {"type": "array", "maxItems": 4, "items": {"enum": ["red", "green", "blue", "dark", "light"]}},
                   "at": {"anyOf": [{"type": "null"}, {"type": "string", "format": "date-time"}]},
                   "size": {"type": "number", "exclusiveMinimum": 0}, "note": {"type": "string", "pattern": "^[A-Z][a-z ]{3,40}$"}}}}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(port, path):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    c.request("GET", path)
    r = c.getresponse()
    return r.status, r.read().decode()


def wait_ready(port):
    for _ in range(1200):
        try:
            if get(port, "/ready")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit("schema_gap.py: the server does not become ready")


def stream(port, tokens, seed, schema, out):
    body = {"messages": [{"role": "user", "content": "Make a list of records as JSON."}], "max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True,
            "seed": seed, "stream": True, "return_token_ids": True}
    if schema:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "list", "schema": SCHEMA}}
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    c.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    if r.status != 200:
        sys.exit(r.read().decode())
    stamps = []
    while part := r.read1(1 << 16):
        stamps += [time.monotonic()] * part.count(b'"token_ids":[')
    out.append([b - a for a, b in zip(stamps, stamps[1:])])


def gaps(port, n, tokens, schema):
    """Mean gap of each stream, in seconds: several frames may be read at once."""
    out = []
    threads = [threading.Thread(target=stream, args=(port, tokens, 100 + i, schema, out)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if any(len(g) < tokens - 8 for g in out):
        sys.exit("schema_gap.py: a stream ended early")
    return [statistics.mean(g) for g in out]


def metric(port, name):
    return next(float(line.split()[1]) for line in get(port, "/metrics")[1].splitlines() if line.startswith(name + " "))


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--fluxd", default=os.path.join(ROOT, "build/fluxd"))
    p.add_argument("--model", default=os.path.join(ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    p.add_argument("--streams", default="1,4,16")
    p.add_argument("--tokens", type=int, default=96)
    p.add_argument("--repeat", type=int, default=3)
    p.add_argument("more", nargs="*")
    a = p.parse_args()
    port = free_port()
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen([a.fluxd, "--model", a.model, "--port", str(port), *a.more], stdout=log, stderr=log)
        try:
            wait_ready(port)
            print("| streams | gap without, ms | with a schema, ms | ratio | processor time, ratio |\n|---|---|---|---|---|")
            for n in map(int, a.streams.split(",")):
                both, used = {False: [], True: []}, {False: 0, True: 0}
                for schema in (False, True):
                    gaps(port, n, a.tokens, schema)  # warm: pages, masks
                for _ in range(a.repeat):
                    for schema in (False, True):
                        before = metric(port, "process_cpu_seconds_total")
                        both[schema] += gaps(port, n, a.tokens, schema)
                        time.sleep(1.1)  # it is read once a second
                        used[schema] += metric(port, "process_cpu_seconds_total") - before
                off, on = (1e3 * statistics.median(both[k]) for k in (False, True))
                print(f"| {n} | {off:.2f} | {on:.2f} | {on / off:.3f} | {used[True] / used[False]:.3f} |", flush=True)
            count, total = metric(port, "fluxd_mask_time_seconds_count"), 1e6 * metric(port, "fluxd_mask_time_seconds_sum")
            print(f"masks: {count:.0f}, {total / count:.1f} us each; engine waited for them {1e6 * metric(port, 'fluxd_mask_wait_seconds_total') / count:.1f} us each")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
