import dataclasses

import pytest

from evomerge.errors import UsageError
from evomerge.evaluation import TaskSpec
from evomerge.evaluation.spec import expand


def test_full():
    data = {
        "task": "gsm8k",
        "data_files": {"train": "a.jsonl"},
        "metric": "answer_language",
        "language": "de",
        "higher_is_better": False,
        "filter": "strict-match",
        "num_fewshot": 3,
        "fewshot": "train",
        "chat_template": True,
        "fewshot_as_multiturn": True,
        "system_instruction": "Be brief.",
        "search_on_test_data": True,
        "max_gen_toks": 100,
        "generation": {"until": ["x"]},
        "splits": {"search": "train", "selection": ["train", "validation"], "report": "test"},
    }
    spec = TaskSpec.from_dict("g", data)
    assert spec.splits == {"search": ("train",), "selection": ("train", "validation"), "report": ("test",)}
    assert (spec.name, spec.num_fewshot, spec.generation) == ("g", 3, {"until": ["x"]})
    assert (spec.chat_template, spec.fewshot_as_multiturn, spec.system_instruction) == (True, True, "Be brief.")
    assert (spec.metric, spec.language, spec.higher_is_better) == ("answer_language", "de", False)
    assert spec.search_on_test_data


def test_null_means_default():
    nothing = dict.fromkeys(f.name for f in dataclasses.fields(TaskSpec) if f.name not in ("name", "task"))
    assert TaskSpec.from_dict("g", {"task": "gsm8k", **nothing}) == TaskSpec("g", "gsm8k")


@pytest.mark.parametrize(
    ("metric", "own"),
    [(None, False), ("acc", False), ("answer_length", True), ("my.module:score", True), ("a/b.py:score", True)],
)
def test_own_metrics(metric, own):
    assert TaskSpec("g", "gsm8k", metric=metric).own_metric is own


def test_several_counts_of_examples():
    specs = expand("g", {"task": "gsm8k", "num_fewshot": [0, 5]})
    assert [(spec.name, spec.num_fewshot) for spec in specs] == [("g-0shot", 0), ("g-5shot", 5)]
    assert expand("g", {"task": "gsm8k", "num_fewshot": 5}) == [TaskSpec("g", "gsm8k", num_fewshot=5)]
    for counts in ([], [5, 5]):
        with pytest.raises(UsageError, match="task g: num_fewshot .* must name each number of examples once"):
            expand("g", {"task": "gsm8k", "num_fewshot": counts})
    with pytest.raises(UsageError, match="num_fewshot -1 must be a whole number"):
        expand("g", {"task": "gsm8k", "num_fewshot": [0, -1]})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"task": "x", "metrik": "m"}, "unknown key 'metrik'; did you mean 'metric'?"),
        ({"task": "x", "splits": {"serch": "train"}}, "unknown key 'serch'; did you mean 'search'?"),
        ({"metric": "m"}, "key 'task' is missing"),
        ({"task": 3}, "key 'task' is missing"),
        ("gsm8k", "expected a mapping"),
        ({"task": "x", "num_fewshot": -1}, "num_fewshot -1"),
        ({"task": "x", "num_fewshot": True}, "num_fewshot True"),
        ({"task": "x", "max_gen_toks": 0}, "max_gen_toks 0"),
        ({"task": "x", "metric": 1}, "metric 1 is not a text"),
        ({"task": "x", "chat_template": "yes"}, "chat_template 'yes' must be true or false"),
        ({"task": "x", "search_on_test_data": 1}, "search_on_test_data 1 must be true or false"),
        ({"task": "x", "num_fewshot": [0, 5]}, "num_fewshot [0, 5]"),
        ({"task": "x", "metric": "answer_language"}, "answer_language and language go together"),
        ({"task": "x", "language": "de"}, "answer_language and language go together"),
        ({"task": "x", "metric": "acc", "higher_is_better": True}, "a metric of lm-eval has its direction"),
        ({"task": "x", "fewshot_as_multiturn": True}, "fewshot_as_multiturn needs chat_template: true"),
        ({"task": "x", "generation": "greedy"}, "generation 'greedy' is not a mapping"),
        ({"task": "x", "splits": {"search": []}}, "splits.search"),
        ({"task": "x", "data_files": [1]}, "data_files [1]"),
    ],
)
def test_refused(data, words):
    with pytest.raises(UsageError) as caught:
        TaskSpec.from_dict("t", data)
    assert words in str(caught.value)
    assert str(caught.value).startswith("task t")
    assert "\n" not in str(caught.value)
