"""Sessions: one chat that grows turn by turn, as an agent's does. Facts stand in earlier turns and are asked for in the
last one, tables come as tool results, code is edited, and questions of other kinds stand between, so that a router has
reasons to change its mind.

A sample's meta["turns"] holds (S, end) for each turn: the router decides at S, the end of the turn's prompt; rows up to
end, the end of the answer, are that turn's. The last turn's end is the sample's.
"""
from __future__ import annotations

import random

from training.data import formats as fm
from training.data.tasks import SESSIONS, Builder, Sample

MOST_TURNS = 20


class SessionBuilder(Builder):
    """ChatML sessions of 2 to 20 turns."""

    def __init__(self, tok, corpus, template: str = "chatml"):
        super().__init__(tok, corpus, template)
        if not template.startswith("chatml"):
            raise ValueError("sessions are made for ChatML")

    # -- what is hidden and asked for -------------------------------------------------------------------------------
    def secret(self, rng, kind: str):
        """-> lines (the last one counts), question, start of the answer, answer"""
        if kind == "facts":
            sentence, question, start, value = self.pick(rng, fm.FACTS)
            who, answer = self.pick(rng, fm.PEOPLE), rng.choice(fm.VALUES[self.split][value])
            return [sentence.format(k=who, v=answer)], question.format(k=who), start.format(k=who), answer
        if kind == "edit":
            first, _, question, _ = self.pick(rng, fm.VARIABLES)
            name, values = "".join(rng.choice("ABCDEFGHKLMNPRSTUVWX") for _ in range(4)), [self.number(rng) for _ in range(2)]
            lines = [first.format(a=name, v=v) for v in values]
            return lines, question.format(a=name), lines[1][:lines[1].rindex(values[1])], values[1]
        sentence, question, start = self.pick(rng, fm.NEEDLES)
        key, answer = self.pick(rng, fm.KEYS), self.number(rng)
        return [sentence.format(k=key, v=answer)], question.format(k=key), start.format(k=key), answer

    def table(self, rng, n_tok: int, given=None):
        """Lines of keys and values of about n_tok tokens -> text, (question, start, answer) of one of them."""
        line, question, start = given or self.pick(rng, fm.RECORDS)
        each = len(self.encode(line.format(k=self.label(rng), v=self.number(rng)) + "\n"))
        pairs = [(self.label(rng), self.number(rng)) for _ in range(max(n_tok // each, 2))]
        key, value = rng.choice(pairs)
        return "\n".join(line.format(k=k, v=v) for k, v in pairs), (question.format(k=key), start.format(k=key), value)

    # -- turns ------------------------------------------------------------------------------------------------------
    def material(self, rng, n_tok: int, hidden: list[str]):
        """A turn's user message of about n_tok tokens with these lines hidden in it -> message, question about it or None"""
        if not hidden and n_tok < 60:
            return None, None
        if not hidden and rng.random() < 0.3:
            text, asked = self.table(rng, n_tok - 20)
            return self.pick(rng, fm.TOOL_ASKS).format(t=text), asked
        text = self.text_of(rng, "code" if rng.random() < 0.3 else "prose", max(n_tok - 20 - sum(len(self.encode(x)) for x in hidden), 16))
        for line in hidden:
            text = self.insert(text, line, rng.uniform(0.02, 0.95))
        return self.pick(rng, fm.FILE_ASKS).format(t=text), None

    def build(self, task: str, n_tok: int, seed) -> Sample:
        for spare in (0, 64, 256, 512):
            s = self.session(random.Random(f"{self.split}/{task}/{n_tok}/{seed}"), task, n_tok, n_tok - spare)
            if len(s.tokens) <= n_tok:
                return s
        raise AssertionError(f"{task}: {len(s.tokens)} tokens, wanted at most {n_tok}")

    def session(self, rng, task: str, n_tok: int, room: int) -> Sample:
        kind = task.removeprefix("turn-")
        n_turn = rng.randint(2 if kind != "edit" else 3, max(3, min(MOST_TURNS, n_tok // 180)))
        lines, question, start, answer = self.secret(rng, kind) if kind in ("needle", "facts", "edit") else ([], "", "", "")
        at = sorted(rng.sample(range(n_turn - 1), len(lines)))      # a value that changes does so in a later turn
        table_at = rng.randrange(n_turn - 1) if kind == "records" else -1
        last_text = self.text_of(rng, "prose", 260) if kind == "continue" else ""
        share = [rng.uniform(0.15, 1) for _ in range(n_turn - 1)]
        left = room - 140 - (300 if last_text else 0) - 45 * n_turn
        ids, turns = [], []

        def say(role, text):
            ids.extend(self.encode(f"<|im_start|>{role}\n{text}<|im_end|>\n"))

        def answer_as(text, given=""):
            ids.extend(self.encode(f"<|im_start|>assistant\n{given}"))
            turns.append([len(ids), 0])
            ids.extend(self.encode(f"{text}<|im_end|>"))
            turns[-1][1] = len(ids)
            ids.extend(self.encode("\n"))

        say("system", self.default_system if rng.random() < 0.5 else self.pick(rng, fm.SYSTEMS))
        open_question = None
        for t in range(n_turn - 1):
            n = int(left * share[t] / sum(share))
            if t == table_at:
                text, (question, start, answer) = self.table(rng, n)
                message, asked = self.pick(rng, fm.TOOL_ASKS).format(t=text), None
            else:
                message, asked = self.material(rng, n, [x for x, place in zip(lines, at) if place == t])
            if message is None:
                message, reply = self.pick(rng, fm.TALK)
            elif open_question and rng.random() < 0.5:          # asks about what came before, and hands in more
                message, reply = f"{message}\n\n{open_question[0]}", open_question[1] + open_question[2]
                open_question = None
            else:
                reply = self.pick(rng, fm.REPLIES)
            open_question = asked or open_question
            say("user", message)
            answer_as(reply)
        if kind == "continue":
            cut = len(last_text) * 3 // 4
            cut = last_text.rfind(" ", 0, cut) + 1 or cut
            say("user", f"{last_text[:cut]}\n\n{self.pick(rng, fm.CONTINUE)}")
            start, answer = "", last_text[cut:]
        else:
            say("user", self.pick(rng, fm.QUESTION_LEADS).format(q=question).strip("\n").removesuffix("A:").removesuffix("A. ").rstrip("\n"))
            if start.endswith(" ") and not answer[0].isdigit():
                start, answer = start[:-1], " " + answer
        ids.extend(self.encode(f"<|im_start|>assistant\n{start}"))
        lo, tail = len(ids), self.encode(answer)
        ids.extend(tail)
        turns.append([lo, len(ids)])
        depth = turns[at[-1] if at else max(table_at, 0)][1] / len(ids)
        assert task in SESSIONS
        return Sample(task, ids, lo, (lo, len(ids)), depth, {"answer": answer, "turns": [tuple(t) for t in turns]})
