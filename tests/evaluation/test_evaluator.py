import json
import random
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from evomerge.errors import UsageError
from evomerge.evaluation import Evaluator, OutcomeStore, TransformersBackend, find_task_config, load_model, load_tasks
from evomerge.evaluation.evaluator import _Work


@pytest.fixture(scope="module")
def task(sums):
    return load_tasks({"sums": {**sums, "filter": "flexible-extract"}})["sums"]


class Counting(TransformersBackend):
    """Counts the prompts that are answered, and keeps the batches."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.answered, self.seen = 0, []

    def respond(self, requests, prefix=""):
        self.answered += len(requests)
        self.seen.append([request.args[0] for request in requests])
        yield from super().respond(requests, prefix)


@pytest.fixture
def counting(model_dir) -> Counting:
    return Counting(*load_model(model_dir), batch_size=8)


def test_one_outcome_an_item_in_order(task, backend):
    items = task.items("search")[:20]
    outcomes = Evaluator({"sums": task}, backend).score("sums", items, "k")
    assert tuple(outcome.item for outcome in outcomes) == items
    assert all(outcome.task == "sums" and outcome.prompt_hash == task.prompt_hash(outcome.item) for outcome in outcomes)
    assert {outcome.score for outcome in outcomes} <= {0.0, 1.0}
    assert len({outcome.answer for outcome in outcomes}) > 3


def test_no_items(task, backend):
    assert Evaluator({"sums": task}, backend).score("sums", [], "k") == []


def test_twice_the_same_item(task, backend):
    item = task.items("search")[0]
    first, second = Evaluator({"sums": task}, backend).score("sums", [item, item], "k")
    assert first == second


def test_seen_items_are_not_generated_again(task, counting, tmp_path):
    items = task.items("search")
    store = OutcomeStore(tmp_path)
    evaluator = Evaluator({"sums": task}, counting, store=store)
    first = evaluator.score("sums", items[:10], "k")
    assert counting.answered == 10
    both = evaluator.score("sums", items[5:20], "k")
    assert counting.answered == 20
    assert both[:5] == first[5:]
    evaluator.score("sums", items[:20], "k")
    Evaluator({"sums": task}, counting, store=OutcomeStore(tmp_path)).score("sums", items[:20], "k")
    assert counting.answered == 20
    evaluator.score("sums", items[:3], "other weights")
    assert counting.answered == 23


def test_other_settings_are_scored_anew(task, sums, counting, model_dir, tmp_path):
    store = OutcomeStore(tmp_path)
    items = task.items("search")[:3]
    Evaluator({"sums": task}, counting, store=store).score("sums", items, "k")
    shorter = load_tasks({"sums": {**sums, "max_gen_toks": 5}})["sums"]
    Evaluator({"sums": shorter}, counting, store=store).score("sums", items, "k")
    assert counting.answered == 6
    other = Counting(*load_model(model_dir, dtype="bfloat16"), batch_size=8)
    Evaluator({"sums": task}, other, store=store).score("sums", items, "k")
    assert other.answered == 3
    wider = Counting(*load_model(model_dir), batch_size=16)
    Evaluator({"sums": task}, wider, store=store).score("sums", items, "k")
    assert wider.answered == 0, "the shape of batches decides the last bits only"


def test_two_metrics_share_their_answers(task, sums, counting, tmp_path):
    """A task under another name, filter or metric has the same prompts: they are answered once."""
    strict = load_tasks({"other": {**sums, "filter": "strict-match"}})["other"]
    store = OutcomeStore(tmp_path)
    items = task.items("search")[:12]
    first = Evaluator({"sums": task}, counting, store=store).score("sums", items, "k")
    second = Evaluator({"other": strict}, counting, store=store).score("other", items, "k")
    assert counting.answered == 12
    assert [outcome.answer for outcome in first] == [outcome.answer for outcome in second]
    assert [outcome.flexible for outcome in first] == [outcome.score for outcome in first]
    assert [outcome.score for outcome in second] == [outcome.strict for outcome in first]
    assert {outcome.task for outcome in second} == {"other"}
    again = Evaluator({"other": strict}, counting, store=OutcomeStore(tmp_path)).score("other", items, "k")
    assert again == second
    assert counting.answered == 12


def test_outcomes_arrive_while_the_batch_runs_and_are_stored_by_then(task, model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("evomerge.evaluation.evaluator.GATHER_SECONDS", 0.0)
    backend = Counting(*load_model(model_dir), batch_size=64)
    items = task.items("search")[:40]
    store = OutcomeStore(tmp_path)
    parts = Evaluator({"sums": task}, backend, store=store).outcomes("sums", items, "k")
    first = next(parts)
    assert 0 < len(first) < 40
    known = OutcomeStore(tmp_path)
    generation = _Work(task, backend, None, "k")._generation
    for outcome in first:
        place = (generation, task.scoring_settings, "sums", outcome.item, outcome.prompt_hash)
        assert known.get("k", *place) == outcome
    rest = [outcome for part in parts for outcome in part]
    assert {outcome.item for outcome in first + rest} == set(items)
    assert len(backend.seen) == 1


def test_a_race_stops_a_candidate_early(task, model_dir, tmp_path, monkeypatch):
    """Closing the iterator ends the work; what was finished is kept, and the rest can be scored later."""
    monkeypatch.setattr("evomerge.evaluation.evaluator.GATHER_SECONDS", 0.0)
    backend = Counting(*load_model(model_dir), batch_size=8)
    evaluator = Evaluator({"sums": task}, backend, store=OutcomeStore(tmp_path))
    items = task.items("search")[:40]
    parts = evaluator.outcomes("sums", items, "k")
    first = next(parts)
    parts.close()
    assert len(backend.seen) == 1
    whole = {outcome.item: outcome for outcome in evaluator.score("sums", items, "k")}
    assert all(whole[outcome.item] == outcome for outcome in first)


@pytest.mark.parametrize("finished", [0, 1, 3, 8, 20])
def test_a_call_that_was_cut_off_goes_on_with_the_same_batches(task, model_dir, tmp_path, monkeypatch, finished):
    """Cut off after some outcomes and made again: the same batches are answered, so outcomes are the same bits."""
    monkeypatch.setattr("evomerge.evaluation.evaluator.GATHER_SECONDS", 0.0)
    items = task.items("search")[:30]
    whole = Counting(*load_model(model_dir), batch_size=8)
    expected = Evaluator({"sums": task}, whole).score("sums", items, "k")
    cut_off = Counting(*load_model(model_dir), batch_size=8)
    kept = []
    for part in Evaluator({"sums": task}, cut_off, store=OutcomeStore(tmp_path)).outcomes("sums", items, "k"):
        kept += part
        if len(kept) >= finished:
            break
    again = Counting(*load_model(model_dir), batch_size=8)
    found = Evaluator({"sums": task}, again, store=OutcomeStore(tmp_path)).score("sums", items, "k")
    assert [replace(outcome, seconds=0.0) for outcome in found] == [replace(o, seconds=0.0) for o in expected]
    assert all(outcome in found for outcome in kept)
    done = len(cut_off.seen) - 1
    assert again.seen == whole.seen[len(whole.seen) - len(again.seen) :]
    assert len(again.seen) in (len(whole.seen) - done, len(whole.seen) - done - 1)


CHILD = """
import sys
from pathlib import Path
from evomerge.evaluation.evaluator import _Work
from evomerge.evaluation import Evaluator, OutcomeStore, TransformersBackend, evaluator, load_model, load_tasks
import json
evaluator.GATHER_SECONDS = 0.0
sums, model, store = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
task = load_tasks({"sums": {**sums, "filter": "flexible-extract"}})["sums"]
backend = TransformersBackend(*load_model(model), batch_size=16)
work = Evaluator({"sums": task}, backend, store=OutcomeStore(Path(store)))
for part in work.outcomes("sums", task.items("search")[:48], "k"):
    for outcome in part:
        print(json.dumps([outcome.item, outcome.score, outcome.answer]), flush=True)
