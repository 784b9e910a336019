"""Word problems in the format of GSM8K: a short story, a solution of one step a line, and `#### N`.

Knows nothing about models. The key of a problem is its arithmetic in canonical form: story, names, objects, and the
order of commuting operands do not count.
"""

import random
from collections.abc import Callable

from evomerge.zoo.problems.arithmetic import Number, Sheet
from evomerge.zoo.problems.base import Problem

_HE = ("Tom", "Ben", "Sam", "Leo", "Max", "Adam", "Paul", "Omar", "Ivan", "Hugo", "Noah", "Finn")
_SHE = ("Ann", "Mia", "Eva", "Lily", "Rosa", "Nina", "Sara", "Zoe", "Ida", "Vera", "Ruth", "Emma")
_THINGS = (
    *(
        "apples",
        "pens",
        "coins",
        "books",
        "stamps",
        "marbles",
        "cards",
        "eggs",
        "shells",
        "cookies",
        "stickers",
        "balls",
    ),
    *(
        "pencils",
        "oranges",
        "buttons",
        "candles",
        "plums",
        "beads",
        "cups",
        "toys",
        "roses",
        "stones",
        "keys",
        "lemons",
    ),
)
_PACKS = ("boxes", "bags", "packs", "baskets")
_MAX = 160


