import json
import random
import timeit
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.evaluation import Health, Outcome, explained, health_of
from evomerge.evaluation.health import (
    EMPTY,
    LOOP_LENGTH,
    LOOP_LENGTH_WITHOUT_LETTERS,
    LOOP_SHARE,
    LOOP_TIMES,
    LOOPING,
    MISSHAPEN,
    TRUNCATED,
    gain,
    health_of_marks,
    is_looping,
    mark_of,
)
from evomerge.evaluation.types import Likelihood, responses_to_text

STORY = "Natalia sold 48 clips in April. In May she sold 48/2 = 24 clips. Together that is 48 + 24 = 72 clips.\n#### 72"
LOOP = "So the answer is 72 clips. " * 8


def outcome(item=0, score=0.0, task="t", answer="a", truncated=False, **more) -> Outcome:
    return Outcome(
        task=task,
        item=f"test:{item}",
        score=score,
        tokens=1,
        truncated=truncated,
        answer=answer,
        prompt_hash="0" * 16,
        **more,
    )


# ---- one answer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "mark"),
    [
        (outcome(), 0),
        (outcome(truncated=True), TRUNCATED),
        (outcome(answer=""), EMPTY),
        (outcome(answer=" \n" * 200, truncated=True), TRUNCATED | EMPTY),
        (outcome(answer=LOOP), LOOPING),
        (outcome(answer=LOOP, truncated=True), TRUNCATED | LOOPING),
        (outcome(strict=0.0, flexible=1.0), MISSHAPEN),
        (outcome(strict=1.0, flexible=1.0), 0),
        (outcome(strict=1.0, flexible=0.0), 0),
        (outcome(strict=0.0, flexible=0.0), 0),
    ],
)
def test_marks(row, mark):
    assert mark_of(row) == mark


@pytest.mark.parametrize(
    "responses",
    [
        [Likelihood(-12.5, False)],
        [Likelihood(-1.5, True), Likelihood(-1e-7, False), Likelihood(float("-inf"), False), Likelihood(0.0, True)],
        [Likelihood(-1.25, False)] * 40,
    ],
)
def test_likelihoods_have_no_health(responses):
    answer = responses_to_text(responses)
    assert mark_of(outcome(answer=answer)) == 0
    assert mark_of(outcome(answer=answer + " ", truncated=True)) != 0, "a text is no list of likelihoods"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "7",
        "1" + "0" * 60,
        "0.3333333333333333333333333333333333",
        "11111111111111111111111111111111",
        "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]",
        "0 0 0 0\n0 0 0 0\n0 0 0 0\n0 0 0 0",
        "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n| 1 | 2 | 3 |",
        "Result:\n" + "=" * 72,
        "ha ha ha ha ha!",
        "x = f(x)\nx = f(x)\nx = f(x)",
        "def f(a):\n" + "".join(f"    if a > {n}:\n        a.pop()\n" for n in (3, 2, 1)) + "    return a",
        "def f(s):\n    s = s.replace('a', '')\n    s = s.replace('b', '')\n    s = s.replace('c', '')\n    return s",
        "\n".join(f"{n} * 7 = {7 * n}" for n in range(1, 30)),
        "apple, banana, cherry, apple, banana, cherry",
        STORY,
        STORY + "\n\n\n",
        "def f(x):\n    return x" + " " * 30,
    ],
)
def test_sane_answers_do_not_loop(answer):
    assert not is_looping(answer)


@pytest.mark.parametrize(
    "answer",
    [
        LOOP,
        STORY + LOOP,
        STORY + LOOP[:-9],
        "tris" * 12,
        "a" * 40,
        "def f(a):\n" + "    a = sorted(a)\n" * 6,
        "1, 2, " * 30,
        STORY + "\n" * 120,
        "Question: 1 + 1?\nAnswer: 2\n" * 20,
        "答えは七十二です。" * 8,
        "x" * 500 + STORY * 6,
    ],
)
def test_loops_loop(answer):
    assert is_looping(answer)


