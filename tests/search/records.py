"""Records of runs that never were, for tests: base, two experts, a uniform merge and candidates with given answers."""

import json
from pathlib import Path

from evomerge.evaluation.types import Outcome
from evomerge.search.baselines import baselines
from evomerge.search.config import Baselines
from evomerge.search.ledger import LEDGER_VERSION
from evomerge.search.record import Record, TaskScore, Trial
from tests.search.test_loop import SPACE

RIGHT, WRONG = Outcome("t", "", 1.0, 5, False, "#### 7", ""), Outcome("t", "", 0.0, 5, False, "#### 8", "")
CUT = Outcome("t", "", 0.0, 5, True, "and so", "")


def answers(right: int, *, wrong: int = 0, cut: int = 0) -> list[Outcome]:
    return [RIGHT] * right + [WRONG] * wrong + [CUT] * cut


def events(*models: dict[str, dict[str, list[Outcome]]], openings: int = 0) -> list[dict]:
    """The events of a run: models in the order base, x, y, average, arithmetic 0.5, then candidates; split -> task ->
    outcomes each."""
    lines: list[dict] = [{"event": "begin", "version": LEDGER_VERSION, "objectives": {}}]
    fixed = baselines(SPACE, Baselines((0.5,), (), 0))
    for number, model in enumerate(models):
        if number < len(fixed):
            given = fixed[number]
            trial = Trial(number, given.kind, given.name, given.recipe, given.vector)
        else:
            vector = tuple((0.1 * number + 0.01 * i) % 1 for i in range(len(SPACE)))
            trial = Trial(number, "candidate", f"candidate {number}", SPACE.recipe(vector), vector)
        lines.append(trial.ask_event())
        for split, tasks in model.items():
            scores = {task: TaskScore.of(rows).to_dict() for task, rows in tasks.items()}
            tell = {"event": "tell", "number": number, "split": split, "scores": scores}
            lines.append({**tell, "fingerprint": f"{number:016x}", "seconds": 1.0})
    lines += [{"event": "report", "opening": i + 1, "numbers": [0]} for i in range(openings)]
    return lines


def record(*models: dict[str, dict[str, list[Outcome]]], openings: int = 0) -> Record:
    """The record that a ledger with these events gives when it is read again."""
    return Record.of(json.loads(json.dumps(events(*models, openings=openings))))


def write_run(path: Path, *models: dict[str, dict[str, list[Outcome]]]) -> Path:
    """A run directory with such a ledger."""
    path.mkdir(exist_ok=True)
    (path / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events(*models)))
    return path
