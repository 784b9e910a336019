"""How sound a model's answers are, apart from whether they are right, and how much of a gain is only that.

A merge may gain because it stops in time or writes answers where the filter finds them, not because it knows more.
Pure functions of outcomes, or of their scores and marks (`mark_of`), which is all that a ledger keeps of them. Tasks
that are scored by likelihood have no answers that could be unsound: all their marks are 0.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from evomerge.evaluation.types import Outcome

#: What may be wrong with an answer: bits of its mark, a number below 16 (one hexadecimal digit).
TRUNCATED, EMPTY, LOOPING, MISSHAPEN = 1, 2, 4, 8
_UNSOUND = TRUNCATED | EMPTY | LOOPING

LOOP_TIMES = 3  # repetitions of a unit that make a loop
LOOP_LENGTH = 40  # characters that it fills at least
LOOP_LENGTH_WITHOUT_LETTERS = 100  # where the unit is digits, punctuation or white space, as in 10000000 or 0, 0, 0, 0
LOOP_SHARE = 0.25  # of the answer that it fills at least

_NUMBER = r"-?(?:[0-9][-+.0-9e]*|Infinity|NaN)"
_LIKELIHOODS = re.compile(rf"\[(?:\[{_NUMBER}, (?:true|false)\](?:, (?=\[)|(?=\]$)))+\]")


@dataclass(frozen=True)
class Health:
    """Rates over a model's outcomes on one task, each between 0 and 1; all are 0 where there are no outcomes.

    Attributes:
        items: how many outcomes.
        truncated: answers cut off by the token limit.
        empty: answers of white space only.
        looping: answers whose end repeats itself (`is_looping`).
        misshapen: answers that are better under the filter `flexible-extract` than under `strict-match`: right, but
            not in the form that was asked for.
    """

    items: int
    truncated: float = 0.0
    empty: float = 0.0
    looping: float = 0.0
    misshapen: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with any answer."""
        return not (self.truncated or self.empty or self.looping or self.misshapen)


@dataclass(frozen=True)
class Gain:
    """What a candidate gains over a parent on the same items of a task.

    Attributes:
        items: how many items both were scored on.
        total: the mean difference of scores, candidate minus parent.
        health: the part of `total` that comes from sounder or better formed answers (`gain`); may exceed the total, or
            be negative.
    """

    items: int
    total: float
    health: float

    @property
    def share(self) -> float | None:
        """The part of the gain that is health, as a share of it; None where nothing is gained."""
        return self.health / self.total if self.total > 0 else None

    @property
    def explained(self) -> bool:
        """Whether there is a gain and at least half of it is health."""
        return self.total > 0 and 2 * self.health >= self.total


def mark_of(outcome: Outcome) -> int:
    """Return what is wrong with an answer, as the sum of TRUNCATED, EMPTY, LOOPING and MISSHAPEN; 0 if it is sound."""
    if _LIKELIHOODS.fullmatch(outcome.answer):
        return 0
    mark = TRUNCATED if outcome.truncated else 0
    if not outcome.answer.strip():
        mark |= EMPTY
    elif is_looping(outcome.answer):
        mark |= LOOPING
    if outcome.strict is not None and outcome.flexible is not None and outcome.flexible > outcome.strict:
        mark |= MISSHAPEN
    return mark


def is_looping(answer: str) -> bool:
    """Return whether the end of an answer repeats itself.

    That is: its last n characters have a period p (each is equal to the one p before it), n is at least three times p,
    at least a quarter of the answer, and at least 40 (100 if no letter is among them, for numbers and tables repeat
    themselves honestly). The last repetition need not be complete, and what comes before the loop does not matter.

    Takes time linear in the answer's length: one pass of the Z algorithm (Gusfield 1997, §1.4) over the reversed text.
    """
    length, text = len(answer), answer[::-1]
    longest = length // LOOP_TIMES
    least = max(LOOP_LENGTH, LOOP_SHARE * length)
    if length < least:
        return False
    # a loop of period p repeats two thirds of itself p further on, or more: most answers are sound, and told so at once
    start = text[: math.ceil(least * (LOOP_TIMES - 1) / LOOP_TIMES)]
    if text.find(start, 1, longest + len(start)) < 0:
        return False
    agree = [0] * (longest + 1)  # agree[p]: how many characters of the reversed text equal those p further on
    left = right = 0
    for period in range(1, longest + 1):
        same = min(right - period, agree[period - left]) if period < right else 0
        while period + same < length and text[same] == text[period + same]:
            same += 1
        agree[period] = same
        if period + same > right:
            left, right = period, period + same
        loop = period + same
        if loop >= max(LOOP_TIMES * period, least):
            lettered = any(character.isalpha() for character in text[:period])
            if lettered or loop >= LOOP_LENGTH_WITHOUT_LETTERS:
                return True
    return False


def health_of(outcomes: Iterable[Outcome]) -> Health:
    """Return the health of a model's outcomes on one task."""
    return health_of_marks(mark_of(outcome) for outcome in outcomes)


def health_of_marks(marks: Iterable[int]) -> Health:
    """Return the health of a model from the marks of its answers to one task."""
    marks = list(marks)
    bits = (TRUNCATED, EMPTY, LOOPING, MISSHAPEN)
    rates = [sum(bool(mark & bit) for mark in marks) / max(len(marks), 1) for bit in bits]
    return Health(len(marks), *rates)


def gain(pairs: Iterable[tuple[tuple[float, int], tuple[float, int]]]) -> Gain:
    """Return what a candidate gains over a parent and how much of it is health.

    Args:
        pairs: for each item that both were scored on, (score, mark) of the candidate and (score, mark) of the parent.

    The difference of the scores on an item is health

    - where the candidate is better and the parent's answer was truncated, empty or looping while the candidate's is
      not, or the parent's was misshapen: under strict scoring that parent knew the answer already;
    - where the candidate is worse and the same holds the other way round: what it loses by answers that are less sound
      is taken off what it gains by those that are sounder.

    All other differences are knowledge: where both answers are sound; where both are unsound; where a candidate is
    better with an answer that is itself unsound (but was not misshapen at the parent), or worse with one that is sound.
    Where flexible extraction is the score, a misshapen answer has the full score already, no other is better, and it
    never counts. The two parts add up to the total.
    """
    total, health = [], []
    for candidate, parent in pairs:
        difference = candidate[0] - parent[0]
        total.append(difference)
        worse, better = (parent[1], candidate[1]) if difference > 0 else (candidate[1], parent[1])
        if worse & MISSHAPEN or (worse & _UNSOUND and not better & _UNSOUND):
            health.append(difference)
    items = max(len(total), 1)
    return Gain(len(total), math.fsum(total) / items, math.fsum(health) / items)


def explained(candidate: Iterable[Outcome], parent: Iterable[Outcome]) -> bool:
    """Return whether a candidate's gain over a parent, on the items that both have, is health for at least one half.

    False where there is no gain. `gain` says what counts as health.
    """
    before = {(outcome.task, outcome.item): outcome for outcome in parent}
    both = [(outcome, before[place]) for outcome in candidate if (place := (outcome.task, outcome.item)) in before]
    return gain(((new.score, mark_of(new)), (old.score, mark_of(old))) for new, old in both).explained
