"""Every task in conf/tasks, built from a handful of invented rows, without a hub."""

import ast
import json
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from lm_eval.tasks._yaml_loader import load_yaml
from omegaconf import OmegaConf

from evomerge.config import conf_dir
from evomerge.errors import UsageError
from evomerge.evaluation import SPLITS, find_task_config, load_tasks
from evomerge.evaluation.library import STOCK_TASKS
from evomerge.evaluation.overlap import overlap
from evomerge.evaluation.spec import TaskSpec
from evomerge.evaluation.types import Generation, Likelihood
from tests.evaluation import suites

FILES = sorted((conf_dir() / "tasks").glob("*.yaml"))
NAMES = sorted(name for path in FILES for name in yaml.safe_load(path.read_text()))
LANGUAGES = {name.removeprefix("mgsm_"): name for name in NAMES if name.startswith("mgsm_")}
TEST_ONLY = ["humaneval", "humaneval_instruct", "mgsm", *LANGUAGES.values()]
CODE = ["humaneval", "humaneval_instruct", "mbpp", "mbpp_instruct", "zoo_code"]


class Chat:
    """A chat template that can be read."""

    def apply_chat_template(self, chat_history, add_generation_prompt=True):
        turns = "".join(f"<{message['role']}>{message['content']}" for message in chat_history)
        return turns + "<assistant>" * add_generation_prompt


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict:
    templates = sorted((STOCK_TASKS / "mmlu" / "default").glob("mmlu_*.yaml"))
    subjects = [load_yaml(path, resolve_func=False)["dataset_name"] for path in templates]
    assert len(subjects) == 57
    return suites.write_all(tmp_path_factory.mktemp("suites"), subjects)


@pytest.fixture(scope="module")
def load(files):
    built = {}

    def load(name, **changes):
        key = (name, json.dumps(changes, sort_keys=True))
        if key not in built:
            config = {name: {**find_task_config(name)[name], **changes}}
            if name in files:
                config[name]["data_files"] = files[name]
            built[key] = load_tasks(config, chat=Chat())[name]
        return built[key]

    return load


def test_every_file_says_what_it_is_and_defines_the_task_of_its_name():
    for path in FILES:
        first = path.read_text().splitlines()[0]
        assert first.startswith("# "), path
        assert path.stem == "zoo" or list(yaml.safe_load(path.read_text())) == [path.stem]


