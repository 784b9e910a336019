"""The command: what it prints, what it exits with."""

import json
from pathlib import Path

import pytest

from evomerge.doctor.diagnose import labels
from tests.checkpoints.models import copy_of, edit_json
from tests.search.runs import evomerge, here


def test_the_zoo_merges() -> None:
    done = evomerge("doctor", "zoo:base", "zoo:math", "zoo:code")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no library noise"
    assert any(line.startswith("They merge") for line in done.stdout.splitlines())
    for word in ("layers.0-5.mlp", "task vectors", "0.0914", "LlamaForCausalLM", "WARNING math: wide task vector"):
        assert word in done.stdout


def test_json_is_everything_as_data(base: Path, math: Path, code: Path) -> None:
    done = here("doctor", str(base), str(math), str(code), "--json")
    data = json.loads(done.stdout)
    assert done.returncode == 0
    assert data["version"] == 1
    assert data["merges"] is True
    assert data["findings"] == []
    assert [model["label"] for model in data["models"]] == ["base", "math", "code"]
    assert data["models"][0]["licence"] == "apache-2.0"
    assert data["task_vectors"]["experts"]["math"]["groups"]["layers.1.mlp"]["relative_norm"] > 0
    assert data["task_vectors"]["experts"]["math"]["quantiles"].keys() == {"0.5", "0.9", "0.99", "0.999"}
    assert data["task_vectors"]["cosines"][0]["experts"] == ["code", "math"]
    assert {row["group"] for row in data["groups"]} >= {"embeddings", "layers.0-1.mlp"}


def test_what_stops_a_merge_is_status_1(base: Path, math: Path, tmp_path: Path) -> None:
    other = copy_of(math, tmp_path / "other")
    edit_json(other / "config.json", model_type="mistral")
    done = here("doctor", str(base), str(math), str(other))
    assert done.returncode == 1
    assert done.stderr == ""
    assert "STOP    other: model_type is 'mistral'" in done.stdout
    assert done.stdout.splitlines()[-1] == "They do not merge: 1 finding about other to settle first."
    assert json.loads(here("doctor", str(base), str(other), "--json").stdout)["merges"] is False


def test_a_hint_is_given_once_for_findings_that_share_it(base: Path, math: Path, tmp_path: Path) -> None:
    other = copy_of(math, tmp_path / "other")
    edit_json(other / "config.json", model_type="mistral", num_attention_heads=8, rms_norm_eps=0.1)
    lines = here("doctor", str(base), str(other)).stdout.splitlines()[-6:-1]
    assert [line.split()[0] for line in lines] == ["STOP", "STOP", "->", "WARNING", "->"]


def test_the_base_may_be_named(base: Path, math: Path, code: Path) -> None:
    usual, named = (
        json.loads(here("doctor", *arguments, "--json").stdout)
        for arguments in ((str(base), str(math), str(code)), (str(math), str(code), "--base", str(base)))
    )
    assert usual == named


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "MODEL"),
        (("zoo:base",), "at least one expert"),
        (("zoo:base", "zoo:mth"), "did you mean 'math'"),
        (("zoo:base", "/nowhere/at/all"), "/nowhere/at/all"),
        (("zoo:base", "zoo:math", "--threads", "-1"), "--threads"),
    ],
)
def test_a_wrong_request_is_status_2(arguments: tuple[str, ...], word: str) -> None:
    done = here("doctor", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert word in done.stderr
    assert done.stdout == ""


def test_a_hostile_name_does_not_reach_the_terminal(base: Path, math: Path, tmp_path: Path) -> None:
    expert = copy_of(math, tmp_path / "expert")
    (expert / "README.md").write_text('---\nlicense: "mit\\e[2J"\n---\n')
    assert "\x1b" not in here("doctor", str(base), str(expert)).stdout


def test_labels_are_short_and_unique() -> None:
    assert labels(["org/model@main", "zoo:math", "/data/run/model/", "base", "x/base"]) == [
        "model",
        "math",
        "model-2",
        "base-2",
        "base-3",
    ]
