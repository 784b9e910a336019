import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment
from transformers import AutoTokenizer

from evomerge.errors import UsageError
from evomerge.evaluation import SPLITS, EvalTask, chat_from, find_task_config, load_tasks
from evomerge.evaluation.library import STOCK_TASKS
from evomerge.evaluation.part import POOL_SHARE


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
    assert whole.prefix == make(sums).prefix  # before any prompt was asked for
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


def test_fewshot_from_another_split(sums):
    task = make(sums, splits={"search": "test"}, fewshot="train", search_on_test_data=True)
    assert len(task.items("search")) == 30  # nothing is held back: the examples come from elsewhere
    assert all(int(q.split()[2]) < 200 for q in prompt_questions(task.prompt("test:0"))[:-1])


def test_one_dataset_split_for_all(sums):
    task = make(sums, splits=dict.fromkeys(SPLITS, "train"))
    items = [item for split in SPLITS for item in task.items(split)]
    assert len(items) == len(set(items)) < 200
    assert all(len(task.items(split)) > 40 for split in SPLITS)


def test_splits_without_data_and_unknown_items(sums):
    task = make(sums, splits={"report": "test"})
    with pytest.raises(UsageError, match=r"no data are named for the search split; set splits.search to one of train$"):
        task.items("search")
    for item in ("test:30", "none:0", "test:x", "test"):
        with pytest.raises(UsageError, match="there is no item"):
            task.requests([item])


def test_searching_on_test_data_must_be_meant(sums):
    for split in ("search", "selection"):
        with pytest.raises(UsageError, match=rf"task sums, splits.{split}: 'test' is what .*search_on_test_data: true"):
            make(sums, splits={split: ["train", "test"], "report": "test"})
    task = make(sums, splits=dict.fromkeys(SPLITS, "test"), search_on_test_data=True)
    items = [item for split in SPLITS for item in task.items(split)]
    assert len(items) == len(set(items)) == 30


def test_validation_data_are_test_data_where_there_are_no_others(sums, tmp_path):
    text = Path(sums["task"]).read_text().replace("test_split: test", "validation_split: test")
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match="search_on_test_data: true"):
        make(sums, task=str(tmp_path / "x.yaml"), splits={"search": "test"})


def test_a_task_that_has_only_test_data(sums, tmp_path):
    content = yaml.safe_load(Path(sums["task"]).read_text())
    content = {**content, "training_split": None, "fewshot_split": None, "num_fewshot": 0}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    alone = {"task": str(tmp_path / "x.yaml"), "data_files": {"test": sums["data_files"]["test"]}}
    task = make(alone)
    assert len(task.items("report")) == 30
    for split in ("search", "selection"):
        with pytest.raises(UsageError, match=r"it has no data but 'test'.*search_on_test_data: true to divide them"):
            task.items(split)
    divided = make(alone, search_on_test_data=True)
    items = [item for split in SPLITS for item in divided.items(split)]
    assert len(items) == len(set(items)) == 30
    assert all(divided.items(split) for split in SPLITS)


def test_a_chat_needs_a_template(sums, model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    with pytest.raises(UsageError, match="task sums: chat_template needs a model whose tokenizer has one"):
        make(sums, chat_template=True)
    task = load_tasks({"sums": {**sums, "chat_template": True}}, chat=chat_from(tokenizer))["sums"]
    with pytest.raises(UsageError, match="task sums: the model's tokenizer has no chat template"):
        task.prompt("test:0")


def test_a_copy_of_the_question_is_no_example(sums, tmp_path):
    rows = [{"question": f"what is {i}?", "answer": f"#### {i}"} for i in range(5)]
    for split, part in (("few", rows[:3]), ("train", rows), ("test", rows)):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("few", "train", "test")}
    for shots, copies in ((2, 1), (3, 2)):  # of three, two are others; three are not
        task = make(sums, data_files=files, fewshot="few", num_fewshot=shots)
        item = next(i for split in ("search", "selection") for i in task.items(split) if i == "train:1")
        assert task.prompt(item).count("what is 1?") == copies


def test_few_items_give_what_examples_it_takes(sums):
    task = make(sums, num_fewshot=150, splits=dict.fromkeys(SPLITS, "train"))
    items = [item for split in SPLITS for item in task.items(split)]
    assert len(items) == 50
    *examples, question = prompt_questions(task.prompt(items[0]))
    assert len(set(examples)) == 150
    assert not {f"train:{example.split()[2]}" for example in [*examples, question]} & set(items[1:])


def test_more_examples_than_there_are(sums):
    task = make(sums, num_fewshot=300)
    assert task.items("search") == ()
    with pytest.raises(UsageError, match=r"task sums: item test:0 has no prompt: ValueError"):
        task.prompt("test:0")
    assert task.prefix == ""


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
            assert task.prompt(item) == examples + text(task.requests([item])[item][0].doc)
    options = task.generation_settings["options"]
    assert {**options, "max_gen_toks": None} == {**stock["generation_kwargs"], "max_gen_toks": None}


def test_real_gsm8k_splits(real_data):
    files = {f"gsm8k.{split}": str(real_data / "gsm8k" / f"{split}.jsonl") for split in ("train", "test")}
    task = load_tasks(find_task_config("gsm8k"), data=files)["gsm8k"]
    assert len(task.items("report")) == 1319
    counts = [len(task.items(split)) for split in ("search", "selection")]
    assert min(counts) > 3300
    assert sum(counts) < 7473 - 300  # the pool of examples
    assert task.prompt(task.items("search")[0]).count("Question:") == 6
