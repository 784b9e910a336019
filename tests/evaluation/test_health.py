import pytest

from evomerge.evaluation import Health, Outcome, health_by_task, health_of


def outcome(task="t", answer="a", truncated=False, **more) -> Outcome:
    return Outcome(
        task=task, item="test:0", score=0.0, tokens=1, truncated=truncated, answer=answer, prompt_hash="0" * 16, **more
    )


def test_rates():
    rows = [outcome(), outcome(answer=" \n"), outcome(truncated=True), outcome(answer="", truncated=True)]
    assert health_of(rows) == Health(items=4, truncated=0.5, empty=0.5)
    assert health_of(rows).format_loss is None


def test_strict_against_flexible():
    result = health_of([outcome(strict=0.0, flexible=1.0), outcome(strict=1.0, flexible=1.0)])
    assert (result.strict, result.flexible) == (0.5, 1.0)
    assert result.format_loss == pytest.approx(0.5)


def test_no_outcomes():
    assert health_of([]) == Health(items=0, truncated=0.0, empty=0.0)


def test_by_task():
    result = health_by_task([outcome("b"), outcome("a", answer=""), outcome("b", truncated=True)])
    assert list(result) == ["b", "a"]
    assert (result["b"].items, result["b"].truncated, result["a"].empty) == (2, 0.5, 1.0)
