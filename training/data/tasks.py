"""Generated tasks over real texts: prompts of a wanted length with answers that can be scored token by token.

Retrieval tasks hide something far back and ask for it; holistic tasks are about the text as a whole or its end. A
sample's prompt is what a server would receive (the answer's first words may be part of it), so its last tokens are what
a router sees. Everything random comes from the given random.Random: a seed and an index name a sample for good.
"""
from __future__ import annotations

import random
import re
import string
from dataclasses import dataclass, field

from training.data import formats as fm
from training.data.corpus import Corpus

RETRIEVAL = ("needle", "multikey", "multivalue", "records", "variables", "facts", "quote")
HOLISTIC = ("lm", "code", "classify", "listsum", "continue")
GROUP = {t: "retrieval" for t in RETRIEVAL} | {t: "holistic" for t in HOLISTIC}
LM_TASKS = ("lm", "code")            # the prompt is the whole text; its second half is scored


@dataclass
class Sample:
    task: str
    tokens: list[int]                # prompt and answer
    prompt_len: int                  # S: what the router counts as the prompt
    score: tuple[int, int]           # tokens[lo:hi] are predicted and scored
    depth: float = -1.0              # where the sought line stands, 0 start, 1 end
    meta: dict = field(default_factory=dict)


def chat_prompt(system: str | None, user: str, start: str) -> str:
    """ChatML as in SmolLM2 and Qwen checkpoints."""
    head = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return f"{head}<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n{start}"


def llama3_prompt(system: str | None, user: str, start: str) -> str:
    turn = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"
    head = turn.format("system", system) if system else ""
    return f"<|begin_of_text|>{head}{turn.format('user', user)}<|start_header_id|>assistant<|end_header_id|>\n\n{start}"


TEMPLATES = {"chatml": (chat_prompt, "You are a helpful AI assistant named SmolLM, trained by Hugging Face", ""),
             "chatml-bare": (chat_prompt, None, ""),
             "llama3": (llama3_prompt, None, "<|begin_of_text|>")}   # builder, default system, start of raw prompts