"""


def test_sigkill_in_mid_batch_loses_no_finished_outcome(task, sums, model_dir, tmp_path):
    """A real process, killed as soon as some outcomes came: each of them is there, and none that did not end."""
    command = [sys.executable, "-c", CHILD, json.dumps(sums), str(model_dir), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = [json.loads(process.stdout.readline()) for _ in range(5)]
        process.send_signal(signal.SIGKILL)
        said += [json.loads(line) for line in process.stdout.read().splitlines() if line.endswith("]")]
    backend = Counting(*load_model(model_dir), batch_size=16)
    items = task.items("search")[:48]
    work = Evaluator({"sums": task}, backend, store=OutcomeStore(tmp_path))
    known = next(work.outcomes("sums", items, "k"))
    assert {outcome.item for outcome in known} >= {item for item, *_ in said}
    found = {outcome.item: outcome for outcome in work.score("sums", items, "k")}
    for item, score, answer in said:
        assert (found[item].score, found[item].answer) == (score, answer)
    fresh = Evaluator({"sums": task}, Counting(*load_model(model_dir), batch_size=16)).score("sums", items, "k")
    assert [(o.item, o.score, o.answer) for o in fresh] == [(o.item, o.score, o.answer) for o in found.values()]


def test_global_random_state_is_untouched(task, backend, tmp_path):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    Evaluator({"sums": task}, backend, store=OutcomeStore(tmp_path)).score("sums", task.items("search")[:8], "k")
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_nothing_is_printed(task, backend, capfd):
    Evaluator({"sums": task}, backend).score("sums", task.items("selection")[:8], "k")
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_code_is_run_only_when_allowed(backend):
    tasks = load_tasks(find_task_config("zoo_code"))
    with pytest.raises(UsageError, match="allow_code_execution=true"):
        Evaluator(tasks, backend)
    outcomes = Evaluator(tasks, backend, allow_code_execution=True).score(
        "zoo_code", tasks["zoo_code"].items("search")[:4], "k"
    )
    assert [outcome.score for outcome in outcomes] == [0.0] * 4


def test_refusals(task, backend):
    evaluator = Evaluator({"sums": task}, backend)
    with pytest.raises(UsageError, match="unknown task 'sum'; did you mean 'sums'"):
        evaluator.score("sum", [], "k")
    with pytest.raises(UsageError, match="there is no item 'test:99'"):
        evaluator.score("sums", ["test:99"], "k")