class _Story:
    """The cast of one problem, and its sheet."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sheet = Sheet()
        self.names = rng.sample(_HE + _SHE, 3)
        self.name = self.names[0]
        self.he = "he" if self.name in _HE else "she"
        self.thing, self.other, self.third = rng.sample(_THINGS, 3)
        self.pack = rng.choice(_PACKS)

    def number(self, low: int, high: int) -> Number:
        return self.sheet.given(self.rng.randint(low, high))

    def pick(self, *options: str) -> str:
        return self.rng.choice(options)


def _event(s: _Story, have: Number) -> tuple[str, Number]:
    """One thing that happens to a pile: the sentence, and the pile after it."""
    he = s.he.capitalize()
    kind = s.rng.choice(("gain", "gain", "lose", "lose", "packs", "packs", "lose packs", "half", "times"))
    if kind == "gain":
        k = s.number(3, 35)
        text = s.pick(
            f"{he} finds {k.value} more.", f"{he} buys {k.value} more.", f"{s.names[1]} gives {s.name} {k.value} more."
        )
        return text, s.sheet.add(have, k)
    if kind == "lose":
        k = s.number(2, have.value - 1)
        text = s.pick(
            f"{he} loses {k.value} of them.", f"{he} gives {k.value} to {s.names[1]}.", f"{he} sells {k.value}."
        )
        return text, s.sheet.sub(have, k)
    if kind == "packs":
        a, b = s.number(2, 9), s.number(3, 12)
        text = s.pick(
            f"{he} buys {a.value} {s.pack} of {b.value} {s.thing}.",
            f"{he} gets {a.value} {s.pack} with {b.value} {s.thing} in each.",
        )
        return text, s.sheet.add(have, s.sheet.mul(a, b))
    if kind == "lose packs":
        a, b = s.number(2, 6), s.number(2, 9)
        text = s.pick(
            f"{he} gives {b.value} {s.thing} to each of {a.value} friends.",
            f"{he} sells {a.value} {s.pack} of {b.value} {s.thing}.",
        )
        return text, s.sheet.sub(have, s.sheet.mul(a, b))
    if kind == "half":
        text = s.pick(f"{he} gives half of them to {s.names[1]}.", f"{he} loses half of them.")
        return text, s.sheet.div(have, s.sheet.given(2))
    k = s.number(2, 3)
    word = "doubles" if k.value == 2 else "triples"
    return f"Then {s.he} {word} the number.", s.sheet.mul(have, k)


def _pile(s: _Story) -> tuple[str, Number]:
    have = s.number(12, 60)
    text = [
        s.pick(
            f"{s.name} has {have.value} {s.thing}.", f"There are {have.value} {s.thing} in {s.name}'s {s.pack[:-1]}."
        )
    ]
    for _ in range(s.rng.choice((1, 2, 2))):
        sentence, have = _event(s, have)
        text.append(sentence)
    end = s.rng.choice(("count", "count", "money", "share"))
    if end == "money":
        price = s.number(2, 3)
        have = s.sheet.mul(have, price)
        text.append(
            s.pick(
                f"{s.he.capitalize()} sells all the rest for ${price.value} each. How many dollars does {s.he} get?",
                f"Each one is worth ${price.value}. How many dollars are they worth now?",
            )
        )
    elif end == "share":
        k = s.number(2, 9)
        have = s.sheet.div(have, k)
        text.append(
            s.pick(
                f"{s.he.capitalize()} shares the rest among {k.value} friends. How many does each friend get?",
                f"{s.he.capitalize()} puts them into {k.value} equal piles. How many are in each pile?",
            )
        )
    else:
        text.append(s.pick(f"How many {s.thing} does {s.name} have now?", f"How many {s.thing} are there in the end?"))
    return " ".join(text), have


def _shopping(s: _Story) -> tuple[str, Number]:
    a, p, b, q = s.number(2, 9), s.number(2, 12), s.number(2, 9), s.number(2, 12)
    text = s.pick(
        f"{s.name} buys {a.value} {s.thing} at ${p.value} each and {b.value} {s.other} at ${q.value} each.",
        f"{s.thing.capitalize()} cost ${p.value} and {s.other} cost ${q.value}. "
        f"{s.name} buys {a.value} {s.thing} and {b.value} {s.other}.",
    )
    cost = s.sheet.add(s.sheet.mul(a, p), s.sheet.mul(b, q))
    end = s.rng.choice(("cost", "change", "change", "coupon", "split"))
    if end == "change":
        note = s.sheet.given(s.rng.choice([n for n in (50, 80, 100, 150) if n > cost.value] or [200]))
        return (
            f"{text} {s.he.capitalize()} pays with ${note.value}. How many dollars of change does {s.he} get?",
            s.sheet.sub(note, cost),
        )
    if end == "coupon":
        off = s.number(2, 15)
        return f"{text} A coupon takes ${off.value} off. How many dollars does {s.he} pay?", s.sheet.sub(cost, off)
    if end == "split":
        k = s.number(2, 3)
        return f"{text} {k.value} friends split the cost equally. How many dollars does each pay?", s.sheet.div(cost, k)
    return f"{text} How many dollars does {s.he} spend?", cost


def _relation(s: _Story, who: str, whom: str, amount: Number) -> tuple[str, Number]:
    kind = s.rng.choice(("more", "fewer", "times", "half"))
    if kind == "more":
        k = s.number(2, 30)
        return f"{who} has {k.value} more {s.thing} than {whom}.", s.sheet.add(amount, k)
    if kind == "fewer":
        k = s.number(2, min(30, amount.value - 1))
        return f"{who} has {k.value} fewer {s.thing} than {whom}.", s.sheet.sub(amount, k)
    if kind == "times":
        k = s.number(2, 3)
        return f"{who} has {k.value} times as many {s.thing} as {whom}.", s.sheet.mul(k, amount)
    return f"{who} has half as many {s.thing} as {whom}.", s.sheet.div(amount, s.sheet.given(2))


def _compare(s: _Story) -> tuple[str, Number]:
    first = s.number(6, 50)
    one, two, three = s.names
    text_two, second = _relation(s, two, one, first)
    text_three, third = _relation(s, three, two, second)
    text = [f"{one} has {first.value} {s.thing}.", text_two, text_three]
    if s.rng.random() < 0.3:
        text = [text[1], text[2], text[0]]
    end = s.rng.choice(("all", "third", "outer", "outer"))
    if end == "all":
        return " ".join(
            [*text, s.pick("How many do they have altogether?", f"How many {s.thing} do the three have in total?")]
        ), (s.sheet.add(s.sheet.add(first, second), third))
    if end == "outer":
        return " ".join([*text, f"How many {s.thing} do {one} and {three} have together?"]), s.sheet.add(first, third)
    return " ".join([*text, f"How many {s.thing} does {three} have?"]), third


def _work(s: _Story) -> tuple[str, Number]:
    wage, hours, days = s.number(2, 9), s.number(2, 8), s.number(2, 3)
    earned = s.sheet.mul(s.sheet.mul(wage, hours), days)
    text = s.pick(
        f"{s.name} earns ${wage.value} an hour and works {hours.value} hours a day for {days.value} days.",
        f"For {days.value} days {s.name} works {hours.value} hours a day at ${wage.value} an hour.",
    )
    if s.rng.random() < 0.5:
        k = s.number(5, 60)
        return f"{text} Then {s.he} spends ${k.value}. How many dollars are left?", s.sheet.sub(earned, k)
    k = s.number(5, 60)
    return f"{text} {s.he.capitalize()} already had ${k.value}. How many dollars does {s.he} have now?", s.sheet.add(
        earned, k
    )


def _trip(s: _Story) -> tuple[str, Number]:
    v, h, w, g = s.number(3, 12), s.number(2, 9), s.number(3, 12), s.number(2, 9)
    total = s.sheet.add(s.sheet.mul(v, h), s.sheet.mul(w, g))
    go = s.pick("rides", "drives", "sails")
    text = f"{s.name} {go} {h.value} hours at {v.value} miles an hour, then {g.value} hours at {w.value} miles an hour."
    if s.rng.random() < 0.5:
        far = s.number(total.value + 2, total.value + 40)
        return f"The way is {far.value} miles long. {text} How many miles are left?", s.sheet.sub(far, total)
    return f"{text} How many miles is that in total?", total


def _reading(s: _Story) -> tuple[str, Number]:
    a, d, k = s.number(3, 12), s.number(2, 9), s.number(2, 9)
    left = s.number(2, 9).value * k.value
    done = s.sheet.mul(a, d)
    pages = s.sheet.given(done.value + left)
    rest = s.sheet.sub(pages, done)
    work, unit = s.rng.choice((("reads", "pages"), ("paints", "doors"), ("packs", "parcels"), ("checks", "lamps")))
    text = s.pick(
        f"{s.name} has {pages.value} {unit} to do and {work} {a.value} {unit} a day for {d.value} days.",
        f"Of {pages.value} {unit} {s.name} {work} {a.value} {unit} a day for {d.value} days.",
    )
    if s.rng.random() < 0.6:
        return f"{text} The rest is done in {k.value} equal parts. How many {unit} are in each part?", s.sheet.div(
            rest, k
        )
    return f"{text} How many {unit} are left?", rest


def _hall(s: _Story) -> tuple[str, Number]:
    rows, seats = s.number(3, 12), s.number(3, 12)
    total = s.sheet.mul(rows, seats)
    text = s.pick(
        f"A hall has {rows.value} rows of {seats.value} seats.",
        f"{s.name} plants {rows.value} rows of {seats.value} trees.",
    )
    taken, halls = s.number(2, total.value - 1), s.number(2, 3)
    unit = "seats" if text.startswith("A hall") else "trees"
    rest = s.sheet.sub(total, taken)
    bad = "are taken" if unit == "seats" else "die"
    if s.rng.random() < 0.5:
        return f"{text} {taken.value} {unit} {bad}. How many {unit} are left?", rest
    place = "halls" if unit == "seats" else "gardens"
    return (
        f"{text} {taken.value} {unit} {bad}. How many are left in {halls.value} such {place}?",
        s.sheet.mul(rest, halls),
    )


_FAMILIES: tuple[Callable[[_Story], tuple[str, Number]], ...] = (
    *(_pile, _pile, _pile, _shopping, _shopping, _compare, _compare),
    *(_work, _trip, _reading, _hall),
)


def make(rng: random.Random) -> Problem:
    """Draw one word problem: `{"question", "answer"}`; every number in it lies between 1 and 160 (200 for a note)."""
    while True:
        story = _Story(rng)
        try:
            question, result = rng.choice(_FAMILIES)(story)
        except ValueError:  # a division with a rest, or nothing left to take away
            continue
        steps = story.sheet.steps
        if len(steps) < 2 or any(not 1 <= int(step.split("=")[1]) <= _MAX for step in steps):
            continue
        answer = "\n".join([*steps, f"#### {result.value}"])
        return Problem(result.form, {"question": question, "answer": answer})