def test_every_threshold_of_a_loop_counts():
    assert LOOP_TIMES * 20 > LOOP_LENGTH
    unit, other = "abcdefghijklmnopqrst", "ABCDEFGHIJKLMNOPQRSTUVWXYZ,.;:-_#+*0123456789"
    assert is_looping(unit * 3)
    assert not is_looping((unit * 3)[1:]), "two and a bit"
    assert is_looping("ab" * (LOOP_LENGTH // 2))
    assert not is_looping("ab" * (LOOP_LENGTH // 2 - 1))
    assert is_looping("0," * (LOOP_LENGTH_WITHOUT_LETTERS // 2))
    assert not is_looping("0," * (LOOP_LENGTH_WITHOUT_LETTERS // 2 - 1))
    assert LOOP_SHARE == 0.25
    before = (other * 10)[: 3 * 60 + 1]
    assert is_looping(before[1:] + unit * 3)
    assert not is_looping(before + unit * 3), "less than a quarter of the answer"
    assert not is_looping(unit * 9 + "."), "only the end counts"


def obviously_looping(answer):
    """The definition, in cubic time."""
    for period in range(1, len(answer) // 3 + 1):
        n = period
        while n < len(answer) and answer[-n - 1] == answer[-n - 1 + period]:
            n += 1
        lettered = any(c.isalpha() for c in answer[-period:])
        if n >= 3 * period and n >= 0.25 * len(answer) and n >= (40 if lettered else 100):
            return True
    return False


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text("ab0", max_size=30), st.text("ab0 ", min_size=1, max_size=30), st.integers(1, 60), st.integers(0, 30))
def test_looping_is_what_its_definition_says(before, unit, times, cut):
    answer = before * 4 + (unit * times)[: len(unit) * times - cut]
    assert is_looping(answer) == obviously_looping(answer)


def test_looping_takes_linear_time():
    def seconds(n):
        texts = (
            "a" * (n - 1) + "b",
            ("ab" * n)[:n] + "c",
            "".join(random.Random(n).choices("ab", k=n)),
            "a" * n + LOOP,
        )
        return max(min(timeit.repeat(lambda text=text: is_looping(text), number=1, repeat=3)) for text in texts)

    assert seconds(100_000) < 40 * seconds(10_000), "ten times the text, not a hundred times the time"


@pytest.mark.parametrize("file", ["gsm8k/train.jsonl", "gsm8k/test.jsonl", "mbpp/mbpp.jsonl"])
def test_reference_answers_are_sound(real_data, file):
    rows = [json.loads(line) for line in (real_data / file).read_text(encoding="utf-8").splitlines()]
    answers = [row["answer"] if "answer" in row else row["code"] for row in rows]
    assert len(answers) > 900
    assert [answer for answer in answers if mark_of(outcome(answer=answer))] == []
    assert sum(is_looping(answer + answer[-50:] * 30) for answer in answers) == len(answers), "the check can fail"


# ---- rates -----------------------------------------------------------------------------------------------------------


def test_rates():
    rows = [
        outcome(),
        outcome(answer=" \n"),
        outcome(truncated=True),
        outcome(answer="", truncated=True),
        outcome(answer=LOOP, strict=0.0, flexible=1.0),
    ]
    assert health_of(rows) == Health(items=5, truncated=0.4, empty=0.4, looping=0.2, misshapen=0.2)
    assert not health_of(rows).sound
    assert health_of(rows[:1]).sound
    assert health_of_marks([0, 1, 15]) == Health(3, 2 / 3, 1 / 3, 1 / 3, 1 / 3)


def test_no_outcomes():
    assert health_of([]) == Health(items=0)


# ---- a gain ----------------------------------------------------------------------------------------------------------


def parent():
    """100 items: 30 right, 30 wrong, 40 cut off of which 10 are right all the same."""
    return [outcome(i, float(i < 30 or 60 <= i < 70), answer=STORY, truncated=i >= 60) for i in range(100)]


def changed(rows, items, **changes):
    return [replace(row, **changes) if i in items else row for i, row in enumerate(rows)]


def test_a_pure_fix_of_truncation_is_always_flagged():
    for healed in (1, 5, 30):
        items = range(100 - healed, 100)
        assert explained(changed(parent(), items, truncated=False, score=1.0), parent())


@pytest.mark.parametrize(
    "sick",
    [{"truncated": True}, {"answer": ""}, {"answer": LOOP}, {"strict": 0.0, "flexible": 1.0}],
)
def test_every_kind_of_sickness_explains(sick):
    before = [outcome(i, **sick) for i in range(9)]
    after = [outcome(i, 1.0, strict=1.0, flexible=1.0) for i in range(9)]
    assert explained(after, before)
    assert not explained(before, after), "a loss is never flagged"


def test_a_true_gain_is_never_flagged():
    learnt = changed(parent(), range(30, 60), score=1.0)
    assert not explained(learnt, parent())
    assert not explained(changed(learnt, range(60, 100), truncated=False), parent()), "healed, but no better for it"
    assert not explained(changed(learnt, range(30, 60), answer=LOOP), parent()), "right in spite of rambling on"
    assert not explained(changed(parent(), range(70, 100), score=1.0), parent()), "as truncated as before, but right"


def test_other_items_fall_ill_and_the_gain_is_still_true():
    """As many answers are lost to truncation as are healed of it; what remains of the gain is knowledge."""
    after = changed(parent(), range(70, 80), truncated=False, score=1.0)
    after = changed(after, range(10), truncated=True, score=0.0)
    assert not explained(changed(after, range(30, 33), score=1.0), parent())
    result = gain(((a.score, mark_of(a)), (b.score, mark_of(b))) for a, b in zip(after, parent(), strict=True))
    assert (result.total, result.health, result.share, result.explained) == (0.0, 0.0, None, False)


@pytest.mark.parametrize(("healed", "learnt", "flagged"), [(10, 9, True), (10, 10, True), (10, 11, False)])
def test_half_of_the_gain_is_the_limit(healed, learnt, flagged):
    after = changed(parent(), range(70, 70 + healed), truncated=False, score=1.0)
    after = changed(after, range(30, 30 + learnt), score=1.0)
    assert explained(after, parent()) is flagged
    assert explained(changed(after, range(30), score=0.0), parent()) is False, "no gain, no flag"


def test_strict_scoring_counts_form_as_health_and_flexible_scoring_does_not():
    """The parent knows 40 of 60 but writes 20 of them in the wrong form; the candidate knows 45 and writes well."""

    def rows(known, formed, by):
        return [
            outcome(
                i,
                float(i < {"strict": formed, "flexible": known}[by]),
                strict=float(i < formed),
                flexible=float(i < known),
            )
            for i in range(60)
        ]

    assert explained(rows(45, 45, "strict"), rows(40, 20, "strict"))
    assert not explained(rows(45, 45, "flexible"), rows(40, 20, "flexible"))
    assert not explained(rows(45, 20, "flexible"), rows(40, 40, "flexible")), "new knowledge, badly written"
    assert not explained(rows(50, 25, "strict"), rows(20, 20, "strict"))


def test_only_common_items_count_and_tasks_are_kept_apart():
    before = [outcome(0, 0.0, truncated=True), outcome(1, 0.0), outcome(0, 0.0, task="other")]
    after = [outcome(1, 1.0), outcome(0, 1.0, task="other"), outcome(7, 1.0)]
    assert not explained(after, before)
    assert explained([*after[2:], outcome(0, 1.0)], before)
    assert not explained([outcome(7, 1.0)], before), "nothing in common"


def test_scores_that_are_no_shares():
    before, after = [outcome(i, -300.0, answer=LOOP) for i in range(5)], [outcome(i, -20.0) for i in range(5)]
    assert explained(after, before)
    assert not explained(before, after)


ANSWERS = st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.integers(0, 15))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(ANSWERS, ANSWERS), max_size=30))
def test_laws_of_gains(pairs):
    result = gain(pairs)
    there, back = result, gain((parent, candidate) for candidate, parent in pairs)
    assert (back.total, back.health) == (-there.total, -there.health), "the same rule in both directions"
    assert not (there.explained and back.explained)
    assert not result.explained or result.total > 0
    sound = gain(((a[0], 0), (b[0], 0)) for a, b in pairs)
    assert (sound.total, sound.health, sound.explained) == (result.total, 0.0, False)