class Builder:
    def __init__(self, tok, corpus: Corpus, template: str = "chatml"):
        self.tok, self.corpus, self.split = tok, corpus, corpus.split
        self.render, self.default_system, self.bos = TEMPLATES[template]

    # -- tools ------------------------------------------------------------------------------------------------------
    def pick(self, rng, table, n: int | None = None):
        rows = table[self.split]
        return rng.choice(rows) if n is None else rng.sample(rows, n)

    def encode(self, text: str) -> list[int]:
        return self.tok.encode(text, add_special_tokens=False).ids

    def text_of(self, rng, genre: str, n_tok: int) -> str:
        """Running text of n_tok tokens, cut at a token's edge."""
        n_chars = int(n_tok * 4.6) + 200
        while True:
            text = self.corpus.region(rng, genre, n_chars)
            enc = self.tok.encode(text, add_special_tokens=False)
            if len(enc.ids) > n_tok:
                return text[:enc.offsets[n_tok][0]]
            n_chars = int(n_chars * 1.3)

    @staticmethod
    def insert(text: str, line: str, depth: float) -> str:
        """Puts a line between two lines of the text near the given depth."""
        at = text.rfind("\n", 0, int(len(text) * depth) + 1)
        at = int(len(text) * depth) if at < len(text) * (depth - 0.1) else at
        return f"{text[:max(at, 0)]}\n{line}\n{text[max(at, 0):].lstrip(chr(10))}"

    def number(self, rng) -> str:
        return "".join(rng.choice(string.digits[1:]) for _ in range(rng.choice((5, 6, 7)) if self.split == "train" else 6))

    def label(self, rng) -> str:
        """A key nobody has seen: shapes differ by split."""
        letters = "".join(rng.choice(string.ascii_lowercase) for _ in range(4))
        digits = "".join(rng.choice(string.digits) for _ in range(2))
        return f"{letters}-{digits}" if self.split == "train" else f"{letters[:2].upper()}{digits}{letters[2:]}"

    # -- assembling -------------------------------------------------------------------------------------------------
    def finish(self, rng, task, n_tok, body, question, start, answer, depth=-1.0) -> Sample:
        """body(n) makes the material of about n tokens; the rest is wrapped around it as raw text or as a chat."""
        intro, lead = self.pick(rng, fm.INTROS), self.pick(rng, fm.QUESTION_LEADS)
        chat = rng.random() < 0.6
        system = self.default_system if rng.random() < 0.5 else self.pick(rng, fm.SYSTEMS)
        if start.endswith(" ") and not answer[0].isdigit():
            start, answer = start[:-1], " " + answer
        # Without the answer's first words in the prompt the model must write them itself; they are not scored then.
        given = start if self.split == "test" or rng.random() < 0.7 else ""
        asked = lead.format(q=question) if question else ""
        if chat and question:
            asked = re.sub(r"\n(Answer|A)[:.] $", "", asked).rstrip("\n")

        def wrap(material):
            if chat:
                return self.render(system, f"{intro}{material}{asked}", given)
            return f"{self.bos}{intro}{material}{asked}{given}"
        rest, answer_ids = self.encode(start[len(given):]), self.encode(answer)
        room = n_tok - len(self.encode(wrap(""))) - len(rest) - len(answer_ids) - 2
        for _ in range(6):
            prompt = self.encode(wrap(body(room)))
            extra = len(prompt) + len(rest) + len(answer_ids) - n_tok
            if extra <= 0:
                break
            room -= extra + 2
        tokens = prompt + rest + answer_ids
        lo = len(prompt) + len(rest)
        return Sample(task, tokens, len(prompt), (lo, len(tokens)), depth, {"answer": answer})

    def hidden(self, rng, task, n_tok, lines, wanted: int, question, start, answer) -> Sample:
        """Lines hidden at random depths of running text; lines[wanted] holds the answer."""
        seed = rng.random()
        genre = "prose" if rng.random() < 0.85 else "code"
        depths = sorted(rng.uniform(0.01, 0.97) for _ in lines)
        rng.shuffle(depths)
        n_lines = sum(len(self.encode(x)) + 2 for x in lines)

        def body(n):
            text = self.text_of(random.Random(seed), genre, max(n - n_lines, 16))
            for line, depth in zip(lines, depths):
                text = self.insert(text, line, depth)
            return text
        return self.finish(rng, task, n_tok, body, question, start, answer, depths[wanted])

    # -- retrieval --------------------------------------------------------------------------------------------------
    def needle(self, rng, n_tok, n_keys=1, n_values=1, task="needle") -> Sample:
        sentence, question, start = self.pick(rng, fm.NEEDLES)
        keys = self.pick(rng, fm.KEYS, n_keys)
        key, values = keys[0], [self.number(rng) for _ in range(n_values)]
        lines = [sentence.format(k=key, v=v) for v in values]
        lines += [sentence.format(k=k, v=self.number(rng)) for k in keys[1:]]
        s = self.hidden(rng, task, n_tok, lines, 0, question.format(k=key), start.format(k=key), values[0])
        s.meta["key"] = key
        return s

    def multikey(self, rng, n_tok) -> Sample:
        return self.needle(rng, n_tok, n_keys=rng.randint(3, 6), task="multikey")

    def multivalue(self, rng, n_tok) -> Sample:
        """Two values of one key; asked for in the order of the text."""
        sentence, question, start = self.pick(rng, fm.NEEDLES)
        key, values = self.pick(rng, fm.KEYS), [self.number(rng) for _ in range(2)]
        lines = [sentence.format(k=key, v=v) for v in values]
        seed, genre = rng.random(), "prose"
        depths = sorted(rng.uniform(0.01, 0.97) for _ in lines)

        def body(n):
            text = self.text_of(random.Random(seed), genre, max(n - 60, 16))
            for line, depth in zip(lines, depths):
                text = self.insert(text, line, depth)
            return text
        return self.finish(rng, "multivalue", n_tok, body, question.format(k=key) + " Name both.", start.format(k=key),
                           f"{values[0]} and {values[1]}", depths[0])

    def records(self, rng, n_tok) -> Sample:
        line, question, start = self.pick(rng, fm.RECORDS)
        seed, depth = rng.random(), rng.uniform(0.01, 0.97)
        key, value = self.label(rng), self.number(rng)
        per_line = len(self.encode(line.format(k=key, v=value) + "\n"))

        def body(n):
            r, count = random.Random(seed), max(int(n / per_line) - 1, 1)
            rows = [line.format(k=self.label(r), v=self.number(r)) for _ in range(count)]
            rows.insert(int(depth * len(rows)), line.format(k=key, v=value))
            return "\n".join(rows)
        return self.finish(rng, "records", n_tok, body, question.format(k=key), start.format(k=key), value, depth)

    def variables(self, rng, n_tok) -> Sample:
        first, copy, question, start = self.pick(rng, fm.VARIABLES)
        names = ["".join(rng.choice(string.ascii_uppercase) for _ in range(3 if self.split == "train" else 4))
                 for _ in range(4)]
        value = self.number(rng)
        lines = [first.format(a=names[0], v=value), copy.format(a=names[1], b=names[0]),
                 first.format(a=names[2], v=self.number(rng)), copy.format(a=names[3], b=names[2])]
        return self.hidden(rng, "variables", n_tok, lines, 0, question.format(a=names[1]),
                           start.format(a=names[1], b=names[0]), value)

    def facts(self, rng, n_tok) -> Sample:
        sentence, question, start, kind = self.pick(rng, fm.FACTS)
        people = self.pick(rng, fm.PEOPLE, rng.randint(2, 5))
        values = rng.sample(fm.VALUES[self.split][kind], len(people))
        lines = [sentence.format(k=k, v=v) for k, v in zip(people, values)]
        return self.hidden(rng, "facts", n_tok, lines, 0, question.format(k=people[0]), start.format(k=people[0]), values[0])

    def quote(self, rng, n_tok) -> Sample:
        """A sentence of the text itself: its first six words are given, the next six are the answer."""
        question, _ = self.pick(rng, fm.QUOTES)
        seed = rng.random()
        text = self.text_of(random.Random(seed), "prose", n_tok - 120)
        spots = [m for m in re.finditer(r"(?<=[.\n] )?[A-Z][a-z]+(?: [a-z,'-]+){11,}", text)
                 if text.count(m.group(0)[:len(" ".join(m.group(0).split(" ")[:6]))]) == 1]
        if not spots:
            return self.quote(rng, n_tok)
        spot = rng.choice(spots)
        words = spot.group(0).split(" ")
        given, answer = " ".join(words[:6]), " ".join(words[6:12])
        depth = spot.start() / len(text)

        def body(n):
            n_drop = max(len(text) - int(n * len(text) / max(n_tok - 120, 1)), 0)
            return text[:len(text) - n_drop] if spot.end() < len(text) - n_drop else text[n_drop:]
        return self.finish(rng, "quote", n_tok, body, question, given + " ", answer, depth)

    # -- holistic ---------------------------------------------------------------------------------------------------
    def lm(self, rng, n_tok, genre="prose", task="lm") -> Sample:
        ids = self.encode(self.bos + self.text_of(rng, genre, n_tok - 4))[:n_tok]
        return Sample(task, ids, len(ids), (len(ids) // 2, len(ids)))

    def code(self, rng, n_tok) -> Sample:
        return self.lm(rng, n_tok, "code", "code")

    def continue_(self, rng, n_tok) -> Sample:
        """A chat that hands in an excerpt; the scored answer is how the document really goes on."""
        text = self.text_of(rng, "prose" if rng.random() < 0.7 else "code", n_tok - 60)
        cut = len(text) - min(400, len(text) // 4)
        return self.finish(rng, "continue", n_tok, lambda n: text[max(0, cut - int(n * cut / (n_tok - 60))):cut],
                           self.pick(rng, fm.CONTINUE), "", text[cut:])

    def classify(self, rng, n_tok) -> Sample:
        """In-context classification; the last line lacks its label. Never a chat: it is a plain few-shot prompt."""
        classes = rng.sample(sorted(fm.CLASSES[self.split]), rng.randint(3, 4))
        line = self.pick(rng, fm.CLASS_LINES)
        pairs = [(t, c) for c in classes for t in fm.CLASSES[self.split][c]]
        goal, label = rng.choice(pairs)
        shots = [p for p in pairs if p[0] != goal]
        head, tail = line.format(t=goal, v="\0").split("\0")
        if head.endswith(" "):
            head, label = head[:-1], " " + label
        ids, chunk = [], self.encode(self.bos)
        final, answer = self.encode(head), self.encode(label)
        while len(ids) + len(chunk) + len(final) + len(answer) <= n_tok:
            ids += chunk
            t, c = rng.choice(shots)
            chunk = self.encode(line.format(t=t, v=c))
        tokens = ids + final + answer
        return Sample("classify", tokens, len(ids) + len(final), (len(ids) + len(final), len(tokens)),
                      meta={"answer": label})

    def listsum(self, rng, n_tok) -> Sample:
        """A long list in which one entry holds half of the lines."""
        line, question, start = self.pick(rng, fm.LIST_LINES)
        items = rng.sample(fm.CLASSES[self.split][rng.choice(sorted(fm.CLASSES[self.split]))], 5)
        seed, per_line = rng.random(), len(self.encode(line.format(v=items[0])))

        def body(n):
            r = random.Random(seed)
            return "".join(line.format(v=items[0] if r.random() < 0.5 else r.choice(items[1:]))
                           for _ in range(max(n // per_line, 1)))
        return self.finish(rng, "listsum", n_tok, body, question.strip(), start, items[0])

    def build(self, task: str, n_tok: int, seed) -> Sample:
        """The sample that (split, task, n_tok, seed) names: at most n_tok tokens, and few less."""
        make = getattr(self, {"continue": "continue_"}.get(task, task))
        for spare in (0, 4, 16, 64):     # a token more or less where pieces meet can overrun the wanted length
            s = make(random.Random(f"{self.split}/{task}/{n_tok}/{seed}"), n_tok - spare)
            if len(s.tokens) <= n_tok:
                return s
        raise AssertionError(f"{task}: {len(s.tokens)} tokens, wanted at most {n_tok}")
