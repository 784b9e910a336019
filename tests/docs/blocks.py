"""What the documentation tells people to type: the commands and files in README.md and docs/*.md, as they stand."""

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HOME = Path(__file__).parents[2]
PAGES = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))]

#: What a command begins with, in blocks that are only indented.
_PROGRAMS = re.compile(r"(evomerge|python3?|pip|bash|pytest|git|[A-Z_]+=\S+) ")
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`(evomerge [^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block: the page, the line of its first line, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """The file that its first line says it is; "" if it says none."""
        match = re.match(r"(?:#|//) (\S+\.\w+)\n", self.text)
        return match[1] if match else ""


@dataclass(frozen=True)
class Command:
    """A command that a page shows: what a person types at one prompt."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}: {self.text}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, of some languages (none named: of all)."""
    text = page.read_text(encoding="utf-8")
    found = [Block(page, text.count("\n", 0, match.start()) + 2, match[2], match[3]) for match in _FENCE.finditer(text)]
    return [block for block in found if not languages or block.language in languages]


def commands(page: Path) -> list[Command]:
    """All commands of a page, in bash blocks and in indented ones, in order."""
    found = [command for block in blocks(page, "bash", "sh", "console") for command in commands_of(block)]
    lines = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text(encoding="utf-8")).splitlines()
    indented = [(number, line[4:]) for number, line in enumerate(lines, start=1) if re.match(r"    \S", line)]
    found += [Command(page, number, line.strip()) for number, line in indented if _PROGRAMS.match(line)]
    return sorted(found, key=lambda command: command.line)


def commands_of(block: Block) -> list[Command]:
    """The commands of a bash block: lines are joined until bash takes them for whole commands."""
    found, start, text = [], block.line, ""
    for number, line in enumerate(block.text.splitlines(), start=block.line):
        if not text:
            start = number
        text = f"{text}\n{line}" if text else line
        if not text.strip() or text.strip().startswith("#"):
            text = ""
        elif not line.endswith("\\") and _is_whole(text):
            found.append(Command(block.page, start, text.strip()))
            text = ""
    assert not text, f"{block.page.name}:{start}: this does not end: {text}"
    return found


def spans(page: Path) -> list[Command]:
    """Commands of evomerge in running text."""
    text = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text(encoding="utf-8"))
    return [
        Command(page, text.count("\n", 0, match.start()) + 1, " ".join(match[1].split()))
        for match in _SPAN.finditer(text)
    ]


@cache
def _is_whole(text: str) -> bool:
    return subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False).returncode == 0
