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
from evomerge.search.loop import MAX_FAILURES, Search, Stage
from evomerge.search.results import best_of, front, selected
from evomerge.search.workers.base import Scored
from tests.recipes.test_groups import LLAMA
from tests.search.test_config import composed

ITEMS = {
    split: {task: tuple(f"{split}:{i}" for i in range(20)) for task in ("a", "b")}
    for split in ("search", "selection", "report")
}
KNOWS = {"dare_linear": {"weight": None, "drop_rate": 0.0}}


def space(**keys):
    return SearchSpace(
        base="base",
        experts={"x": "x", "y": "y"},
        layout=Layout.of(LLAMA),
        config={
            "methods": ["dare_linear"],
            "parameters": {"weight": {"low": 0, "high": 1.5}, "drop_rate": {"low": 0, "high": 0.9}},
            **keys,
        },
        method_parameters=KNOWS,
    )


SPACE = space()
ONE_STAGE = (Stage(SPACE, 1.0),)
STAGES = (Stage(SPACE, 0.5), Stage(space(granularity=1), 1.0))
RACING = {"enabled": True, "first": 2, "eta": 2.0}


class FormulaPool:
    """One worker whose models are right on more items of task a the nearer x's weight is to 0.9, of b for y and 0.6."""

    def __init__(self, fail=lambda number: False):
        self.fail, self.jobs, self.scored, self.items = fail, [], [], 0

    def start(self, factory, devices, say):
        return {}

    def close(self):
        pass

    def idle(self):
        return [] if self.jobs else ["one"]

    def submit(self, device, job):
        self.jobs.append(job)

    def poll(self, timeout=None):
        return [(job, self.score(job)) for job in [self.jobs.pop()]] if self.jobs else []

    def score(self, job):
        self.scored.append((job.number, job.split))
        self.items += sum(map(len, job.items.values())) if job.split == "search" else 0
        if self.fail(job.number):
            return Failure("candidate", "made to fail")
        weights = [
            sum(float(job.recipe.parameter("weight", expert, tensor)) for tensor in LLAMA) / len(LLAMA)
            for expert in "xy"
        ]
        outcomes = {}
        for (task, ids), weight, best in zip(job.items.items(), weights, (0.9, 0.6), strict=True):
            right = round(20 * math.exp(-((weight - best) ** 2)))  # of all twenty items, the same whatever is asked
            places = [int(item.split(":")[1]) * 7 % 20 for item in ids]
            outcomes[task] = [
                Outcome(task, item, float(place < right), 5, False, "", "")
                for place, item in zip(places, ids, strict=True)
            ]
        return Scored(job.recipe.hash, outcomes, 0.25)


def configuration(**changes):
    data = {**composed("space=global"), "tasks": {"a": {}, "b": {}}}
    data["baselines"] = {"grid": [0.5, 1.0], "untuned": [], "random": 0}
    data["budget"] = {"candidates": 14, "items": None, "seconds": None}
    data["selection"] = {"finalists": 3, "chosen": 1, "front": 0}
    data["racing"] = {"enabled": False}
    data["optimizer"] = {"name": "cmaes", "scalarization": "weighted_sum", "options": {}}
    return SearchConfig.from_dict({**data, **changes})


def make(ledger, *, config=None, pool=None, watch=lambda record: None, facts=None, stages=ONE_STAGE):
    config = config or configuration()
    return Search(
        config,
        stages=stages,
        baselines=baselines(SPACE, config.baselines),
        items=ITEMS,
        facts=facts or {"batch_size": 4},
        pool=pool or FormulaPool(),
        ledger=ledger,
        watch=watch,
    )


def whole(path, **options):
    """Run to the end, report included; return the record and the lines of the ledger."""
    path.mkdir(exist_ok=True)
    with closing(Ledger(path / "ledger.jsonl")) as ledger:
        search = make(ledger, **options)
        record = search.run()
        search.report()
    return record, (path / "ledger.jsonl").read_text().splitlines()


