"""A long prompt does not freeze the others: what one client's stream gets while prompts of others are in prefill."""
import concurrent.futures
import socket

import pytest

from conftest import Server, Stream, need_binary, on_gpu

PROMPT_TOK, CHUNK_TOK = 6000 if on_gpu() else 700, 512 if on_gpu() else 128
PROMPTS = 16 if on_gpu() else 1  # a GPU is through with one of them in 25 ms


@pytest.fixture
def server():
    need_binary()
    s = Server("--prefill-chunk-tokens", str(CHUNK_TOK))
    try:
        yield s
        assert s.stop() == 0
    finally:
        s.kill()


def test_a_stream_has_a_token_in_every_step_beside_a_long_prefill(server):
    """Counted: a prompt runs in pieces of one layer and a chunk at most, each in a step, and each step brings the stream a token.
    How long a step may be is the plan's own law; a tenth of the steps may miss the stream, as its client may read slowly."""

    def read(stream):
        try:
            for _ in stream:
                pass
        except (OSError, ValueError, AttributeError):
            pass  # the end is ours

    layers = len(server.complete("a", route="full", max_tokens=1)["usage"]["attention_route"]["mask"])
    with concurrent.futures.ThreadPoolExecutor(2) as pool, Stream(server, "/v1/completions", prompt="Once upon a time", max_tokens=4000, ignore_eos=True) as s:
        reading = pool.submit(read, s)
        server.wait_metric("fluxd_requests_decoding", 1)
        prompts = [[(i * 7919 + k) % 40_000 + 100 for i in range(PROMPT_TOK)] for k in range(PROMPTS)]  # none begins like another
        before = server.metrics()
        server.complete(prompts, max_tokens=1)
        after = server.metrics()
        assert not reading.done(), "the stream ended before the prompts did"
        s.conn.sock.shutdown(socket.SHUT_RDWR)
    steps, tokens = (after[name] - before[name] for name in ("fluxd_engine_steps_total", "fluxd_generation_tokens_total"))
    tokens -= PROMPTS
    print(f"{steps:.0f} steps, {tokens:.0f} tokens of the stream")
    assert steps >= -(-PROMPT_TOK // CHUNK_TOK) * layers and tokens >= 0.9 * steps
