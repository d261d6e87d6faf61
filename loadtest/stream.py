"""A streamed completion over HTTP/1.1, read by asyncio with the standard library alone: what load.py and tests/perf count with.
One connection a request. Every frame's arrival is kept, in seconds of time.monotonic()."""
import asyncio
import json
import ssl
import time
import urllib.parse


class Answer:
    """One request's fate. status: HTTP status, 0 when the connection failed; stamps: arrival of each frame that carried text or ids."""

    def __init__(self):
        self.sent = self.ended = 0.0
        self.status, self.error, self.retry_after = 0, "", None
        self.stamps = []
        self.text = ""  # of choice 0
        self.prompt_tok = self.tok = self.cached_tok = 0
        self.route = None  # usage.attention_route, where the server tells one

    @property
    def ok(self):
        return self.status == 200 and not self.error

    @property
    def ttft(self):
        return self.stamps[0] - self.sent if self.stamps else None

    @property
    def gaps(self):
        return [b - a for a, b in zip(self.stamps, self.stamps[1:])]


class Target:
    """A server: base URL and key."""

    def __init__(self, url, key=""):
        u = urllib.parse.urlsplit(url if "://" in url else "http://" + url)
        self.tls = ssl.create_default_context() if u.scheme == "https" else None
        self.host, self.port = u.hostname, u.port or (443 if self.tls else 80)
        self.base = u.path.rstrip("/")
        if self.base.endswith("/v1"):
            self.base = self.base[:-3]
        self.key = key

    def request(self, method, path, body=b""):
        auth = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        return (f"{method} {self.base}{path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nConnection: close\r\n{auth}"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body

    async def open(self):
        return await asyncio.open_connection(self.host, self.port, ssl=self.tls, limit=1 << 22)


async def read_head(reader):
    """Status and headers, names in small letters."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    return int(lines[0].split()[1]), {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}


async def read_parts(reader, headers):
    """The body, as it comes."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while n := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await reader.readexactly(n)
            await reader.readexactly(2)
    elif "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
    else:
        while part := await reader.read(1 << 16):
            yield part


def take_frame(answer, data, now):
    """One SSE frame's JSON into the answer."""
    frame = json.loads(data)
    if "error" in frame:
        answer.error = str(frame["error"])[:200]
        return
    if usage := frame.get("usage"):
        answer.prompt_tok, answer.tok = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        answer.cached_tok = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        answer.route = usage.get("attention_route")
    for choice in frame.get("choices", []):
        delta = choice.get("delta") or {}
        if not choice.get("index"):
            answer.text += choice.get("text") or delta.get("content") or ""
        if choice.get("text") or choice.get("token_ids") or delta.get("content") or delta.get("reasoning_content") or delta.get("token_ids"):
            answer.stamps.append(now)
            return


async def read_answer(reader, answer):
    answer.status, headers = await read_head(reader)
    answer.retry_after = headers.get("retry-after")
    if answer.status != 200:
        answer.error = b"".join([p async for p in read_parts(reader, headers)]).decode(errors="replace")[:200] or "no text"
        return
    rest, done = b"", False
    async for part in read_parts(reader, headers):
        now = time.monotonic()
        *frames, rest = (rest + part.replace(b"\r\n", b"\n")).split(b"\n\n")
        for frame in frames:
            data = b"".join(line[5:].strip() for line in frame.split(b"\n") if line.startswith(b"data:"))
            if data == b"[DONE]":
                done = True
            elif data:
                take_frame(answer, data, now)
    if not done and not answer.error:
        answer.error = "the stream ended without [DONE]"


def streamed(body):
    """The fields as they are sent."""
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


async def ask(target, path, body, timeout):
    """The whole life of one request. Never raises: what went wrong stands in the answer."""
    answer = Answer()
    data = target.request("POST", path, json.dumps(streamed(body)).encode())
    answer.sent = time.monotonic()
    writer = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await target.open()
            writer.write(data)
            await writer.drain()
            await read_answer(reader, answer)
    except (OSError, ValueError, IndexError, EOFError, TimeoutError, asyncio.LimitOverrunError) as e:
        answer.error = f"{type(e).__name__} {e}".strip()
    finally:
        if writer:
            writer.close()
    answer.ended = time.monotonic()
    return answer


async def get_json(target, path, timeout=30):
    async with asyncio.timeout(timeout):
        reader, writer = await target.open()
        try:
            writer.write(target.request("GET", path))
            status, headers = await read_head(reader)
            text = b"".join([p async for p in read_parts(reader, headers)])
            return status, json.loads(text)
        finally:
            writer.close()
