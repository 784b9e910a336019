"""Small Python functions in the format of MBPP: a sentence, a solution, three asserts that really hold.

A function is a chain of one to three operations on a list of numbers, a string or a list of words. Its key is its
behaviour: the answers on fixed probes, so two ways to write the same function are one problem. Knows nothing about
models. The code that is run here is written by this file alone.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evomerge.zoo.problems.base import Problem


@dataclass(frozen=True)
class _Step:
    """One operation: `do` and `doing` say it (the order and the gerund), `code` is an expression of its input `{}`."""

    do: str
    doing: str
    code: str
    out: str


_Family = Callable[[random.Random], _Step]

_PLAIN_TESTS = (
    ("the even numbers", "{x} % 2 == 0"),
    ("the odd numbers", "{x} % 2 == 1"),
    ("the positive numbers", "{x} > 0"),
    ("the negative numbers", "{x} < 0"),
    ("the non-zero numbers", "{x} != 0"),
)
_LETTERS = "aeiostrnl"


def _test(rng: random.Random, x: str) -> tuple[str, str]:
    """A condition on a number: its words and its code."""
    k, m, d = rng.randint(-5, 15), rng.randint(3, 9), rng.randint(3, 7)
    words, code = rng.choice(
        (
            *_PLAIN_TESTS,
            (f"the numbers greater than {k}", f"{{x}} > {k}"),
            (f"the numbers of at least {k}", f"{{x}} >= {k}"),
            (f"the numbers less than {k}", f"{{x}} < {k}"),
            (f"the numbers of at most {k}", f"{{x}} <= {k}"),
            (f"the numbers other than {k}", f"{{x}} != {k}"),
            (f"the multiples of {d}", f"{{x}} % {d} == 0"),
            (f"the numbers not divisible by {d}", f"{{x}} % {d} != 0"),
            (f"the numbers from {k} to {k + m}", f"{k} <= {{x}} <= {k + m}"),
            (f"the numbers ending in {m}", f"{{x}} % 10 == {m}"),
        )
    )
    return words, code.format(x=x)


def _keep(rng: random.Random) -> _Step:
    words, code = _test(rng, "x")
    if rng.random() < 0.3:
        inverse = f"[x for x in {{}} if not {code}]"
        verb = rng.choice(("remove", "drop"))
        return _Step(f"{verb} {words}", f"{'removing' if verb == 'remove' else 'dropping'} {words}", inverse, "list")
    verb = rng.choice(("keep", "select", "take"))
    gerund = {"keep": "keeping", "select": "selecting", "take": "taking"}[verb]
    return _Step(f"{verb} {words}", f"{gerund} {words}", f"[x for x in {{}} if {code}]", "list")


def _map(rng: random.Random) -> _Step:
    k = rng.randint(2, 15)
    do, doing, code = rng.choice(
        (
            (f"add {k} to each", f"adding {k} to each", f"x + {k}"),
            (f"multiply each by {k}", f"multiplying each by {k}", f"x * {k}"),
            (f"subtract {k} from each", f"subtracting {k} from each", f"x - {k}"),
            (f"subtract each from {k}", f"subtracting each from {k}", f"{k} - x"),
            ("square each", "squaring each", "x * x"),
            ("double each", "doubling each", "x * 2"),
            ("negate each", "negating each", "-x"),
            ("take the absolute value of each", "taking the absolute value of each", "abs(x)"),
            (f"take each modulo {k}", f"taking each modulo {k}", f"x % {k}"),
            (f"divide each by {k} rounding down", f"dividing each by {k} rounding down", f"x // {k}"),
            (f"cap each at {k}", f"capping each at {k}", f"min(x, {k})"),
            (f"raise each to at least {k}", f"raising each to at least {k}", f"max(x, {k})"),
            (f"double each and add {k}", f"doubling each and adding {k}", f"x * 2 + {k}"),
        )
    )
    return _Step(do, doing, f"[{code} for x in {{}}]", "list")


def _choose(rng: random.Random) -> _Step:
    words, code = _test(rng, "x")
    k = rng.randint(2, 9)
    do, doing, expression = rng.choice(
        (
            ("double", "doubling", "x * 2"),
            ("negate", "negating", "-x"),
            ("square", "squaring", "x * x"),
            (f"add {k} to", f"adding {k} to", f"x + {k}"),
        )
    )
    return _Step(f"{do} {words}", f"{doing} {words}", f"[{expression} if {code} else x for x in {{}}]", "list")


def _order(rng: random.Random) -> _Step:
    k = rng.randint(2, 4)
    do, doing, code = rng.choice(
        (
            ("sort the list", "sorting the list", "sorted({})"),
            ("sort from largest to smallest", "sorting from largest to smallest", "sorted({}, reverse=True)"),
            ("reverse the list", "reversing the list", "{}[::-1]"),
            (f"take the first {k}", f"taking the first {k}", f"{{}}[:{k}]"),
            (f"take the last {k}", f"taking the last {k}", f"{{}}[-{k}:]"),
            (f"skip the first {k}", f"skipping the first {k}", f"{{}}[{k}:]"),
            ("drop the last item", "dropping the last item", "{}[:-1]"),
            ("take every second item", "taking every second item", "{}[::2]"),
            ("remove duplicates and sort", "removing duplicates and sorting", "sorted(set({}))"),
            ("take the running differences", "taking the running differences", "[b - a for a, b in zip({0}, {0}[1:])]"),
        )
    )
    return _Step(do, doing, code, "list")


def _reduce(rng: random.Random) -> _Step:
    words, code = _test(rng, "x")
    k = rng.randint(0, 9)
    do, doing, expression = rng.choice(
        (
            ("return the sum", "", "sum({})"),
            ("return the sum", "", "sum({})"),
            ("return the largest or 0", "", "max({}, default=0)"),
            ("return the smallest or 0", "", "min({}, default=0)"),
            ("count them", "", "len({})"),
            ("count the different values", "", "len(set({}))"),
            (f"count how often {k} occurs", "", f"{{}}.count({k})"),
            (f"count {words}", "", f"sum(1 for x in {{}} if {code})"),
            (f"return the sum of {words}", "", f"sum(x for x in {{}} if {code})"),
            (f"check if {k} is among them", "", f"{k} in {{}}"),
            (f"return the sum plus {k}", "", f"sum({{}}) + {k}"),
            ("return the sum of the squares", "", "sum(x * x for x in {})"),
        )
    )
    return _Step(do, doing, expression, "value")


def _string(rng: random.Random) -> _Step:
    a, b = rng.sample(_LETTERS, 2)
    k = rng.randint(2, 4)
    do, doing, code = rng.choice(
        (
            ("reverse the string", "reversing the string", "{}[::-1]"),
            (f"replace {a} by {b}", f"replacing {a} by {b}", f"{{}}.replace('{a}', '{b}')"),
            (f"remove every {a}", f"removing every {a}", f"{{}}.replace('{a}', '')"),
            ("remove the vowels", "removing the vowels", "''.join(c for c in {} if c not in 'aeiou')"),
            ("keep the vowels", "keeping the vowels", "''.join(c for c in {} if c in 'aeiou')"),
            (f"take the first {k} letters", f"taking the first {k} letters", f"{{}}[:{k}]"),
            (f"take the last {k} letters", f"taking the last {k} letters", f"{{}}[-{k}:]"),
            (f"double every {a}", f"doubling every {a}", f"{{}}.replace('{a}', '{a}{a}')"),
            (f"repeat it {k} times", f"repeating it {k} times", f"{{}} * {k}"),
            ("sort the letters", "sorting the letters", "''.join(sorted({}))"),
            (f"add {a} at the end", f"adding {a} at the end", f"{{}} + '{a}'"),
            (f"put {a} in front", f"putting {a} in front", f"'{a}' + {{}}"),
        )
    )
    return _Step(do, doing, code, "string")


def _string_end(rng: random.Random) -> _Step:
    a = rng.choice(_LETTERS)
    do, code = rng.choice(
        (
            ("return the length", "len({})"),
            (f"count the letter {a}", f"{{}}.count('{a}')"),
            ("count the vowels", "sum(1 for c in {} if c in 'aeiou')"),
            ("count the different letters", "len(set({}))"),
            (f"check if it starts with {a}", f"{{}}.startswith('{a}')"),
            (f"find the first {a} or -1", f"{{}}.find('{a}')"),
            ("put it in upper case", "{}.upper()"),
            ("check if it is a palindrome", "{0} == {0}[::-1]"),
            ("list the letters", "list({})"),
        )
    )
    return _Step(do, "", code, "value")


def _words(rng: random.Random) -> _Step:
    a, k = rng.choice(_LETTERS), rng.randint(3, 5)
    do, doing, code = rng.choice(
        (
            (f"keep the words with {a}", f"keeping the words with {a}", f"[w for w in {{}} if '{a}' in w]"),
            (f"drop the words with {a}", f"dropping the words with {a}", f"[w for w in {{}} if '{a}' not in w]"),
            (
                f"keep the words longer than {k}",
                f"keeping the words longer than {k}",
                f"[w for w in {{}} if len(w) > {k}]",
            ),
            (
                f"keep the words shorter than {k}",
                f"keeping the words shorter than {k}",
                f"[w for w in {{}} if len(w) < {k}]",
            ),
            ("reverse each word", "reversing each word", "[w[::-1] for w in {}]"),
            ("sort the words", "sorting the words", "sorted({})"),
            ("sort the words by length", "sorting the words by length", "sorted({}, key=len)"),
            (f"add {a} to each word", f"adding {a} to each word", f"[w + '{a}' for w in {{}}]"),
            (f"cut each word to {k} letters", f"cutting each word to {k} letters", f"[w[:{k}] for w in {{}}]"),
            (f"take the first {k} words", f"taking the first {k} words", f"{{}}[:{k}]"),
        )
    )
    return _Step(do, doing, code, "words")


def _words_end(rng: random.Random) -> _Step:
    a = rng.choice(_LETTERS)
    do, code = rng.choice(
        (
            ("join them with a dash", "'-'.join({})"),
            ("join them", "''.join({})"),
            ("return the length of each", "[len(w) for w in {}]"),
            ("return the total length", "sum(len(w) for w in {})"),
            ("return the first letters", "[w[0] for w in {}]"),
            ("return the last letters joined", "''.join(w[-1] for w in {})"),
            (f"count the words with {a}", f"sum(1 for w in {{}} if '{a}' in w)"),
            ("return the longest or None", "max({}, key=len, default=None)"),
            ("map each word to its length", "{{w: len(w) for w in {}}}"),
            ("count them", "len({})"),
        )
    )
    return _Step(do, "", code, "value")


_VOCABULARY = (
    *("tree", "rain", "stone", "salt", "lion", "nest", "river", "tea", "sand", "loan", "art", "solo", "line", "role"),
    *("radar", "level", "oat", "snail", "tin", "rose", "noon", "essay", "into", "tent", "soil", "ear", "nails", "star"),
)


def _numbers_input(rng: random.Random) -> list[int]:
    return [rng.randint(-9, 20) for _ in range(rng.randint(4, 6))]


def _string_input(rng: random.Random) -> str:
    return "".join(rng.sample(_VOCABULARY, rng.randint(1, 2)))


def _words_input(rng: random.Random) -> list[str]:
    return rng.sample(_VOCABULARY, rng.randint(3, 4))


def _chain(rng: random.Random) -> tuple[str, str, list[_Step], Callable[[random.Random], Any]]:
    """Draw a subject, the name of its argument, the steps, and the maker of inputs."""
    kind = rng.choice(("list", "list", "list", "string", "words"))
    if kind == "string":
        steps = [_string(rng) for _ in range(rng.choice((1, 1, 2, 2)))]
        return "a string", "s", steps + [_string_end(rng)] * (rng.random() < 0.6), _string_input
    if kind == "words":
        steps = [_words(rng) for _ in range(rng.choice((1, 1, 2)))]
        return "a list of words", "words", steps + [_words_end(rng)] * (rng.random() < 0.7), _words_input
    makers: list[_Family] = [
        rng.choice((_keep, _keep, _map, _map, _choose, _order)) for _ in range(rng.choice((1, 2, 2)))
    ]
    steps = [maker(rng) for maker in makers]
    return "a list of numbers", "xs", steps + [_reduce(rng)] * (rng.random() < 0.7), _numbers_input


def _text(rng: random.Random, subject: str, steps: list[_Step]) -> str:
    does = [step.do for step in steps]
    if len(steps) > 1 and rng.random() < 0.35:
        return (
            f"Given {subject}, write a function to {does[-1]} after {' and then '.join(s.doing for s in steps[:-1])}."
        )
    order = does[0] if len(does) == 1 else ", ".join(does[:-1]) + " and " + does[-1]
    return rng.choice(
        (f"Write a function to {order}, given {subject}.", f"Given {subject}, write a function to {order}.")
    )


def _compile(code: str, name: str) -> Callable[[Any], Any]:
    scope: dict[str, Any] = {}
    exec(code, scope)  # this file wrote the code
    function: Callable[[Any], Any] = scope[name]
    return function


_PROBES: dict[str, list[Any]] = {}


def _probes(argument: str, draw: Callable[[random.Random], Any]) -> list[Any]:
    if argument not in _PROBES:
        rng = random.Random(argument)
        _PROBES[argument] = [draw(rng) for _ in range(24)]
    return _PROBES[argument]


def make(rng: random.Random) -> Problem:
    """Draw one function: `{"task_id", "text", "code", "test_list", "test_setup_code"}`; `task_id` is left at 0."""
    while True:
        subject, argument, steps, draw = _chain(rng)
        name = rng.choice(
            {"xs": ("solve", "numbers", "process"), "s": ("convert", "text"), "words": ("words_to", "handle")}[argument]
        )
        lines = [f"    {argument} = {step.code.format(argument)}" for step in steps[:-1]]
        code = "\n".join([f"def {name}({argument}):", *lines, f"    return {steps[-1].code.format(argument)}"])
        function = _compile(code, name)
        answers = [function(probe) for probe in _probes(argument, draw)]
        if len({repr(answer) for answer in answers}) < (2 if isinstance(answers[0], bool) else 5):
            continue  # nearly constant: the asserts would say nothing
        tests = [draw(rng) for _ in range(3)]
        asserts = [f"assert {name}({test!r}) == {function(test)!r}" for test in tests]
        key = argument + "/" + hashlib.sha256(repr(answers).encode()).hexdigest()[:24]
        item = {
            "task_id": 0,
            "text": _text(rng, subject, steps),
            "code": code,
            "test_list": asserts,
            "test_setup_code": "",
        }
        return Problem(key, item)
