import ast
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from jinja2 import Environment

from evomerge.errors import UsageError, WorkError
from evomerge.evaluation import SPLITS, EvalTask, Generation, TaskSpec, find_task_config, load_tasks
from evomerge.evaluation.library import STOCK_TASKS
from evomerge.evaluation.tasks import POOL_SHARE

SHARED = {"search": "train", "selection": "train", "report": "test"}


def make(sums, *, seed=0, **more) -> EvalTask:
    return load_tasks({"sums": {**sums, **more}}, split_seed=seed)["sums"]


def prompt_questions(prompt: str) -> list[str]:
    return [line.removeprefix("Question: ") for line in prompt.split("\n") if line.startswith("Question: ")]


def test_splits_are_disjoint_and_leave_out_the_pool(sums):
    task = make(sums)
    splits = {split: set(task.items(split)) for split in SPLITS}
    assert all(splits.values())
    assert not splits["search"] & splits["selection"]
    assert splits["report"] == {f"test:{i}" for i in range(30)}
    pool = {f"train:{i}" for i in range(200)} - splits["search"] - splits["selection"]
    assert 2 <= len(pool) <= 4 * POOL_SHARE * 200


def test_order_is_random_nested_and_stable_for_ever(sums):
    task = make(sums)
    assert task.items("search")[:3] == ("train:29", "train:86", "train:184")
    assert task.items("search") == make(sums).items("search")
    assert task.items("search") != make(sums, seed=1).items("search")
    assert task.items("report", in_file_order=True) == tuple(f"test:{i}" for i in range(30))
    assert sorted(task.items("report")) == sorted(task.items("report", in_file_order=True))


def test_the_name_a_user_gives_does_not_move_items(sums):
    other = load_tasks({"other": dict(sums)})["other"]
    assert other.items("search") == make(sums).items("search")


def test_prompt_is_a_function_of_the_item_alone(sums):
    whole = make(sums)
    items = whole.items("search") + whole.items("report")
    hashes = {item: whole.prompt_hash(item) for item in items}
    assert len(set(hashes.values())) == len(items)
    part = make(sums)
    for item in reversed(items[::7]):
        assert part.prompt_hash(item) == hashes[item]
    assert part.requests(items[:3])[items[0]] is part.requests(items[:1])[items[0]]


def test_examples_never_come_from_scored_items(sums):
    task = make(sums)
    scored = {int(item.split(":")[1]) for split in ("search", "selection") for item in task.items(split)}
    for split in ("search", "selection"):
        for item in task.items(split):
            *examples, question = prompt_questions(task.prompt(item))
            assert len(examples) == 2
            assert question == f"what is {item.split(':')[1]} plus {int(item.split(':')[1]) % 7}?"
            assert not scored & {int(example.split()[2]) for example in examples}


def test_report_prompts_are_the_harness_own(sums):
    """lm-eval's own request building with its default seed, in document order, as its command line does it."""
    content = yaml.safe_load(Path(sums["task"]).read_text())
    content["dataset_kwargs"] = {"data_files": sums["data_files"]}
    script = """
import json, sys
from lm_eval.tasks import TaskManager
task = TaskManager(include_defaults=False).load(json.loads(sys.argv[1]))["tasks"]["sums"]
task.set_fewshot_seed(1234)
task.build_all_requests()
print(json.dumps([instance.args[0] for instance in task.instances]))
"""
    cache = os.path.join(os.path.dirname(sums["task"]), "cache")
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(content)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_DATASETS_CACHE": cache},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    task = make(sums)
    assert [task.prompt(item) for item in task.items("report", in_file_order=True)] == json.loads(
        done.stdout.splitlines()[-1]
    )


def test_global_random_state_is_neither_read_nor_written(sums):
    prompts = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        task = make(sums)
        prompts.append([task.prompt(item) for split in SPLITS for item in task.items(split)])
        task.outcomes([(item, Generation("#### 3", 3, False)) for item in task.items("search")])
        assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert prompts[0] == prompts[1]