def test_several_are_chosen_on_the_command_line():
    chosen = [path.stem for path in FILES]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tasks = OmegaConf.to_container(compose("config", [f"tasks=[{','.join(chosen)}]"]).tasks)
    assert tasks == {name: find_task_config(name)[name] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_configuration_is_spelled_out_and_honest(name):
    data = find_task_config(name)[name]
    spec = TaskSpec.from_dict(name, data)
    assert not spec.search_on_test_data
    searched = {*spec.splits.get("search", ()), *spec.splits.get("selection", ())}
    assert not searched & {*spec.splits.get("report", ("test",))}
    assert data["metric"]
    assert data.get("data_files") is None
    assert name.startswith("zoo") or "data_files" in data


@pytest.mark.parametrize("name", NAMES)
def test_builds_and_gives_prompts(load, name):
    task = load(name)
    data = find_task_config(name)[name]
    assert task.metric == data["metric"]
    assert task.filter == (data.get("filter") or "none")
    assert task.unsafe_code == (name in CODE)
    wanted = ["report"] if name in TEST_ONLY else SPLITS
    for split in wanted:
        items = task.items(split)[:5]
        assert items
        for item, requests in task.requests(items).items():
            assert requests
            assert all(isinstance(request.args[0], str) for request in requests), item
            assert task.prompt(item)
    seen = [item for split in wanted for item in task.items(split)]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("name", TEST_ONLY)
def test_what_has_test_data_only_is_not_searched(load, name):
    assert load(name).items("report")
    for split in ("search", "selection"):
        with pytest.raises(UsageError, match=rf"^task {name}\b.*search_on_test_data: true"):
            load(name).items(split)


@pytest.mark.parametrize("name", ["arc_easy", "hellaswag", "mgsm_de", "wikitext"])
def test_files_of_the_splits_that_are_used_will_do(files, name):
    """lm-eval itself would read training data that it needs for nothing."""
    split = "validation" if name == "hellaswag" else "test"
    config = {**find_task_config(name)[name], "data_files": {split: files[name][split]}, "splits": {"report": split}}
    assert load_tasks({name: config})[name].items("report")
    if name != "wikitext":
        with pytest.raises(UsageError, match=f"task {name}: its examples come from 'train'"):
            load_tasks({name: {**config, "num_fewshot": 2}})


@pytest.mark.parametrize("name", TEST_ONLY)
def test_what_has_test_data_only_is_searched_when_told_so_in_plain_words(load, name):
    task = load(name, search_on_test_data=True)
    items = [item for split in task.splits for item in task.items(split)]
    assert sorted(items) == sorted(load(name).items("report"))
    assert len(task.items("report")) < len(items)


def only(load, name, item, **changes):
    """The one prompt of an item."""
    (request,) = load(name, **changes).requests([item])[item]
    return request.args[0]


def test_prompts_by_hand(load):
    assert only(load, "mgsm_de", "test:0") == "Frage: 0 + 4 = ?\nSchritt-für-Schritt-Antwort:"
    assert only(load, "mgsm_en", "test:0") == "Question: 0 + 4 = ?\nStep-by-Step Answer:"
    assert only(load, "humaneval", "test:0") == suites.humaneval_rows()[0]["prompt"]
    cot = only(load, "gsm8k_cot", "test:0")
    assert cot.startswith("Q: There are 15 trees in the grove.")
    assert cot.endswith("The answer is 8.\n\nQ: Ada has 1000 pens and buys 3. How many are there?\nA:")
    assert cot.count("Q: ") == 9
    assert only(load, "gsm8k", "test:0").count("Question: ") == 6
    code = only(load, "mbpp", "test:0")
    assert code.count("You are an expert Python programmer") == 4
    assert code.endswith("assert add_11(0) == 11\nassert add_11(1) == 12\nassert add_11(-5) == 6\n[BEGIN]\n")


def test_choices_by_hand(load):
    def pairs(name, item):
        return [request.args for request in load(name).requests([item])[item]]

    assert pairs("arc_easy", "test:0") == [
        ("Question: Which of these is the number 30?\nAnswer:", f" {30 + k}") for k in range(4)
    ]
    assert pairs("hellaswag", "validation:0") == [
        ("Counting. sheep: A shepherd counts 20 sheep. Then she", ending)
        for ending in (" goes home.", " sees 20 wolves. Runs.", " sleeps.", " counts on.")
    ]
    (first, *_) = pairs("mmlu", "mmlu_anatomy/test:0")
    assert first[0].startswith("The following are multiple choice questions (with answers) about anatomy.\n\ndev 0 of")
    assert first[0].endswith("\nAnswer: A\n\ntest 0 of anatomy?\nA. w\nB. x\nC. y\nD. z\nAnswer:")
    assert first[0].count("Answer:") == 6
    assert first[1] == " A"
    assert only(load, "wikitext", "test:1") == " = Page 1 =\nIt has 1,000 readers, at most.\n"


def test_prefixes_are_shared_where_examples_are_fixed(load):
    assert load("gsm8k_cot").prefix.count("The answer is") == 8
    assert load("math500").prefix.count("I hope it is correct.") == 4
    assert load("mbpp").prefix.count("[DONE]") == 3
    assert "Question" not in load("arc_easy").prefix[len("Question") :]


def test_chat_templates_of_instruct_tasks(load):
    prompt = only(load, "humaneval_instruct", "test:0")
    row = suites.humaneval_rows()[0]["prompt"]
    assert prompt.startswith(
        "<user>Write a solution to the following problem and make sure that it passes the tests:\n```python\n"
    )
    assert prompt.endswith(f"<assistant>Here is the completed function:\n```python\n{row}\n")
    assert only(load, "mbpp_instruct", "test:0").endswith("assert add_11(-5) == 6<assistant>\n```python\n")


def function_of(file: str, name: str):
    """A function of a file of lm-eval that this installation cannot import."""
    tree = ast.parse((STOCK_TASKS / file).read_text())
    (found,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    space: dict = {}
    exec(compile(ast.Module([found], []), file, "exec"), space)
    return space[name]


def test_math_prompts_are_minervas(load):
    text = function_of("minerva_math/utils.py", "doc_to_text")
    shots = function_of("minerva_math/utils.py", "list_fewshot_samples")()
    examples = "".join(f"{text(shot)} {shot['solution']}\n\n" for shot in shots)
    task = load("math500")
    for item in (*task.items("search"), *task.items("report")):
        split, _, index = item.partition(":")
        row = (suites.math_rows(1, 12) if split == "train" else suites.math_rows(101, 4))[int(index)]
        assert task.prompt(item) == examples + text(row)
    stock = load_yaml(STOCK_TASKS / "minerva_math" / "minerva_math500.yaml", resolve_func=False)
    assert task.generation_settings["options"]["until"] == stock["generation_kwargs"]["until"]
    assert stock["num_fewshot"] == 4


ANSWERS = {
    "gsm8k": (lambda doc: doc["answer"], "#### 1"),
    "gsm8k_cot": (lambda doc: f" The answer is {doc['answer'].split('#### ')[1]}.", " The answer is 1."),
    "mbpp": (lambda doc: doc["code"] + "\n", "def f(): pass"),
    "mbpp_instruct": (lambda doc: doc["code"] + "\n```", "I cannot"),
    "humaneval": (lambda doc: doc["canonical_solution"], "    return 0"),
    "humaneval_instruct": (lambda doc: doc["canonical_solution"] + "```\nDone.", "    return x"),
    "math500": (lambda doc: f" So {doc['gold']} I hope it is correct.", r" It is $\boxed{-1}$."),
    "zoo_math": (lambda doc: " " + doc["answer"], " #### 123456"),
    "zoo_code": (lambda doc: doc["code"], "def f(): pass"),
    "zoo_translate": (lambda doc: " " + doc["target"], " no"),
    **{name: (lambda doc: f" {doc['answer_number']}", " 1") for name in ("mgsm", *LANGUAGES.values())},
}
SOLVED = {"de": " Die Antwort lautet 5.", "en": " The answer is 5.", "fr": " La réponse est 5.", "zh": " 答案是 5。"}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_right_and_wrong_answers(load, name):
    task, (right, wrong) = load(name), ANSWERS[name]
    split = "report" if name in TEST_ONLY else "search"
    items = task.items(split)[:3]
    docs = [task.requests([item])[item][0].doc for item in items]
    good = [(item, [Generation(right(doc), 5, False)]) for item, doc in zip(items, docs, strict=True)]
    assert [outcome.score for outcome in task.outcomes(good)] == [1.0] * len(items)
    bad = task.outcomes([(item, [Generation(wrong, 5, False)]) for item in items])
    assert [outcome.score for outcome in bad] == [0.0] * len(items)
    assert task.aggregate([*task.outcomes(good), *bad]) == 0.5


@pytest.mark.parametrize("language", sorted(SOLVED))
def test_mgsm_finds_the_answer_in_its_language(load, language):
    task = load(LANGUAGES[language])
    (outcome,) = task.outcomes([("test:1", [Generation(SOLVED[language], 5, False)])])
    assert (outcome.strict, outcome.flexible) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "item", "gold"),
    [
        ("arc_easy", "test:1", 0),
        ("arc_challenge", "train:3", 0),
        ("hellaswag", "validation:2", 2),
        ("mmlu", "mmlu_virology/validation:1", 1),
    ],
)
def test_choices_are_scored_by_likelihood(load, name, item, gold):
    task = load(name)
    assert len(task.requests([item])[item]) == 4
    for likeliest in range(4):
        responses = [Likelihood(-1.0 if k == likeliest else -100.0, False, 3) for k in range(4)]
        (outcome,) = task.outcomes([(item, responses)])
        assert outcome.score == float(likeliest == gold)


