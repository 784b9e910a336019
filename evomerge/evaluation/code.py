"""The part of code tasks that lm-eval's YAML cannot say: make programs of the answers of a batch, run them in the
sandbox, and score the verdicts.

The functions `run_...` are filters, since a filter sees all answers at once; `score_verdict` is every code task's
`process_results`. Programs and tests are those of lm-eval's tasks of the same names. This file knows nothing about
prompts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evomerge.evaluation.sandbox import Program, shared_sandbox

MBPP_TESTS = 3
FENCE = "```"

Doc = Mapping[str, Any]
Answers = Iterable[Sequence[str]]


def mbpp_program(answer: str, doc: Doc) -> Program:
    """Return an answer with the item's first three asserts."""
    return Program(code=answer, tests="\n".join(doc["test_list"][:MBPP_TESTS]))


def humaneval_program(answer: str, doc: Doc) -> Program:
    """Return the prompt, completed by an answer, with the item's tests."""
    return Program(code=doc["prompt"] + answer, tests=f"{doc['test']}\ncheck({doc['entry_point']})")


def code_of_block(answer: str) -> str:
    """Return the code of an answer that goes on after an opening fence.

    It ends at the next fence, or with the answer; where the answer opens a block itself, its first block is taken.
    lm-eval 0.4.13 takes the first word of an answer that begins with code for the name of a language and drops it.
    """
    head, fence, rest = answer.partition(FENCE)
    if not fence or head.strip():
        return head
    _, _, block = rest.partition("\n")
    return block.partition(FENCE)[0]


def run_mbpp(answers: Answers, docs: Sequence[Doc]) -> list[list[str]]:
    """Run answers that are code."""
    return _run(answers, docs, mbpp_program)


def run_mbpp_instruct(answers: Answers, docs: Sequence[Doc]) -> list[list[str]]:
    """Run the code in answers that go on after an opening fence."""
    return _run(answers, docs, lambda answer, doc: mbpp_program(code_of_block(answer), doc))


def run_humaneval(answers: Answers, docs: Sequence[Doc]) -> list[list[str]]:
    """Run answers that complete their prompt."""
    return _run(answers, docs, humaneval_program)


def run_humaneval_instruct(answers: Answers, docs: Sequence[Doc]) -> list[list[str]]:
    """Run answers that complete their prompt up to the first fence."""
    return _run(answers, docs, lambda answer, doc: humaneval_program(answer.partition(FENCE)[0], doc))


def score_verdict(doc: Doc, results: Sequence[str]) -> dict[str, float]:
    """Return the item's metrics: `pass_at_1` is 1 if the tests passed."""
    return {"pass_at_1": float(results[0] == "passed")}


def _run(answers: Answers, docs: Sequence[Doc], build: Callable[[str, Doc], Program]) -> list[list[str]]:
    """Return for each answer of each item "passed" or "failed: " and the reason."""
    rows = [list(row) for row in answers]
    programs = [build(answer, doc) for row, doc in zip(rows, docs, strict=True) for answer in row]
    verdicts = iter(shared_sandbox().run(programs))
    return [["passed" if (verdict := next(verdicts)) else f"failed: {verdict.reason}" for _ in row] for row in rows]
