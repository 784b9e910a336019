"""Completion: what is suggested, and that a real shell offers it when somebody presses the tabulator."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evomerge.cli.completion import SCRIPTS
from evomerge.cli.entry import build_parser
from evomerge.cli.suggestions import FILES, suggest
from evomerge.config import conf_dir
from tests.search.runs import environment, here
from tests.search.watch.screen import Screen

OPTIMIZERS = sorted(path.stem for path in (conf_dir() / "optimizer").glob("*.yaml"))


def suggested(line):
    return suggest(line.split(" "), build_parser()[1], conf_dir())


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("sea", ["search"]),
        ("--v", ["--version"]),
        ("nonsense ", []),
        ("search opt", ["optimizer.", "optimizer="]),
        ("search optimizer=", [f"optimizer={name}" for name in OPTIMIZERS]),
        ("search optimizer=cm", ["optimizer=cmaes"]),
        ("search optimizer=random,cm", ["optimizer=random,cmaes"]),
        ("search +exp", ["+experiment="]),
        ("search experiment=qu", ["experiment=quickstart"]),
        ("search budget.", ["budget.candidates=", "budget.items=", "budget.seconds="]),
        ("search budget.c", ["budget.candidates="]),
        ("search racing.enabled=", ["racing.enabled=true", "racing.enabled=false"]),
        ("search racing.enabled=t", ["racing.enabled=true"]),
        ("search ~tasks.zoo_c", ["~tasks.zoo_code"]),
        ("search models.experts.m", ["models.experts.math="]),
        ("search models.experts.math=zoo:c", ["models.experts.math=zoo:code"]),
        ("search --mu", ["--multirun"]),
        ("search -m experiment=quickstart opt", ["optimizer.", "optimizer="]),
        ("search budget.candidates=", []),
        ("plan optimizer=tp", ["optimizer=tpe"]),
        ("evaluate zoo:m", ["zoo:math", FILES]),
        ("evaluate zoo:math --split s", ["search", "selection"]),
        ("evaluate zoo:math --tasks zoo_m", ["zoo_math"]),
        ("evaluate zoo:math --tasks zoo_math,gsm8", ["zoo_math,gsm8k", "zoo_math,gsm8k_cot"]),
        ("evaluate --limit ", []),
        ("front --js", ["--json"]),
        ("front runs/", [FILES]),
        ("export a b --pick ", ["best", "knee"]),
        ("zoo ma", ["math"]),
        ("completion f", ["fish"]),
    ],
)
def test_suggestions(line, found):
    assert suggested(line) == found


def test_an_optimizers_own_options_follow_the_chosen_one():
    chosen = suggested("search optimizer=map optimizer.options.")
    assert "optimizer.options.warp=" in chosen
    assert "optimizer.options.warp=" not in suggested("search optimizer=random optimizer.options.")


def test_an_experiment_brings_its_own_choices(tmp_path):
    conf = shutil.copytree(conf_dir(), tmp_path / "conf")
    (conf / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [{override /optimizer: map}]\nown: 1\n"
    )
    words = ["search", "experiment=mine", "optimizer.options.w"]
    assert suggest(words, build_parser()[1], conf) == ["optimizer.options.warp="]
    assert suggest(["search", "experiment=mine", "ow"], build_parser()[1], conf) == ["own="]


def test_tasks_of_a_run_after_prefer(tmp_path):
    (tmp_path / "config.yaml").write_text("tasks: {gsm8k: {}, mbpp: {}}\n")
    assert suggested(f"export {tmp_path} out --prefer ") == ["gsm8k=", "mbpp="]
    assert suggested("export /nowhere out --prefer ") == []


def test_every_command_and_option_can_be_completed():
    _, commands = build_parser()
    for name in commands:
        assert name in suggested(name)
        if name != "search":
            options = [o for action in commands[name]._actions for o in action.option_strings if o.startswith("--")]
            assert set(options) == set(suggested(f"{name} --"))


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts_are_sound(shell, tmp_path):
    done = here("completion", shell)
    assert (done.returncode, done.stdout) == (0, SCRIPTS[shell])
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    (tmp_path / "script").write_text(done.stdout)
    assert subprocess.run([shell, "-n", str(tmp_path / "script")], check=False).returncode == 0


def test_no_shell_is_refused():
    done = here("completion")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "bash, zsh or fish" in done.stderr


@pytest.fixture
def with_evomerge(tmp_path):
    """An environment in which `evomerge` is a command."""
    program = tmp_path / "bin" / "evomerge"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m evomerge.cli "$@"\n')
    program.chmod(0o755)
    root = str(Path(__file__).parents[2])
    return {**environment(), "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": root}


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("evomerge sea", "evomerge search "),
        ("evomerge search optimizer=cm", "evomerge search optimizer=cmaes "),
        ("evomerge search budget.ca", "evomerge search budget.candidates="),
        ("evomerge search optimizer=random,cm", "evomerge search optimizer=random,cmaes "),
        ("evomerge search models.base=zoo:tr", "evomerge search models.base=zoo:translate "),
        ("evomerge merge some-rec", "evomerge merge some-recipe.yaml "),
    ],
)
def test_bash_completes_what_is_typed(with_evomerge, tmp_path, typed, shown):
    (tmp_path / "some-recipe.yaml").touch()
    environment = {**with_evomerge, "PS1": "ready> ", "TERM": "xterm", "HISTFILE": ""}
    screen = Screen(["bash", "--norc", "--noprofile", "-i"], columns=120, env=environment, cwd=tmp_path)
    try:
        screen.until(lambda text: "ready>" in text)
        screen.type('eval "$(evomerge completion bash)"; clear; echo is-ready\n')
        screen.until(lambda text: text.lstrip().startswith("is-ready"))
        screen.type(f"{typed}\t|")
        screen.until(lambda text: f"ready> {shown}|" in text)
    finally:
        screen.kill()
