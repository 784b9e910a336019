import pytest

from evomerge.errors import UsageError
from evomerge.evaluation import TaskSpec


def test_full():
    data = {
        "task": "gsm8k",
        "data_files": {"train": "a.jsonl"},
        "metric": "exact_match",
        "filter": "strict-match",
        "num_fewshot": 3,
        "fewshot": "train",
        "max_gen_toks": 100,
        "generation": {"until": ["x"]},
        "splits": {"search": "train", "selection": ["train", "validation"], "report": "test"},
    }
    spec = TaskSpec.from_dict("g", data)
    assert spec.splits == {"search": ("train",), "selection": ("train", "validation"), "report": ("test",)}
    assert (spec.name, spec.num_fewshot, spec.generation) == ("g", 3, {"until": ["x"]})


def test_null_means_default():
    assert TaskSpec.from_dict("g", {"task": "gsm8k", "metric": None, "splits": None}) == TaskSpec("g", "gsm8k")


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
        ({"task": "x", "metric": 1}, "metric 1 is not a name"),
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