def test_perplexity_is_per_word_and_smaller_is_better(load):
    task = load("wikitext")
    assert not task.higher_is_better
    outcomes = task.outcomes([("test:0", [Likelihood(-26.0, False, 20)]), ("test:1", [Likelihood(-39.0, False, 20)])])
    assert outcomes[0].score > outcomes[1].score
    # 13 words each, as lm-eval counts them: white space in front and at the end makes an empty word more.
    words = len(suites.wikitext_rows(1)[0]["page"].split()) + 2
    assert task.aggregate(outcomes) == pytest.approx(2.718281828459045 ** (65 / (2 * words)))


@pytest.mark.parametrize("name", NAMES)
def test_items_can_be_looked_for_in_text(load, files, tmp_path, name):
    """An item's own text is a part of its prompt (or what is scored), and is found where it occurs."""
    task = load(name)
    assert task.splits == (("report",) if name in TEST_ONLY else SPLITS)
    item = task.items("report")[1]
    text = task.text(item)
    if name != "wikitext":
        assert task.prompt(item).count(text) == 1
    (tmp_path / "a.txt").write_text(f"Look:\n{text}")
    shares = overlap({name: task}, [tmp_path / "a.txt"], n=2, splits=["report"])["tasks"][name]["shares"]
    assert shares[item] == 1.0
    assert shares.keys() == set(task.items("report"))


