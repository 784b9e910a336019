"""The loop with its real ledger and optimizers over workers that score by a formula: every way to stop and to fail."""

import json
import math
from contextlib import closing
from dataclasses import replace

import pytest

from evomerge.errors import UsageError, WorkError
from evomerge.evaluation.types import Outcome
from evomerge.optimizers.base import Failure
from evomerge.recipes import Layout, SearchSpace
from evomerge.search.baselines import baselines
from evomerge.search.config import SearchConfig
from evomerge.search.ledger import Ledger
from evomerge.search.loop import MAX_FAILURES, Search
from evomerge.search.results import best_uniform, front, selected
from evomerge.search.workers import Scored
from tests.recipes.test_groups import LLAMA
from tests.search.test_config import composed

ITEMS = {
    split: {task: tuple(f"{split}:{i}" for i in range(20)) for task in ("a", "b")}
    for split in ("search", "selection", "report")
}
KNOWS = {"dare_linear": {"weight": None, "drop_rate": 0.0}}
SPACE = SearchSpace(
    base="base",
    experts={"x": "x", "y": "y"},
    layout=Layout.of(LLAMA),
    config={
        "methods": ["dare_linear"],
        "parameters": {"weight": {"low": 0, "high": 1.5}, "drop_rate": {"low": 0, "high": 0.9}},
    },
    method_parameters=KNOWS,
)


class FormulaPool:
    """One worker whose models are right on more items of task a the nearer x's weight is to 0.9, of b for y and 0.6."""

    def __init__(self, fail=lambda number: False):
        self.fail, self.jobs, self.scored = fail, [], []

    def start(self, factory, devices):
        raise AssertionError("not used")

    def idle(self):
        return [] if self.jobs else ["one"]

    def submit(self, device, job):
        self.jobs.append(job)

    def poll(self, timeout=None):
        return [(job, self.score(job)) for job in [self.jobs.pop()]] if self.jobs else []

    def score(self, job):
        self.scored.append((job.number, job.split))
        if self.fail(job.number):
            return Failure("candidate", "made to fail")
        weights = [
            sum(float(job.recipe.parameter("weight", expert, tensor)) for tensor in LLAMA) / len(LLAMA)
            for expert in "xy"
        ]
        outcomes = {}
        for (task, ids), weight, best in zip(job.items.items(), weights, (0.9, 0.6), strict=True):
            right = round(len(ids) * math.exp(-((weight - best) ** 2)))
            outcomes[task] = [Outcome(task, item, float(i < right), 5, False, "", "") for i, item in enumerate(ids)]
        return Scored(job.recipe.hash, outcomes, 0.25)


def configuration(**changes):
    data = {**composed("space=global"), "tasks": {"a": {}, "b": {}}, "baselines": {"grid": [0.5, 1.0]}}
    data["budget"] = {"candidates": 14, "items": None, "seconds": None}
    data["selection"] = {"finalists": 3, "chosen": 1}
    data["optimizer"] = {"name": "cmaes", "scalarization": "weighted_sum", "options": {}}
    return SearchConfig.from_dict({**data, **changes})


def make(ledger, *, config=None, pool=None, watch=lambda record: None, facts=None):
    config = config or configuration()
    return Search(
        config,
        space=SPACE,
        baselines=baselines(SPACE, config.baselines.grid),
        items=ITEMS,
        facts=facts or {"batch_size": 4},
        pool=pool or FormulaPool(),
        ledger=ledger,
        watch=watch,
    )


def whole(path, **options):
    """Run to the end, report included; return the record and the lines of the ledger."""
    with closing(Ledger(path / "ledger.jsonl")) as ledger:
        search = make(ledger, **options)
        record = search.run()
        search.report()
    return record, (path / "ledger.jsonl").read_text().splitlines()


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["random", "sobol", "cmaes", "tpe"])
def test_stopped_after_any_event_it_ends_as_if_undisturbed(tmp_path, optimizer):
    config = configuration(optimizer={"name": optimizer, "scalarization": "weighted_sum", "options": {}})
    (tmp_path / "undisturbed").mkdir()
    _, undisturbed = whole(tmp_path / "undisturbed", config=config)
    for moment in range(1, len(undisturbed), 3):
        path = tmp_path / str(moment)
        path.mkdir()

        def stop(record, path=path, moment=moment):
            if (path / "ledger.jsonl").read_bytes().count(b"\n") == moment:
                raise StoppedError

        with pytest.raises(StoppedError):
            whole(path, config=config, watch=stop)
        _, lines = whole(path, config=config)
        assert lines == undisturbed


