import math
import subprocess
import sys

import numpy as np
import pytest
from lm_eval.api import metrics as harness

from evomerge.errors import UsageError, WorkError
from evomerge.evaluation import Generation, TaskSpec
from evomerge.evaluation.metrics import defined_for_one, item_score, own_metric, source_of

ANSWER = Generation("x", 7, False)


def spec(metric, **more) -> TaskSpec:
    return TaskSpec("t", "gsm8k", metric=metric, **more)


@pytest.mark.parametrize(
    ("value", "aggregation", "higher", "expected"),
    [
        (1, harness.mean, True, (1.0, 1.0)),
        (np.float64(0.25), harness.mean, False, (-0.25, 1.0)),
        (True, harness.mean, True, (1.0, 1.0)),
        ((-12.0, 4), harness.weighted_perplexity, False, (-3.0, 4.0)),
        ((-12.0, 4), harness.bits_per_byte, False, (-3.0 / math.log(2), 4.0)),
        (-12.0, harness.perplexity, False, (-12.0, 1.0)),
        ((1, np.array([0.2, 0.5, 0.3])), harness.brier_score, False, (-(0.04 + 0.25 + 0.09), 1.0)),
        (["a b c d", "a b c d"], harness.bleu, True, (100.0, 1.0)),
        ([1, 2, 3], max, True, None),
        ([1.0, 2.0, 3.0], lambda items: sum(items[0]), True, (6.0, 1.0)),
        (None, harness.bleu, True, None),
        ("yes", harness.mean, True, None),
        ((1, [0.1, 0.2]), harness.mean, True, None),
        ((-1.0, 0), harness.weighted_perplexity, False, None),
    ],
)
def test_item_score(value, aggregation, higher, expected):
    if expected is None:
        with pytest.raises((TypeError, ValueError, ZeroDivisionError)):
            item_score(value, aggregation, higher_is_better=higher)
    else:
        assert item_score(value, aggregation, higher_is_better=higher) == pytest.approx(expected)


def test_weighted_mean_of_scores_is_the_perplexity():
    values = [(-12.0, 4), (-3.0, 2), (-40.0, 9)]
    scored = [item_score(value, harness.weighted_perplexity, higher_is_better=False) for value in values]
    mean = sum(score * weight for score, weight in scored) / sum(weight for _, weight in scored)
    assert math.exp(-mean) == pytest.approx(harness.weighted_perplexity(values))


def test_what_one_item_cannot_say():
    assert not defined_for_one(harness.f1_score)
    assert not defined_for_one(harness.matthews_corrcoef)
    assert defined_for_one(harness.mean)


def test_metrics_of_lm_eval_are_not_ours():
    assert own_metric(spec(None)) is own_metric(spec("acc")) is None


def test_answer_length():
    metric = own_metric(spec("answer_length"))
    assert (metric.value({}, "x", ANSWER), metric.higher_is_better) == (7.0, False)
    assert own_metric(spec("answer_length", higher_is_better=True)).higher_is_better


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("de", "Sie hat noch drei Äpfel übrig, also ist die Antwort 3.", 1.0),
        ("de", "She has three apples left, so the answer is 3.", 0.0),
        ("en", "She has three apples left, so the answer is 3.", 1.0),
        ("ja", "残りのりんごは3個です。", 1.0),
        ("af", "", 0.0),  # nothing tells
        ("af", "42 + 7 = 49", 0.0),
        ("af", "\n \t", 0.0),
    ],
)
def test_answer_language(language, text, expected):
    metric = own_metric(spec("answer_language", language=language))
    assert metric.higher_is_better
    assert metric.value({}, text, ANSWER) == expected


def test_unknown_language():
    with pytest.raises(UsageError, match="task t: language 'german' is none of .*, de, "):
        own_metric(spec("answer_language", language="german"))


def test_the_missing_extra_names_itself():
    code = """
import sys
sys.modules["py3langid"] = None  # as if it were not installed
from evomerge.evaluation import TaskSpec
from evomerge.evaluation.metrics import own_metric
own_metric(TaskSpec("t", "gsm8k", metric="answer_language", language="de"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UsageError: task t: metric answer_language needs: pip install 'evomerge[language]'" in done.stderr


def test_a_function_of_the_users(tmp_path, monkeypatch):
    path = tmp_path / "scores.py"
    path.write_text("def score(doc, answer):\n    return doc['bonus'] + len(answer)\n")
    metric = own_metric(spec(f"{path}:score"))
    assert metric.value({"bonus": 1}, "four", ANSWER) == 5.0
    assert metric.higher_is_better
    monkeypatch.syspath_prepend(tmp_path)
    assert own_metric(spec("scores:score")).value({"bonus": 1}, "four", ANSWER) == 5.0
    assert not own_metric(spec("scores:score", higher_is_better=False)).higher_is_better
    same = metric.fingerprint
    assert own_metric(spec(f"{path}:score")).fingerprint == same
    path.write_text("def score(doc, answer):\n    return 0\n")
    changed = own_metric(spec(f"{path}:score"))
    assert changed.value({}, "", ANSWER) == 0.0  # no old copy
    assert changed.fingerprint != same


@pytest.mark.parametrize(
    ("content", "reference", "words"),
    [
        (None, "FILE:score", "metric file .*mine.py does not exist"),
        ("", "FILE:score", "metric .*: .*mine.py has no function 'score'; write FILE.py:function"),
        ("score = 1", "FILE:score", "has no function 'score'"),
        ("def score(", "FILE:score", "cannot be imported: SyntaxError"),
        ("import nothing_like_it", "FILE:score", "cannot be imported: ModuleNotFoundError"),
        (None, "no.such.module:score", "cannot be imported: ModuleNotFoundError: No module named 'no'"),
        (None, ":score", "cannot be imported: ValueError"),
    ],
)
def test_functions_that_cannot_be_had(tmp_path, content, reference, words):
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=words) as caught:
        own_metric(spec(reference.replace("FILE", str(path))))
    assert str(caught.value).startswith("task t: metric ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [("return 1 / 0", "ZeroDivisionError: division by zero"), ("return 'high'", "ValueError: could not convert")],
)
def test_functions_that_fail(tmp_path, body, words):
    path = tmp_path / "mine.py"
    path.write_text(f"def score(doc, answer):\n    {body}\n")
    with pytest.raises(WorkError, match=f"metric .*mine.py:score fails: {words}"):
        own_metric(spec(f"{path}:score")).value({}, "", ANSWER)


def test_functions_are_known_by_their_source(tmp_path):
    assert source_of(spec) == f"spec/{__import__('inspect').getsource(spec)}"
    assert source_of(len) == "len"