def test_examples_are_no_part_of_an_items_text(load):
    assert load("gsm8k").text("test:2") == "Question: Ada has 1002 pens and buys 3. How many are there?\nAnswer:"
    assert load("mmlu").text("mmlu_anatomy/test:1").startswith("test 1 of anatomy?\nA. w")
    assert load("wikitext").text("test:0").startswith(" = Page 0 =\n")


def test_the_text_of_an_item_with_several_prompts(tmp_path):
    rows = [{"sentence": "Ann paid Bea because _ was fair.", "option1": "Ann", "option2": "Bea", "answer": "2"}] * 2
    files = suites.write(tmp_path, {"train": rows, "validation": rows})
    task = load_tasks({"winogrande": {"task": "winogrande", "data_files": files}})["winogrande"]
    assert task.text("validation:0") == "Ann paid Bea because Bea"


DOCS = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
BLOCKS = [block.split("```")[0] for block in DOCS.split("```yaml\n")[1:]]


def test_the_page_names_every_task():
    table = DOCS.split("## What ships")[1].split("\n- ")[0]
    for name in NAMES:
        assert f"`{name}`" in table or f"`_{name.removeprefix('mgsm_')}`" in table, name


def test_the_page_names_every_key():
    assert {"name", *yaml.safe_load(BLOCKS[0])["name"]} == {field.name for field in fields(TaskSpec)}


def test_the_examples_of_the_page_work(files, tmp_path):
    (tmp_path / "judge.py").write_text(DOCS.split("```python\n")[1].split("```")[0])
    config = yaml.safe_load(BLOCKS[1].replace("/home/me", str(tmp_path)))
    for name, task in config.items():
        task["data_files"] = files["mgsm_de" if name == "german" else "gsm8k"]
    tasks = load_tasks(config)
    answer = [("test:1", [Generation("Das macht bitte zusammen 1004 Stifte, please.", 9, False)])]
    assert {name: task.outcomes(answer)[0].score for name, task in tasks.items()} == {
        "gsm8k": 1.0,
        "short": -9.0,
        "german": 1.0,
        "polite": 1.0,
    }

    (tmp_path / "capitals.yaml").write_text(BLOCKS[2])
    rows = [{"country": f"Land {i}", "capital": f"Town {i}"} for i in range(100)]
    data = suites.write(tmp_path, {"train": rows, "test": rows[:3]})
    task = load_tasks(
        find_task_config(str(tmp_path / "capitals.yaml")),
        data={f"capitals.{split}": path for split, path in data.items()},
    )["capitals"]
    assert task.outcomes([("test:1", [Generation(" town 1", 2, False)])])[0].score == 1.0
    assert task.prompt("test:1").endswith("\n\nQ: What is the capital of Land 1?\nA:")
