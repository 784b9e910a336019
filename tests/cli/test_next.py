"""What to do next: a line at the end of what people read, never in what programs read."""

import json
import shlex

import pytest

from evomerge.evaluation import find_task_config, load_tasks
from tests.search.runs import here

MERGEKIT = """merge_method: linear
models:
- {model: org/a, parameters: {weight: 0.5}}
- {model: org/b, parameters: {weight: 0.5}}
dtype: float32
"""


def last(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip().splitlines()[-1]


def test_after_a_diagnosis_a_plan_with_the_same_models():
    line = last(here("doctor", "zoo:base", "zoo:math", "--quick"))
    words = shlex.split(line.removeprefix("next: ").split("   (")[0])
    assert words == ["evomerge", "plan", "models.base=zoo:base", "~models.experts", "+models.experts={math: zoo:math}"]
    assert here(*words[1:], "tasks=zoo", "--no-measure").returncode == 0
    json.loads(here("doctor", "zoo:base", "zoo:math", "--quick", "--json").stdout)


def test_after_an_import_the_model_or_the_search(tmp_path):
    (tmp_path / "theirs.yaml").write_text(MERGEKIT)
    recipe = tmp_path / "new" / "recipe.yaml"
    done = here("import", str(tmp_path / "theirs.yaml"), "--base", "org/a", "--out", str(recipe))
    assert last(done).startswith(f"next: evomerge merge {recipe} my-model")
    assert "next:" not in here("import", str(tmp_path / "theirs.yaml"), "--base", "org/a").stdout, "it is a YAML file"


@pytest.mark.parametrize("known", [True, False])
def test_after_items_were_found_what_that_means(tmp_path, known):
    task = next(iter(load_tasks(find_task_config("zoo_math")).values()))
    (tmp_path / "train.txt").write_text(task.text(task.items("report")[0]) if known else "nothing of the kind")
    words = ("overlap", str(tmp_path / "train.txt"), "--tasks", "zoo_math", "--ngram", "8")
    assert last(here(*words)).startswith("next: count on no score") == known
    json.loads(here(*words, "--json").stdout)
