"""An installed evomerge, not a checkout: the wheel holds configuration, tasks and zoo, and works from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_works_from_any_folder(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path / "wheel"), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "wheel").glob("evomerge-*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--target", str(site), str(wheel)]
    subprocess.run(install, capture_output=True, check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", "import sys; from evomerge.cli import main; sys.exit(main())", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=elsewhere, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("zoo", "base").strip().startswith(str(site)), "the installed package, not the checkout"
    assert "candidates: 50" in run("search", "--cfg", "job", "experiment=quickstart")
    assert "zoo_math" in run("evaluate", "zoo:base", "--tasks", "zoo_math", "--limit", "2")
