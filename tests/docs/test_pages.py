"""The pages are followed as a newcomer would: their files are written, their commands are run, in order."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import evomerge
from evomerge.evaluation import load_tasks
from evomerge.merging.methods import METHODS
from evomerge.optimizers import OPTIMIZERS, Problem
from tests.docs.blocks import HOME, Block, blocks, commands
from tests.docs.not_run import reason
from tests.docs.pages import RUN_WITH_STAND_INS, SmallPage, steps
from tests.merging.methods.support import run as merge_tensors
from tests.optimizers.landscapes import box, drive, quadratic

GUIDE, EXTENDING, API = (HOME / "docs" / name for name in ("guide.md", "extending.md", "api.md"))


@pytest.fixture
def registries():
    """What a page registers is gone after the test."""
    before = dict(METHODS), dict(OPTIMIZERS)
    yield
    for registry, kept in zip((METHODS, OPTIMIZERS), before, strict=True):
        registry.clear()
        registry.update(kept)
    for name in ("median", "climber"):
        sys.modules.pop(name, None)


@pytest.fixture
def files(tmp_path, monkeypatch, registries):
    """A folder with the files of extending.md."""
    page = SmallPage(tmp_path, monkeypatch)
    for block in blocks(EXTENDING):
        if block.name:
            page.write(block)
    return page


# ---- extending.md, part by part ------------------------------------------------------------------------------------


def test_the_task_has_items_and_prompts(files):
    subprocess.run([sys.executable, "make_shop.py"], cwd=files.folder, check=True)
    data = {"train": "shop-train.jsonl", "test": "shop-test.jsonl"}
    (task,) = load_tasks({"shop": {"task": "shop.yaml", "data_files": data}}).values()
    assert len(task.items("search")) + len(task.items("selection")) == 200
    assert len(task.items("report")) == 200
    assert task.prompt(task.items("search")[0]).startswith("Question: Cups cost $")


def test_the_method_merges(files):
    import median

    assert isinstance(METHODS["median"], median.Median)
    base = torch.tensor([1.0, 1.0, 1.0])
    experts = {
        "a": torch.tensor([2.0, 0.0, 1.0]),
        "b": torch.tensor([3.0, 1.0, 9.0]),
        "c": torch.tensor([9.0, 3.0, 1.0]),
    }
    assert merge_tensors("median", base, experts, {}, {"lambda": 0.5}).tolist() == [2.0, 1.0, 1.0]


def test_the_optimizer_learns_and_repeats_itself(files):
    import climber

    def best(seed):
        optimizer = climber.HillClimber(Problem(box(4), quadratic_objectives(), seed=seed))
        return max(quadratic(p.vector)[0] for p in drive(optimizer, 150, quadratic))

    random = np.median([max(quadratic(u)[0] for u in np.random.default_rng(s).random((150, 4))) for s in range(5)])
    assert np.median([best(seed) for seed in range(5)]) > random
    first, second = (climber.HillClimber(Problem(box(4), quadratic_objectives(), seed=1)) for _ in range(2))
    drive(first, 40, quadratic)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert first.ask(3) == second.ask(3)


def quadratic_objectives():
    from evomerge.optimizers import Objective

    return [Objective("t")]


# ---- whole pages, small ----------------------------------------------------------------------------------------------


def follow(page: SmallPage, path: Path) -> dict[str, str]:
    """Follow a page; returns what each command printed.

    From searches as small as these nothing can be predicted: the recipe that is asked for is the best one's.
    """
    said = {}
    for step in steps(path):
        if isinstance(step, Block):
            page.write(step)
        elif "--predicted" in step.text:
            (best,) = page.folder.glob("runs/*/best/recipe.yaml")
            shutil.copy(best, page.folder / "wanted.yaml")
        elif reason(step) is None:
            said[step.text] = page.run(step)
    return said


@pytest.mark.slow
def test_the_guide(tmp_path, monkeypatch):
    said = follow(SmallPage(tmp_path, monkeypatch), GUIDE)
    assert {"README.md", "config.json", "recipe.yaml"} <= set(said["ls guide-model"].split())
    assert "library_name: transformers" in said["head -n 40 guide-model/README.md"]
    assert (tmp_path / "seeds.html").exists()


@pytest.mark.slow
def test_extending(tmp_path, monkeypatch, registries):
    said = follow(SmallPage(tmp_path, monkeypatch), EXTENDING)
    assert any("shop" in text and " 3 " in text for text in said.values()), "three items were evaluated"
    assert evomerge.Run.open("runs/median").recipe().method == "median"
    assert evomerge.Run.open("runs/climber").config["optimizer"]["name"] == "climber"
    assert (tmp_path / "median-merge" / "config.json").exists()


@pytest.mark.slow
def test_api(tmp_path, monkeypatch, capsys):
    page = SmallPage(tmp_path, monkeypatch)
    for block in blocks(API, "python"):
        assert block.name, f"api.md:{block.line}: its first line should name a file"
        page.write(block)
        exec(compile(block.text, block.name, "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out
    assert "<Run runs/two-experts: 3 candidates scored" in said
    assert "won " in said
    assert (tmp_path / "notebook-model" / "README.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_WITH_STAND_INS)
def test_pages_about_the_readers_own_models(name, tmp_path, monkeypatch):
    page = SmallPage(tmp_path, monkeypatch)
    path = HOME / name if name == "README.md" else HOME / "docs" / name
    for command in commands(path):
        if reason(command) is None:
            text = command.text
            for own, stand_in in RUN_WITH_STAND_INS[name].items():
                text = text.replace(own, stand_in)
            if "--predicted" not in text:
                page.run(command, text)


# ---- the guide, word for word ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_guide_word_for_word(tmp_path):
    """As a newcomer follows it, in one shell; only what needs a network, a hub or vLLM is left out."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in {"evomerge": "evomerge.cli", "lm_eval": "lm_eval", "python": ""}.items():
        call = f"-m {module}" if module else ""
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {call} "$@"\n')
        (programs / name).chmod(0o755)
    script = []
    for step in steps(GUIDE):
        if isinstance(step, Block):
            script.append(f"cat > {step.name} <<'END_OF_FILE'\n{step.text}END_OF_FILE")
        elif reason(step) is None:
            script.append(step.text)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": f"{HOME}:{os.environ.get('PYTHONPATH', '')}",
    }
    done = subprocess.run(
        ["bash", "-euxc", "\n".join(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
    for file in ("runs/guide-map-seed0/report.html", "wanted.yaml", "guide-model/README.md", "seeds.html"):
        assert (tmp_path / file).exists(), file
    assert evomerge.Run.open(tmp_path / "runs/guide-map-seed0").trials.kind.value_counts()["candidate"] == 36