class StoppedError(Exception):
    pass


@pytest.mark.parametrize(
    ("optimizer", "stages", "racing"),
    [
        ("random", STAGES[:1], {"enabled": False}),
        pytest.param("tpe", STAGES[:1], RACING, marks=pytest.mark.slow),
        ("cmaes", STAGES, {"enabled": False}),
        ("cmaes", STAGES, RACING),
        pytest.param("m2n2", STAGES, RACING, marks=pytest.mark.slow),
    ],
)
def test_stopped_after_any_event_it_ends_as_if_undisturbed(tmp_path, optimizer, stages, racing):
    stages = (*stages[:-1], replace(stages[-1], until=1.0))
    config = configuration(optimizer={"name": optimizer, "scalarization": "weighted_sum", "options": {}}, racing=racing)
    (tmp_path / "undisturbed").mkdir()
    _, undisturbed = whole(tmp_path / "undisturbed", config=config, stages=stages)
    for moment in range(1, len(undisturbed), 4):
        path = tmp_path / str(moment)
        path.mkdir()

        def stop(record, path=path, moment=moment):
            if (path / "ledger.jsonl").read_bytes().count(b"\n") == moment:
                raise StoppedError

        with pytest.raises(StoppedError):
            whole(path, config=config, watch=stop, stages=stages)
        _, lines = whole(path, config=config, stages=stages)
        assert lines == undisturbed


def test_baselines_come_first_and_are_told(tmp_path):
    record, _ = whole(tmp_path)
    kinds = [trial.kind for _, trial in sorted(record.trials.items())]
    assert kinds == ["base", "expert", "expert", "uniform", "uniform", "uniform"] + ["candidate"] * 14
    search = make(Ledger(tmp_path / "ledger.jsonl"))
    told = search._optimizer(0).state_dict()["events"]
    assert [event["tell"] for event in told] == [0, 1, 2, 3, 4, 5]


def test_the_best_is_chosen_on_selection_and_only_finalists_are_scored_there(tmp_path):
    pool = FormulaPool()
    record, _ = whole(tmp_path, pool=pool)
    on_selection = [number for number, split in pool.scored if split == "selection"]
    assert len(on_selection) == 3 + 3 + 3  # base and experts, uniform merges, finalists
    on_report = [number for number, split in pool.scored if split == "report"]
    uniform = best_of(record, "uniform")
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


def test_a_baseline_that_fails_ends_the_run_and_is_scored_by_the_next(tmp_path):
    with closing(Ledger(tmp_path / "ledger.jsonl")) as ledger:
        search = make(ledger, pool=FormulaPool(fail=lambda number: number == 1))
        with pytest.raises(WorkError, match="'x' could not be scored on search: made to fail"):
            search.run()
    whole(tmp_path)
    whole(tmp_path / "undisturbed")
    told, undisturbed = (
        [event["number"] for event in map(json.loads, (path / "ledger.jsonl").open()) if event["event"] == "tell"]
        for path in (tmp_path, tmp_path / "undisturbed")
    )
    assert sorted(told) == sorted(undisturbed)


def test_a_random_baseline_that_failed_is_not_scored_again(tmp_path):
    some = {"grid": [0.5], "untuned": [], "random": 3}
    _, lines = whole(tmp_path, config=configuration(baselines=some), pool=FormulaPool(fail=lambda number: number == 5))
    assert sum(json.loads(line)["event"] == "fail" for line in lines) == 1
    again = FormulaPool()
    assert whole(tmp_path, config=configuration(baselines=some), pool=again)[1] == lines
    assert again.scored == [scored for scored in again.scored if scored[1] == "report"]


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


