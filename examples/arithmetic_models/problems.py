"""Arithmetic word problems with a right and a wrong worked solution.

The generator behind the two embedded demonstration models: `train.py` learns from its pairs, the tests measure on pairs
whose prompts it holds out. Standard library only, and a pure function of the random generator it is given.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

NAMES = (
    "Jane",
    "Tom",
    "Maria",
    "Ali",
    "Chen",
    "Olga",
    "Ben",
    "Priya",
    "Sam",
    "Nina",
    "Leo",
    "Ruth",
    "Kofi",
    "Emma",
    "Juan",
    "Mei",
)
FRIENDS = ("Mark", "Anna", "Paul", "Lily", "Omar", "Sara", "Ivan", "Rosa", "Dan", "Zoe")
PRONOUNS = {
    "Jane": "she",
    "Maria": "she",
    "Olga": "she",
    "Priya": "she",
    "Nina": "she",
    "Ruth": "she",
    "Emma": "she",
    "Mei": "she",
}
ITEMS = ("apple", "marble", "book", "card", "coin", "sticker", "pencil", "orange", "shell", "cookie")
OTHERS = ("siblings", "friends", "cousins", "neighbors")
HELD_OUT_PARTS = 16


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt with a right and a wrong answer."""

    prompt: str
    right: str
    wrong: str

    @property
    def held_out(self) -> bool:
        """Whether the prompt belongs to the sixteenth of all prompts that training never sees."""
        return hashlib.sha256(self.prompt.encode()).digest()[0] % HELD_OUT_PARTS == 0


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the count: `before (op) amount = after`; `verb` tells it with a place `{n}` for what changes hands."""

    verb: str
    op: str
    amount: int
    to: str = ""


def pairs(rng: random.Random, *, held_out: bool, terse: float = 0.3) -> Iterator[Pair]:
    """Yields pairs for ever; `held_out` picks which side of the split their prompts are on, `terse` the share of bare sums."""
    while True:
        pair = _terse_pair(rng) if rng.random() < terse else _story_pair(rng)
        if pair.held_out is held_out and pair.right != pair.wrong:
            yield pair


def number(value: float) -> str:
    """A count as it is written in an answer: 3, 4.5 or 2.67."""
    return f"{round(value, 2):g}"


def _apply(op: str, left: int, right: int) -> int:
    return {"+": left + right, "-": left - right, "*": left * right}[op]


def _slip(rng: random.Random, value: int) -> int:
    return max(0, value + rng.choice((-10, -3, -2, -1, 1, 2, 3, 10))) if value > 2 else value + rng.choice((1, 2, 3))


def _terse_pair(rng: random.Random) -> Pair:
    op = rng.choice("++---*/÷")
    if op in "+-":
        left, right = rng.randint(0, 40), rng.randint(0, 15)
        if op == "-" and right > left:
            left, right = right, left
    else:
        left, right = rng.randint(1, 10), rng.randint(1, 10)
        if op != "*":
            left *= right
    value = left // right if op in "/÷" else _apply(op, left, right)
    gap = rng.choice(("", " "))
    term = f"{left}{gap}{op}{gap}{right}"
    prompt = rng.choice(("What is {}?", "Compute {}.", "What does {} equal?", "{} = ?")).format(term)
    answer = rng.choice((f"{term}{gap}={gap}{{}}", "The answer is {}.", "{}", f"{term}{gap}={gap}{{}}"))
    return Pair(prompt, answer.format(value), answer.format(_slip(rng, value)))


def _story_pair(rng: random.Random) -> Pair:
    story = _Story.draw(rng)
    right = story.solve(mistake=None, rng=rng)
    wrong = story.solve(mistake=story.draw_mistake(rng), rng=rng)
    return Pair(story.prompt(), right, wrong)


@dataclass(frozen=True, slots=True)
class _Story:
    name: str
    item: str
    start: int
    steps: tuple[Step, ...]
    sharers: int
    """Other people in the final split; 0 when the story ends by asking for the count."""
    others: str
    sign: str
    brief: bool
    """Whether the answer writes "gives 4 to Mark" where the prompt writes "gives 4 apples to her friend Mark"."""

    @classmethod
    def draw(cls, rng: random.Random) -> _Story:
        split = rng.random() < 0.6
        sharers = rng.randint(1, 5) if split else 0
        while True:
            start = count = rng.randint(3, 30)
            steps = []
            for _ in range(rng.randint(0 if split else 1, 3)):
                step = _draw_step(rng, count)
                count = _apply(step.op, count, step.amount)
                steps.append(step)
            if count <= 40 and (not split or (count % (sharers + 1) == 0 and count > 0)):
                break
        others = rng.choice(OTHERS)
        brief = rng.random() < 0.5
        return cls(rng.choice(NAMES), rng.choice(ITEMS), start, tuple(steps), sharers, others, rng.choice("÷÷/"), brief)

    @property
    def pronoun(self) -> str:
        return PRONOUNS.get(self.name, "he")

    @property
    def possessive(self) -> str:
        return "her" if self.pronoun == "she" else "his"

    @property
    def crowd(self) -> str:
        group = self.others if self.sharers > 1 else self.others.removesuffix("s")
        return f"{self.possessive} {self.sharers} {group}"

    def count(self, n: float) -> str:
        return f"{number(n)} {self.item}" if n == 1 else f"{number(n)} {self.item}s"

    def prompt(self) -> str:
        told = [self._told(step) for step in self.steps]
        himself = "herself" if self.pronoun == "she" else "himself"
        if self.sharers:
            told.append(f"splits all {self.possessive} {self.item}s equally among {himself} and {self.crowd}")
            asked = f"How many {self.item}s does each person get?"
        else:
            asked = f"How many {self.item}s does {self.name} have now?"
        if len(told) > 1:
            told = [told[0], *(f"then {part}" for part in told[1:-1]), f"and finally {told[-1]}"]
        pronoun = self.pronoun.capitalize()
        return f"{self.name} has {self.count(self.start)}. {pronoun} {', '.join(told)}. {asked}"

    def _told(self, step: Step, *, brief: bool = False) -> str:
        if " more" in step.verb:
            return step.verb.format(n=step.amount) + f" {self.item}" + "s" * (step.amount != 1)
        friend = f" to {self.possessive} friend {step.to}" if step.to and not brief else f" to {step.to}" if step.to else ""
        return step.verb.format(n=str(step.amount) if brief else self.count(step.amount)) + friend

    def draw_mistake(self, rng: random.Random) -> tuple[str, int]:
        """A kind of mistake and the step it happens in; step `len(steps)` is the split or the closing sentence."""
        kinds = [(kind, at) for at in range(len(self.steps)) for kind in ("slip", "operation", "amount")]
        if self.sharers:
            kinds += [("forgot_self", len(self.steps))] * 3 + [("slip", len(self.steps))]
        kinds.append(("closing", len(self.steps)))
        return rng.choice(kinds)

    def solve(self, *, mistake: tuple[str, int] | None, rng: random.Random) -> str:
        kind, at = mistake or ("", -1)
        count, lines = self.start, []
        for index, step in enumerate(self.steps):
            op, amount = step.op, step.amount
            if index == at and kind == "operation":
                op = "+" if op == "-" else "-"
            if index == at and kind == "amount":
                amount = max(1, amount + rng.choice((-2, -1, 1, 2))) if amount > 1 else amount + rng.choice((1, 2))
            after = max(0, _apply(op, count, amount))
            if index == at and kind == "slip":
                after = _slip(rng, after)
            told = self._told(step, brief=self.brief)
            opening = f"starts with {self.count(self.start)} and {told}" if index == 0 else told
            lines.append(f"{self.name} {opening}. {count} {op} {amount} = {after}. {self.name} now has {self.count(after)}.")
            count = after
        lines.append(self._closing(count, kind if at == len(self.steps) else "", rng))
        return "\n".join(f"{index}. {line}" for index, line in enumerate(lines, 1)) if len(lines) > 1 else lines[0]

    def _closing(self, count: int, kind: str, rng: random.Random) -> str:
        if not self.sharers:
            told = _slip(rng, count) if kind == "closing" else count
            return f"The answer is {self.count(told)}."
        himself = "herself" if self.pronoun == "she" else "himself"
        among, people = f"{himself} and {self.crowd}", self.sharers + 1
        if kind == "forgot_self":
            among, people = self.crowd, self.sharers
        each = count / people
        if kind == "slip":
            each = _slip(rng, int(each))
        told = _slip(rng, int(each)) if kind == "closing" else each
        return (
            f"{self.name} splits the {self.count(count)} equally among {among} ({people} people in total). "
            f"{count} {self.sign} {people} = {number(each)} {self.item}s each. Each person gets {self.count(told)}."
        )


def _draw_step(rng: random.Random, count: int) -> Step:
    if count > 2 and rng.random() < 0.5:
        amount = rng.randint(1, min(12, count - 1))
        verb = rng.choice(("gives {n}", "gives {n}", "loses {n}", "sells {n}"))
        return Step(verb, "-", amount, to=rng.choice(FRIENDS) if verb.startswith("gives") else "")
    verb = rng.choice(("buys {n} more", "finds {n} more", "gets {n} from a neighbor"))
    return Step(verb, "+", rng.randint(1, 12))


def main() -> None:
    """Prints held-out pairs as JSON lines: `python problems.py 10 > pairs.jsonl`."""
    for pair in itertools.islice(pairs(random.Random(1), held_out=True), int(sys.argv[1])):
        print(json.dumps(asdict(pair), ensure_ascii=False))


if __name__ == "__main__":
    main()
