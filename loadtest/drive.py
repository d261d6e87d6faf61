"""Runs a scenario's sessions against a server: closed (clients, one session each at a time), open (Poisson) or in bursts, where a session
begins at its time however many run. The turns of a session follow each other."""
import asyncio
import time

from stream import ask, streamed

PATH = "/v1/chat/completions"


def make_row(session, answer, planned, origin):
    routes = answer.route if isinstance(answer.route, list) else [answer.route] if answer.route else []
    full = sum(r["full_layers"] for r in routes)
    return {"session": session.id, "turn": session.turn, "kind": session.kind.name, "planned_s": planned, "sent_s": answer.sent - origin,
            "ended_s": answer.ended - origin, "status": answer.status, "error": answer.error, "ttft_ms": None if answer.ttft is None else 1e3 * answer.ttft,
            "gaps_ms": [round(1e3 * g, 3) for g in answer.gaps], "e2e_ms": 1e3 * (answer.ended - answer.sent), "prompt_tok": answer.prompt_tok,
            "cached_tok": answer.cached_tok, "answer_tok": answer.tok, "full_layers": full, "layers": full + sum(r["sparse_layers"] for r in routes)}


async def run_session(run, session, planned):
    """All turns; after one that failed the session is over."""
    text = ""
    while body := session.next_body(text):
        if session.turn > 1:
            await asyncio.sleep(run.think_s)
        body = {"model": run.model, **body}
        run.bodies.setdefault(session.id, []).append(streamed(body))
        answer = await ask(run.target, PATH, body, run.timeout)
        run.rows.append(make_row(session, answer, planned if session.turn == 1 else None, run.origin))
        if run.progress:
            run.progress(len(run.rows))
        if not answer.ok:
            return
        text = answer.text


class Run:
    """One run of sessions; rows in the order in which requests ended, bodies by session as they were sent."""

    def __init__(self, target, model, think_s, timeout=3600, progress=None):
        self.target, self.model, self.think_s, self.timeout, self.progress = target, model, think_s, timeout, progress
        self.rows, self.bodies, self.origin = [], {}, 0.0

    async def closed(self, sessions, clients):
        waiting = iter(sessions)

        async def client():
            first = True
            for session in waiting:
                if not first:
                    await asyncio.sleep(self.think_s)
                first = False
                await run_session(self, session, None)

        self.origin = time.monotonic()
        await asyncio.gather(*(client() for _ in range(clients)))

    async def timed(self, sessions, starts):
        self.origin = time.monotonic()

        async def later(session, at):
            await asyncio.sleep(max(0.0, self.origin + at - time.monotonic()))
            await run_session(self, session, at)

        await asyncio.gather(*(later(s, at) for s, at in zip(sessions, starts, strict=True)))


async def run_scenario(scenario, run):
    """The measured rows, after the warm-up's sessions, which run one after another and are not counted."""
    warm = Run(run.target, run.model, 0.0, run.timeout)
    await warm.closed(scenario.draw(scenario.warmup, scenario.seed + 1_000_003), 1)
    if warm.rows and all(r["error"] for r in warm.rows):
        raise OSError(f"the warm-up fails: {warm.rows[0]['status']} {warm.rows[0]['error']}")
    sessions = scenario.draw(scenario.sessions, scenario.seed)
    if scenario.arrivals["kind"] == "closed":
        await run.closed(sessions, scenario.arrivals["clients"])
    else:
        await run.timed(sessions, scenario.start_times(len(sessions), scenario.seed + 1))
    return run.rows