def test_the_finer_stage_starts_from_all_that_the_coarser_one_found(tmp_path):
    config = configuration(budget={"candidates": 20, "items": None, "seconds": None})
    record, lines = whole(tmp_path, config=config, stages=STAGES)
    coarse, fine = ([t for t in record.candidates if t.stage == stage] for stage in (0, 1))
    assert (len(coarse), len(fine)) == (10, 10)
    assert {len(t.vector) for t in coarse} == {len(SPACE)}
    assert {len(t.vector) for t in fine} == {len(STAGES[1].space)}
    events = [json.loads(line) for line in lines]
    assert [e["stage"] for e in events if e["event"] == "stage"] == [1]
    ledger = Ledger(tmp_path / "ledger.jsonl")
    told = make(ledger, config=config, stages=STAGES)._optimizer(1).state_dict()["events"]
    assert [event["tell"] for event in told] == list(range(6 + 10))
    assert all(len(event["vector"]) == len(STAGES[1].space) for event in told)


def test_a_larger_budget_goes_on_in_the_finer_stage(tmp_path):
    whole(tmp_path, stages=STAGES)
    more = configuration(budget={"candidates": 30, "items": None, "seconds": None})
    record, _ = whole(tmp_path, config=more, stages=STAGES)
    assert [t.stage for t in record.candidates] == [0] * 7 + [1] * 23


def test_a_race_scores_fewer_items_and_finds_the_same_kind_of_winner(tmp_path):
    found = {}
    for name, racing in (("full", {"enabled": False}), ("racing", RACING)):
        (tmp_path / name).mkdir()
        pool = FormulaPool()
        config = configuration(
            optimizer={"name": "random", "scalarization": "weighted_sum", "options": {}},
            budget={"candidates": 40, "items": None, "seconds": None},
            racing=racing,
        )
        record, _ = whole(tmp_path / name, pool=pool, config=config)
        found[name] = (pool.items, record)
    (items, full), (raced_items, raced) = found["full"], found["racing"]
    assert raced_items < 0.8 * items
    assert [t.recipe for t in raced.candidates] == [t.recipe for t in full.candidates]
    stopped = [t for t in raced.candidates if t.beaten_by is not None]
    assert stopped
    for trial in raced.candidates:
        assert trial.outcome.cut_short == (trial in stopped)
        for task, score in trial.scores["search"].items():
            whole_score = full.trials[trial.number].scores["search"][task]
            if trial in stopped:
                assert score.items < 20
                assert score.scores == [whole_score.scores[place] for place in score.places]
                assert raced.trials[trial.beaten_by].complete
            else:
                assert score == whole_score
    assert selected(raced)[0].recipe == selected(full)[0].recipe


def test_scores_that_cannot_be_bounded_are_not_raced(tmp_path):
    class Losses(FormulaPool):
        def score(self, job):
            scored = super().score(job)
            rows = {task: [replace(row, score=-3.0) for row in found] for task, found in scored.outcomes.items()}
            return replace(scored, outcomes=rows)

    search = make(Ledger(tmp_path / "ledger.jsonl"), pool=Losses(), config=configuration(racing=RACING))
    with pytest.raises(UsageError, match=r"items of a have scores outside \[0, 1\]; write racing.enabled=false"):
        search.run()


def test_jobs_that_share_outcomes_begin_at_different_baselines(tmp_path):
    data = configuration()
    shared = replace(data, evaluation=replace(data.evaluation, outcomes="shared"))

    def order(config, path, until=None):
        pool = FormulaPool(fail=lambda number: number == until)
        record, _ = whole(path, config=config, pool=pool)
        numbers = [number for number, split in pool.scored if split == "search" and number < 6]
        return numbers, {number: trial.scores for number, trial in record.trials.items()}

    alone, scores = order(data, tmp_path / "alone")
    orders = []
    for seed in range(4):
        numbers, found = order(replace(shared, seed=seed), tmp_path / str(seed))
        assert sorted(numbers) == sorted(alone)
        assert sorted(numbers[:3]) == [0, 1, 2], "base and experts come first in every order"
        assert seed != data.seed or found == scores
        orders.append(numbers)
    assert alone == sorted(alone)
    assert len({tuple(numbers) for numbers in orders}) > 1
    assert order(replace(shared, seed=3), tmp_path / "again")[0] == orders[3]
