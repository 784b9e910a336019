"""The doors of the command line, on the models that ship with evomerge."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from evomerge.checkpoints import ModelPool
from evomerge.cli import main
from evomerge.merging import stream
from evomerge.recipes import Recipe
from evomerge.zoo import model_path

RECIPE = """
method: task_arithmetic
base: zoo:base
experts: {math: zoo:math, code: zoo:code}
dtype: float32
parameters: {weight: {math: {layers.0-1: 0.5, layers.2.mlp: 0.25, all: 0.75}, code: 0.5}}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_goes_to_mergekit_s_yaml_and_back(recipe, tmp_path, capsys):
    written = tmp_path / "mergekit.yaml"
    assert main(["merge", str(recipe), "--mergekit", str(written)]) == 0
    assert capsys.readouterr().err == ""
    data = yaml.safe_load(written.read_text())
    assert data["base_model"] == str(model_path("base"))
    assert main(["import", str(written)]) == 0
    back = Recipe.from_yaml(capsys.readouterr().out)
    ours = Recipe.load(recipe)
    tensors = [dict(stream(r, ModelPool.open(r.base, r.experts, check_weights=False))) for r in (ours, back)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_notes_are_told_and_kept_in_the_file(recipe, tmp_path, capsys):
    dropping = "parameters: {drop_rate: 0.5,"
    recipe.write_text(recipe.read_text().replace("task_arithmetic", "dare_linear").replace("parameters: {", dropping))
    written = tmp_path / "mergekit.yaml"
    assert main(["merge", str(recipe), "--mergekit", str(written)]) == 0
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert all(line.startswith("note: ") for line in told)
    kept = [line.replace("# Note", "note") for line in written.read_text().splitlines() if line.startswith("# Note")]
    assert kept == told


def test_a_genome_becomes_an_experiment(tmp_path, capsys):
    models = "[{}, {}]".format(model_path("math"), model_path("code"))
    genome = f"{{models: {models}, merge_method: ties, base_model: {model_path('base')}, filters: [q_proj]}}"
    file, out = tmp_path / "genome.yml", tmp_path / "it.yaml"
    file.write_text(f"genome: {genome}\ntasks: [gsm8k]\n")
    assert main(["import", str(file), "--out", str(out)]) == 0
    assert out.read_text().startswith("# @package _global_\n")
    assert yaml.safe_load(out.read_text())["name"] == "genome"
    told = capsys.readouterr()
    assert told.out.startswith("next: evomerge search ")
    assert "note: filter 'q_proj' is not carried over" in told.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("merge_method: [", ["not valid YAML"]),
        ("- 1", ["expected a mapping"]),
        ("{merge_method: ties, base_model: no/where, models: [{model: no/one, parameters: {weight: [0, 1]}}]}",
         ["tensor names are needed", "no/where"]),
        (f"{{merge_method: slerp, base_model: {model_path('base')}, models: [{{model: {model_path('math')}}}], "
         "parameters: {t: 3}}", ["outside [0, 1]"]),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_refused_in_one_line(tmp_path, capsys, text, words):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    assert main(["import", str(file)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert told.err.startswith(f"evomerge: {file}: ")
    for word in words:
        assert word in told.err


def test_files_that_are_not_there(tmp_path, capsys, recipe):
    assert main(["import", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
    assert main(["merge", str(recipe)]) == 2
    assert "give OUT_DIR, or --mergekit FILE" in capsys.readouterr().err
    bad = tmp_path / "bad.yaml"
    bad.write_text(RECIPE.replace("task_arithmetic", "ties").replace("parameters: {", "parameters: {drop_rate: 2, "))
    assert main(["merge", str(bad), "--mergekit", str(tmp_path / "x.yaml")]) == 2
    assert "outside [0, 1]" in capsys.readouterr().err
    assert not (tmp_path / "x.yaml").exists()
    assert main(["merge", str(recipe), "--mergekit", str(tmp_path / "no" / "x.yaml")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.slow
def test_mergekit_builds_what_we_build():
    """The whole comparison, `scripts/check_mergekit.py`, in its short form."""
    python = os.environ.get("EVOMERGE_MERGEKIT_PYTHON")
    if not python:
        pytest.skip("EVOMERGE_MERGEKIT_PYTHON is not set: the python of an environment with mergekit 0.1.5")
    script = Path(__file__).parents[2] / "scripts" / "check_mergekit.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--python", python, "--seed", "1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