def test_scores(sums):
    task = make(sums, filter="flexible-extract")
    item = "test:3"  # what is 1003 plus 2?
    answers = [" #### 1005", " it is 1005", " #### 4", ""]
    outcomes = task.outcomes([(item, Generation(text, 4, not text)) for text in answers])
    assert [o.score for o in outcomes] == [1.0, 1.0, 0.0, 0.0]
    assert [o.strict for o in outcomes] == [1.0, 0.0, 0.0, 0.0]
    assert [o.flexible for o in outcomes] == [1.0, 1.0, 0.0, 0.0]
    assert outcomes[3].truncated
    assert (outcomes[0].task, outcomes[0].item, outcomes[0].tokens) == ("sums", item, 4)
    assert outcomes[0].prompt_hash == task.prompt_hash(item)
    assert make(sums).filter == "strict-match"  # the task's first


def test_smaller_is_better_is_turned(sums, tmp_path):
    content = yaml.safe_load(Path(sums["task"]).read_text())
    content["metric_list"][0]["higher_is_better"] = False
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    task = make(sums, task=str(tmp_path / "x.yaml"))
    assert not task.higher_is_better
    assert task.outcomes([("test:3", Generation("#### 1005", 1, False))])[0].score == -1.0


def test_settings_name_what_shapes_a_score(sums):
    base = make(sums)
    assert base.settings == make(sums, num_fewshot=1).settings  # is in the prompt
    others = [
        make(sums, max_gen_toks=5),
        make(sums, filter="flexible-extract"),
        make(sums, generation={"until": ["x"]}),
    ]
    assert len({base.settings, *(task.settings for task in others)}) == 4


def test_fewshot_from_another_split(sums):
    task = make(sums, splits={"search": "test"}, fewshot="train")
    assert len(task.items("search")) == 30  # nothing is held back: the examples come from elsewhere
    assert all(int(q.split()[2]) < 200 for q in prompt_questions(task.prompt("test:0"))[:-1])


def test_one_dataset_split_for_all(sums):
    task = make(sums, splits=dict.fromkeys(SPLITS, "train"))
    items = [item for split in SPLITS for item in task.items(split)]
    assert len(items) == len(set(items)) < 200
    assert all(len(task.items(split)) > 40 for split in SPLITS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "exact_mach"}, "no metric 'exact_mach'; did you mean 'exact_match'?"),
        ({"filter": "strict"}, "no filter 'strict'; did you mean 'strict-match'?"),
        ({"splits": {"search": "trian"}}, "no dataset split 'trian'; did you mean 'train'?"),
        ({"fewshot": "trian"}, "no dataset split 'trian'"),
        ({"generation": {"do_sample": True}}, "it samples answers"),
    ],
)
def test_refused(sums, change, words):
    with pytest.raises(UsageError) as caught:
        make(sums, **change)
    assert words in str(caught.value)
    assert str(caught.value).startswith("task sums")


def test_splits_without_data_and_unknown_items(sums):
    task = make(sums, splits={"report": "test"})
    with pytest.raises(UsageError, match=r"no data are named for the search split.*train"):
        task.items("search")
    for item in ("test:30", "none:0", "test:x", "test"):
        with pytest.raises(UsageError, match="there is no item"):
            task.requests([item])


def test_metric_without_a_value_an_item(sums, tmp_path):
    content = yaml.safe_load(Path(sums["task"]).read_text())
    content["metric_list"] = [{"metric": "bleu", "aggregation": "bleu", "higher_is_better": True}]
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    task = make(sums, task=str(tmp_path / "x.yaml"))
    with pytest.raises(UsageError, match="metric 'bleu' has no value for a single item"):
        task.outcomes([("test:3", Generation("x", 1, False))])


def test_metric_that_is_not_finite(sums, tmp_path):
    content = yaml.safe_load(Path(sums["task"]).read_text())
    (tmp_path / "helper.py").write_text("def score(doc, results):\n    return {'exact_match': float('nan')}\n")
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content) + "process_results: !function helper.score\n")
    task = make(sums, task=str(tmp_path / "x.yaml"))
    with pytest.raises(WorkError, match="'exact_match' is nan for document 3"):
        task.outcomes([("test:3", Generation("x", 1, False))])


def test_data_on_top_of_the_configuration(sums):
    files = sums["data_files"]
    tasks = load_tasks({"sums": {"task": sums["task"]}}, data={f"sums.{split}": path for split, path in files.items()})
    assert len(tasks["sums"].items("report")) == 30
    with pytest.raises(UsageError, match="no such task; did you mean 'sums'"):
        load_tasks({"sums": dict(sums)}, data={"sum.train": "x"})