def test_baselines_come_first_and_are_told(tmp_path):
    record, _ = whole(tmp_path)
    kinds = [trial.kind for _, trial in sorted(record.trials.items())]
    assert kinds == ["base", "expert", "expert", "uniform", "uniform", "uniform"] + ["candidate"] * 14
    search = make(Ledger(tmp_path / "ledger.jsonl"))
    told = search._optimizer().state_dict()["events"]
    assert [event["tell"] for event in told] == [0, 1, 2, 3, 4, 5]


def test_the_best_is_chosen_on_selection_and_only_finalists_are_scored_there(tmp_path):
    pool = FormulaPool()
    record, _ = whole(tmp_path, pool=pool)
    on_selection = [number for number, split in pool.scored if split == "selection"]
    assert len(on_selection) == 2 + 3 + 3  # experts, uniform merges, finalists
    on_report = [number for number, split in pool.scored if split == "report"]
    uniform = best_uniform(record)
    assert uniform is not None
    assert on_report == [0, 1, 2, uniform.number, selected(record)[0].number]
    assert record.openings == 1
    assert {trial.number for trial in front(record)} <= {trial.number for trial in record.candidates}


def test_the_report_is_opened_again_only_for_other_models_and_that_is_counted(tmp_path):
    whole(tmp_path)
    record, _ = whole(tmp_path)
    assert record.openings == 1
    more = configuration(budget={"candidates": 40, "items": None, "seconds": None})
    record, _ = whole(tmp_path, config=more)
    assert len(record.candidates) == 40
    assert record.openings == 1 + (selected(record)[0].number > 19)


@pytest.mark.parametrize(
    ("budget", "candidates"),
    [
        ({"candidates": 5, "items": None, "seconds": None}, 5),
        ({"candidates": None, "items": 6 * 40 + 3 * 40, "seconds": None}, 3),
        ({"candidates": None, "items": 6 * 40 + 3 * 40 - 1, "seconds": None}, 3),
        ({"candidates": None, "items": None, "seconds": 6 * 0.25 + 4 * 0.25}, 4),
        ({"candidates": 9, "items": 6 * 40 + 80, "seconds": 100.0}, 2),
    ],
)
def test_whichever_limit_comes_first_ends_the_search(tmp_path, budget, candidates):
    record, _ = whole(tmp_path, config=configuration(budget=budget))
    assert len(record.candidates) == candidates


def test_a_failed_candidate_is_recorded_and_the_search_goes_on(tmp_path):
    record, lines = whole(tmp_path, pool=FormulaPool(fail=lambda number: number in (8, 9, 13)))
    assert [trial.number for trial in record.trials.values() if trial.failure] == [8, 9, 13]
    assert len(record.candidates) == 14 - 3
    assert sum(json.loads(line)["event"] == "fail" for line in lines) == 3


def test_many_failures_in_a_row_end_the_run_with_a_reason(tmp_path):
    search = make(Ledger(tmp_path / "ledger.jsonl"), pool=FormulaPool(fail=lambda number: number >= 8))
    with pytest.raises(WorkError, match=f"{MAX_FAILURES} candidates in a row failed, the last with: made to fail"):
        search.run()


def test_a_baseline_that_fails_ends_the_run(tmp_path):
    search = make(Ledger(tmp_path / "ledger.jsonl"), pool=FormulaPool(fail=lambda number: number == 1))
    with pytest.raises(WorkError, match="baseline 'x' could not be scored"):
        search.run()


def test_other_weights_for_a_recipe_are_noticed(tmp_path):
    class Changed(FormulaPool):
        def score(self, job):
            scored = super().score(job)
            return replace(scored, fingerprint="other") if job.split == "selection" else scored

    search = make(Ledger(tmp_path / "ledger.jsonl"), pool=Changed())
    with pytest.raises(WorkError, match="builds other weights"):
        search.run()


def test_other_facts_are_noticed(tmp_path):
    whole(tmp_path)
    with pytest.raises(UsageError, match="batch_size changed since this run began"):
        make(Ledger(tmp_path / "ledger.jsonl"), facts={"batch_size": 8})


def test_another_proposal_on_replay_is_noticed(tmp_path):
    whole(tmp_path)
    path = tmp_path / "ledger.jsonl"
    lines = path.read_text().splitlines()
    for i, line in enumerate(lines):
        event = json.loads(line)
        if event["event"] == "ask" and event["number"] == 9:
            event["vector"][0] += 0.01
            lines[i] = json.dumps(event)
    path.write_text("\n".join(lines) + "\n")
    search = make(Ledger(tmp_path / "ledger.jsonl"))
    with pytest.raises(WorkError, match="candidate 9 is not what cmaes proposes now"):
        search.run()
