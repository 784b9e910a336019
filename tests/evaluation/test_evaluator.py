import random

import numpy as np
import pytest
import torch

from evomerge.errors import UsageError
from evomerge.evaluation import Evaluator, OutcomeStore, TransformersBackend, find_task_config, load_model, load_tasks


@pytest.fixture(scope="module")
def task(sums):
    return load_tasks({"sums": {**sums, "filter": "flexible-extract"}})["sums"]


class Counting(TransformersBackend):
    """Counts the prompts that are answered."""

    answered = 0

    def generate(self, requests):
        for batch in super().generate(requests):
            self.answered += len(batch)
            yield batch


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
    wider = Counting(*load_model(model_dir), batch_size=16)
    Evaluator({"sums": task}, wider, store=store).score("sums", items, "k")
    assert wider.answered == 3


def test_a_call_that_was_cut_off_goes_on_with_the_same_batches(task, model_dir, tmp_path):
    """Cut off in the third batch and made again: the same batches are generated, so outcomes are the same bits."""
    items = task.items("search")[:30]
    seen: list[list[str]] = []

    class Recording(Counting):
        def _answer(self, prompts, options):
            seen.append(prompts)
            if len(seen) == stop_at:
                raise KeyboardInterrupt
            return super()._answer(prompts, options)

    backend = Recording(*load_model(model_dir), batch_size=8)
    stop_at = 0
    whole = Evaluator({"sums": task}, backend).score("sums", items, "k")
    undisturbed, seen[:] = list(seen), []
    stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        Evaluator({"sums": task}, backend, store=OutcomeStore(tmp_path)).score("sums", items, "k")
    seen.pop()
    stop_at = 0
    again = Evaluator({"sums": task}, backend, store=OutcomeStore(tmp_path)).score("sums", items, "k")
    assert again == whole
    assert seen == undisturbed


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
