"""The training script, run as a user runs it, on a few steps."""

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from evomerge.zoo import MODELS

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_zoo.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_quick_run_makes_a_zoo_and_a_second_run_goes_on(tmp_path: Path) -> None:
    quick = ("--quick", "--out", str(tmp_path), "--threads", "1", "--device", "cpu")
    first = run(*quick)
    assert first.returncode == 0, first.stderr
    for name in MODELS:
        AutoModelForCausalLM.from_pretrained(tmp_path / "models" / name)
    before = (tmp_path / "models/math/model.safetensors").read_bytes()
    again = run(*quick)
    assert again.stdout.count("done before") == 5
    assert (tmp_path / "models/math/model.safetensors").read_bytes() == before


def test_quick_refuses_to_overwrite_the_shipped_zoo() -> None:
    done = run("--quick")
    assert done.returncode == 2
    assert "--quick needs --out" in done.stderr
