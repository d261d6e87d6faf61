"""A scenario file and the sessions drawn from it. Pure: the same file, seed and context give the same sessions.

A session is what one user does: one or more turns, each sent when the one before has been answered. Its messages grow: the first is the
text that all sessions of a kind share (shared_tok) and the session's own (first_tok); each further turn adds the answer and more_tok.
With end_tok the growth is what makes the last turn that long. Lengths are words, which are about tokens.
"""
import dataclasses
import random
import tomllib

WORDS = ("time year people way day man thing woman life child world school state family student group country problem hand part place case week "
         "company system program question work government number night point home water room mother area money story fact month lot right study "
         "book eye job word business issue side kind head house service friend father power hour game line end member law car city").split()
ARRIVALS = {"closed": {"clients": 1, "think_s": 0.0}, "open": {"rate": 1.0, "think_s": 0.0}, "bursts": {"size": 1, "every_s": 1.0, "think_s": 0.0}}
KIND = {"name": "", "weight": 1.0, "turns": 1, "shared_tok": 0, "first_tok": 0, "more_tok": 0, "end_tok": 0, "answer_tok": 64, "body": {}}
TOP = {"sessions": 1, "warmup": 0, "seed": 0, "arrivals": {}, "kinds": [], "objectives": {}}
OBJECTIVES = ("ttft_ms", "gap_ms", "e2e_ms")
ROOM = 0.85  # of the context is filled: a word is more than a token now and then, and the chat template takes some


class ScenarioError(ValueError):
    """Names the key."""


def parse_lengths(value, key):
    """[(weight, low, high)] of a number, a range "20-300" or a mixture "200:80,8000:20"."""
    out = []
    for part in str(value).split(","):
        span, _, weight = part.partition(":")
        low, _, high = span.partition("-")
        try:
            row = (float(weight or 1), int(low), int(high or low))
        except ValueError:
            raise ScenarioError(f"{key}: {part!r} is no length, range or length:weight") from None
        if row[0] <= 0 or row[1] < 0 or row[2] < row[1]:
            raise ScenarioError(f"{key}: {part!r}: lengths are not below 0, ranges rise, weights are above 0")
        out.append(row)
    return out


def draw_length(rng, rows):
    _, low, high = rng.choices(rows, [r[0] for r in rows])[0]
    return rng.randint(low, high)


def longest(rows):
    return max(high for _, _, high in rows)


def mean(rows):
    return sum(w * (low + high) / 2 for w, low, high in rows) / sum(w for w, _, _ in rows)


def scaled(rows, factor):
    return [(w, int(low * factor), int(high * factor)) for w, low, high in rows]


def known(given, names, where):
    """The names' defaults under what is given; a key that is none of them is an error."""
    if not isinstance(given, dict):
        raise ScenarioError(f"{where or 'the file'} is no table")
    for key in given:
        if key not in names:
            raise ScenarioError(f"{where}{key}: no such key; there are {', '.join(names)}")
    out = {**names, **given}
    for key, default in names.items():
        if isinstance(default, (int, float)) and isinstance(out[key], (int, float)) and not isinstance(out[key], bool) and out[key] < 0:
            raise ScenarioError(f"{where}{key} is below 0")
        if isinstance(default, float) and (isinstance(out[key], bool) or not isinstance(out[key], (int, float))):
            raise ScenarioError(f"{where}{key} is no number")
    return out


@dataclasses.dataclass
class Kind:
    """What sessions of one kind are like; lengths are [(weight, low, high)]."""
    name: str
    weight: float
    turns: list
    shared_tok: int
    first: list
    more: list
    end_tok: int
    answer: list
    body: dict

    def longest_tok(self):
        turns = longest(self.turns)
        grown = self.shared_tok + longest(self.first) + (turns - 1) * (longest(self.more) + longest(self.answer))
        return max(self.end_tok, 0 if self.end_tok else grown) + longest(self.answer)

    def shrink(self, context):
        """Shrinks all lengths in proportion, so that the longest session fits."""
        factor = min(1.0, ROOM * context / max(1, self.longest_tok()))
        if factor < 1:
            self.shared_tok, self.end_tok = int(self.shared_tok * factor), int(self.end_tok * factor)
            self.first, self.more = scaled(self.first, factor), scaled(self.more, factor)
            self.answer = [(w, max(1, low), max(1, high)) for w, low, high in scaled(self.answer, factor)]
        return factor