def test_configurations_by_name(sums):
    assert set(find_task_config("zoo")) == {"zoo_math", "zoo_code", "zoo_translate"}
    assert find_task_config("zoo_math")["zoo_math"]["task"] == "zoo_math"
    assert find_task_config("gsm8k")["gsm8k"]["filter"] == "flexible-extract"
    assert find_task_config("gsm8k_cot") == {"gsm8k_cot": {"task": "gsm8k_cot"}}
    assert find_task_config(sums["task"]) == {"sums": {"task": sums["task"]}}
    with pytest.raises(UsageError, match="unknown task 'zoo_mth'"):
        find_task_config("zoo_mth")


def test_every_shipped_configuration_is_valid():
    for name in ("zoo", "gsm8k", "mbpp"):
        for task, config in find_task_config(name).items():
            assert TaskSpec.from_dict(task, config).name == task


def test_zoo_tasks_follow_the_training_format():
    from evomerge.zoo.prompts import FORMATS

    for name, task in load_tasks(find_task_config("zoo")).items():
        form = FORMATS[name.removeprefix("zoo_")]
        assert len(task.items("report")) == 600
        right = []
        for item in task.items("search")[:20]:
            request = task.requests([item])[item]
            assert task.prompt(item) == form.prompt(request.doc)
            right.append((item, Generation(form.target(request.doc), 1, False)))
        assert tuple(task.generation["until"]) == form.stop
        assert task.generation["max_gen_toks"] == form.max_tokens
        assert [outcome.score for outcome in task.outcomes(right)] == [1.0] * 20
        wrong = task.outcomes([(item, Generation("7", 1, False)) for item, _ in right])
        assert [outcome.score for outcome in wrong] == [0.0] * 20


@pytest.mark.slow
def test_real_mbpp(real_data):
    config = find_task_config("mbpp")
    task = load_tasks(config, data={"mbpp": str(real_data / "mbpp" / "mbpp.jsonl")})["mbpp"]
    docs = {split: [task.requests([i])[i].doc for i in task.items(split)] for split in SPLITS}
    ids = {split: {doc["task_id"] for doc in docs[split]} for split in SPLITS}
    assert ids["report"] == set(range(11, 511))
    assert ids["search"] | ids["selection"] == set(range(511, 975))
    assert not ids["search"] & ids["selection"]
    items = task.items("selection")[:40]
    right = [(item, Generation(task.requests([item])[item].doc["code"], 1, False)) for item in items]
    assert sum(outcome.score for outcome in task.outcomes(right)) >= 39


def test_mbpp_prompts_are_the_harness_own(real_data):
    """Its text and three examples, taken from lm-eval's files without importing them (that fetches a metric)."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: node.value)
    stock = yaml.load((STOCK_TASKS / "mbpp" / "mbpp.yaml").read_text(), Loader=Loader)
    source = ast.parse((STOCK_TASKS / "mbpp" / "utils.py").read_text())
    (function,) = [n for n in source.body if isinstance(n, ast.FunctionDef) and n.name == "list_fewshot_samples"]
    assert isinstance(function.body[-1], ast.Return)
    shots = ast.literal_eval(function.body[-1].value)
    env = Environment(keep_trailing_newline=True)

    def text(doc):
        return env.from_string(stock["doc_to_text"]).render(**doc)

    examples = "".join(text(s) + env.from_string(stock["doc_to_target"]).render(**s) + "\n\n" for s in shots)
    task = load_tasks(find_task_config("mbpp"), data={"mbpp": str(real_data / "mbpp" / "mbpp.jsonl")})["mbpp"]
    for split in SPLITS:
        for item in task.items(split)[:50]:
            assert task.prompt(item) == examples + text(task.requests([item])[item].doc)
    assert task.generation == stock["generation_kwargs"]


def test_real_gsm8k_splits(real_data):
    files = {f"gsm8k.{split}": str(real_data / "gsm8k" / f"{split}.jsonl") for split in ("train", "test")}
    task = load_tasks(find_task_config("gsm8k"), data=files)["gsm8k"]
    assert len(task.items("report")) == 1319
    counts = [len(task.items(split)) for split in ("search", "selection")]
    assert min(counts) > 3300
    assert sum(counts) < 7473 - 300  # the pool of examples
    assert task.prompt(task.items("search")[0]).count("Question:") == 6
