"""The part of code tasks that lm-eval's YAML cannot say: run the answers of a batch in the sandbox, and score the
verdicts.

`run_tests` is a filter, since a filter sees all answers at once; `score_verdict` is the task's `process_results`. A
program is the answer, a line break, and the item's first three asserts, as in lm-eval's `mbpp`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evomerge.evaluation.sandbox import shared_sandbox

TESTS = 3


def run_tests(answers: Iterable[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return for each answer of each item "passed" or "failed: " and the reason."""
    rows = [list(row) for row in answers]
    programs = [program(answer, doc) for row, doc in zip(rows, docs, strict=True) for answer in row]
    verdicts = iter(shared_sandbox().run(programs))
    return [["passed" if (verdict := next(verdicts)) else f"failed: {verdict.reason}" for _ in row] for row in rows]


def program(answer: str, doc: Mapping[str, Any]) -> str:
    """Return the program that tests an answer."""
    return answer + "\n" + "\n".join(doc["test_list"][:TESTS])


def score_verdict(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return the item's metrics: `pass_at_1` is 1 if the program ran to its end."""
    return {"pass_at_1": float(results[0] == "passed")}