def make_kind(given, where):
    g = known(given, KIND, where)
    kind = Kind(g["name"] or where.strip("."), g["weight"], parse_lengths(g["turns"], where + "turns"), g["shared_tok"], parse_lengths(g["first_tok"], where + "first_tok"),
                parse_lengths(g["more_tok"], where + "more_tok"), g["end_tok"], parse_lengths(g["answer_tok"], where + "answer_tok"), g["body"])
    if kind.weight <= 0 or min(low for _, low, _ in kind.turns) < 1 or min(low for _, low, _ in kind.answer) < 1:
        raise ScenarioError(f"{where}: weight is above 0, turns and answer_tok are at least 1")
    if not isinstance(kind.shared_tok, int) or not isinstance(kind.end_tok, int) or not isinstance(kind.body, dict):
        raise ScenarioError(f"{where}: shared_tok and end_tok are whole numbers, body is a table")
    if kind.end_tok and kind.end_tok <= kind.shared_tok:
        raise ScenarioError(f"{where}end_tok is not above shared_tok")
    return kind


class Scenario:
    def __init__(self, text, name):
        try:
            top = known(tomllib.loads(text), TOP, "")
        except tomllib.TOMLDecodeError as e:
            raise ScenarioError(str(e)) from None
        self.name, self.sessions, self.warmup, self.seed = name, top["sessions"], top["warmup"], top["seed"]
        if not all(isinstance(n, int) for n in (self.sessions, self.warmup, self.seed)) or self.sessions < 1:
            raise ScenarioError("sessions, warmup and seed are whole numbers, sessions at least 1")
        way = top["arrivals"].get("kind") if isinstance(top["arrivals"], dict) else None
        if way not in ARRIVALS:
            raise ScenarioError(f"arrivals.kind is one of {', '.join(ARRIVALS)}")
        self.arrivals = known(top["arrivals"], {"kind": "", **ARRIVALS[way]}, "arrivals.")
        if min(v for k, v in self.arrivals.items() if k not in ("kind", "think_s")) <= 0:
            raise ScenarioError("arrivals: clients, rate, size and every_s are above 0")
        if not isinstance(top["kinds"], list) or not top["kinds"]:
            raise ScenarioError("kinds: there is none")
        self.kinds = [make_kind(k, f"kinds[{i}].") for i, k in enumerate(top["kinds"])]
        self.objectives = known(top["objectives"], dict.fromkeys(OBJECTIVES, 0.0), "objectives.")

    def shrink(self, context):
        """The smallest factor by which a kind was shrunk."""
        return min(k.shrink(context) for k in self.kinds)

    def draw(self, n, seed):
        """n sessions."""
        rng = random.Random(seed)
        return [Session(self, i, rng.choices(self.kinds, [k.weight for k in self.kinds])[0], rng.random()) for i in range(n)]

    def start_times(self, n, seed):
        """When each session begins, in seconds; None: as soon as a client is free."""
        rng, a = random.Random(seed), self.arrivals
        if a["kind"] == "closed":
            return [None] * n
        if a["kind"] == "bursts":
            return [i // a["size"] * a["every_s"] for i in range(n)]
        out, now = [], 0.0
        for _ in range(n):
            out.append(now)
            now += rng.expovariate(a["rate"])
        return out


class Session:
    """The turns of one user. messages() is asked once a turn, with the answer to the turn before."""

    def __init__(self, scenario, i, kind, seed):
        self.id, self.kind = i, kind
        self.rng = random.Random(seed)
        self.n_turn = draw_length(self.rng, kind.turns)
        self.turn, self.history, self.words = 0, [], 0
        self.shared = random.Random(f"{scenario.seed} {kind.name}")

    def text(self, n, rng=None):
        self.words += n
        return " ".join((rng or self.rng).choices(WORDS, k=n)) if n else ""

    def growth(self):
        """Words that a turn adds beside the answer before it: with end_tok, an even share of what is left after the answers to come."""
        k = self.kind
        if not k.end_tok:
            return draw_length(self.rng, k.more if self.turn else k.first)
        left = self.n_turn - self.turn
        return max(1, round((k.end_tok - self.words - (left - 1) * mean(k.answer)) / left))

    def next_body(self, answer_text):
        """The next turn's fields; None when the session is over."""
        if self.turn == self.n_turn:
            return None
        if self.turn == 0:
            start = [self.text(self.kind.shared_tok, self.shared)] if self.kind.shared_tok else []
            self.history = [{"role": "system", "content": t} for t in start]
        else:
            self.words += len(answer_text.split())
            self.history.append({"role": "assistant", "content": answer_text})
        self.history.append({"role": "user", "content": self.text(self.growth()) or "Hello"})
        self.turn += 1
        return {"messages": list(self.history), "max_tokens": draw_length(self.rng, self.kind.answer), "temperature": 0, "ignore_eos": True, **self.kind.body}


def load_scenario(path, text=None):
    if text is None:
        with open(path, encoding="utf-8") as f:
            text = f.read()
    return Scenario(text, path.rsplit("/", 1)[-1].removesuffix(".toml"))
