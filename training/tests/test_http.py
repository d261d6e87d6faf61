"""The HTTP runner against a scripted server: what it sends and how it scores."""
import http.server
import json
import threading

from training.data.corpus import Corpus
from training.data.tasks import Builder
from training.eval.run_http import Client
from training.eval.timing import ask


def serve(answer):
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(body)
            out = answer(body)
            out = (out if isinstance(out, str) else json.dumps(out)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        def log_message(self, *args):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}", seen


def test_answers_and_texts_are_scored(tokenizer, corpus_file):
    b = Builder(tokenizer, Corpus.read(corpus_file, "test"))
    needle, lm = b.build("needle", 900, 0), b.build("lm", 900, 0)

    def answer(body):
        n = len(body["prompt"])
        usage = {"attention_route": {"mask": "1100"}}
        if body.get("echo"):
            logp = [None] + [-0.5 if i < lm.score[0] else -2.0 for i in range(1, n)] + [-9.0]
            return {"choices": [{"text": "", "logprobs": {"token_logprobs": logp}}], "usage": usage}
        text = needle.meta["answer"] if body["prompt"] == needle.tokens[:needle.score[0]] else "no"
        return {"choices": [{"text": text}], "usage": usage}
    server, url, seen = serve(answer)
    try:
        client = Client(url, "m", "auto", 10, None)
        row = client.score(tokenizer, needle, 900, 0)
        assert row["hit"] == 1 and row["route"] == "1100" and row["full_layers"] == 0.5
        assert seen[0]["route"] == "auto" and seen[0]["temperature"] == 0
        assert seen[0]["max_tokens"] == needle.score[1] - needle.score[0]
        assert client.score(tokenizer, b.build("needle", 900, 1), 900, 1)["hit"] == 0
        assert client.score(tokenizer, lm, 900, 2)["nll"] == 2.0
    finally:
        server.shutdown()


def test_timing_takes_the_first_piece_the_median_gap_and_what_the_server_tells():
    events = [{"choices": [{"text": t}]} for t in ("", "a", "b", "c")]
    events.append({"choices": [], "usage": {"attention_route": {"full_layers": 3, "kv_bytes": 77}}})
    text = "".join(f"data: {json.dumps(e)}\n\n" for e in events) + "data: [DONE]\n\n"
    server, url, seen = serve(lambda body: text)
    try:
        row = ask(url, [1, 2, 3], "auto", 3, 10)
    finally:
        server.shutdown()
    assert row["full_layers"] == 3 and row["kv_bytes"] == 77 and 0 <= row["gap_ms"] <= row["ttft_ms"]
    assert seen[0]["stream"] and seen[0]["ignore_eos"] and seen[0]["route"] == "auto" and seen[0]["max_tokens"] == 3
