"""Runs what a page tells people to type, in the order of the page: in this process with small budgets, for speed, or
word for word in a shell.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import evomerge.api
from evomerge.config import compose
from tests.docs.blocks import Block, Command, blocks, commands_of
from tests.search.runs import here

#: Pages all of whose commands and files are run, in order, in one folder.
RUN_WHOLE = ("guide.md", "extending.md", "api.md")

#: Pages whose commands are run with other names put in for those that stand for the reader's own.
RUN_WITH_STAND_INS = {
    "README.md": {
        "org/base@revision": "zoo:base",
        "org/math": "zoo:math",
        "/local/dir": "zoo:code",
        "'tasks=[gsm8k,mbpp]'": "tasks=zoo '~tasks.zoo_translate'",
        "gsm8k": "zoo_math",
        "mbpp": "zoo_code",
    },
    "optimizers.md": {
        "evomerge search": "evomerge search hydra.run.dir=RUN evaluation.allow_code_execution=true",
        "'tasks=[gsm8k,mbpp]'": "tasks=zoo '~tasks.zoo_translate'",
        "gsm8k": "zoo_math",
        "mbpp": "zoo_code",
    },
}

#: What makes a search small; put behind the words of the page.
SMALL = [
    *("items={search: 6, selection: 4, report: 4}", "budget.candidates=3", "baselines.grid=[0.5]"),
    *("baselines.untuned=[]", "selection.finalists=1", "selection.front=1", "evaluation.batch_size=16"),
]


def words_of(prelude: list[str], text: str, cwd: Path | None = None) -> list[str]:
    """The words that bash makes of a command, after the assignments in `prelude`."""
    script = "\n".join([*prelude, f"printf '%s\\0' {text}"])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=cwd, env=environment, check=True)
    return done.stdout.split("\0")[:-1]


class SmallPage:
    """A folder in which a page is followed in this process: searches are small, the rest is as it stands."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._prelude = folder, list[str]()
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr(evomerge.api, "compose", lambda overrides: compose([*overrides, *SMALL]))

    def write(self, block: Block) -> Path:
        """Write the file that a block says it is."""
        (self.folder / block.name).write_text(block.text)
        return self.folder / block.name

    def run(self, command: Command, text: str | None = None) -> str:
        """Run a command, with another text where one is given; returns what it prints."""
        text = command.text if text is None else text
        if text[0].isupper():
            self._prelude.append(text)
            return ""
        words = words_of(self._prelude, text, self.folder)
        if words[0] == "python":
            runpy.run_path(words[1], run_name="__main__")
            return ""
        if words[0] != "evomerge":
            words = [sys.executable, "-m", *words] if words[0] == "lm_eval" else words
            return subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=True).stdout
        if "--help" in words:  # ends the process that asks
            module = [sys.executable, "-m", "evomerge.cli", *words[1:]]
            return subprocess.run(module, capture_output=True, text=True, check=True).stdout
        done = here(*words[1:], *_smaller(words[1]))
        assert done.returncode == 0, f"{command}\n{done.stderr}{done.stdout}"
        return done.stdout


def _smaller(subcommand: str) -> list[str]:
    """Return the words that make a command small; the last of two that say the same counts."""
    return {"search": SMALL, "plan": [*SMALL, "--seconds", "5"], "evaluate": ["--limit", "3"]}.get(subcommand, [])


def steps(page: Path) -> list[Block | Command]:
    """The files and commands of a page, in order."""
    found: list[Block | Command] = []
    for block in blocks(page):
        if block.language == "bash":
            found += commands_of(block)
        elif block.name:
            found.append(block)
    return found
