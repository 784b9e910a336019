"""Every command in README.md and docs/*.md is one that exists, and is run by a test or says here why not."""

import re
import shlex

import pytest

from evomerge.cli.entry import build_parser
from evomerge.config import compose
from evomerge.errors import UsageError
from evomerge.search.config import SearchConfig
from tests.docs.blocks import HOME, PAGES, Command, blocks, commands, spans
from tests.docs.not_run import NOT_RUN, reason
from tests.docs.pages import RUN_WHOLE, RUN_WITH_STAND_INS, words_of

ALL = [pytest.param(command, id=f"{page.name}:{command.line}") for page in PAGES for command in commands(page)]
SEARCHES = [each for each in ALL if each.values[0].text.startswith("evomerge search")]
INLINE = [pytest.param(span, id=f"{page.name}:{span.line}") for page in PAGES for span in spans(page)]


@pytest.mark.parametrize("command", ALL)
def test_every_command_is_run_by_a_test_or_says_why_not(command):
    is_run = command.page.name in (*RUN_WHOLE, *RUN_WITH_STAND_INS)
    assert is_run or reason(command), f"{command}: no test runs it: see tests/docs/pages.py and not_run.py"


def test_reasons_that_no_command_needs_are_gone():
    used = {reason(command) for page in PAGES for command in commands(page)}
    assert [why for _, _, why in NOT_RUN if why not in used] == []


@pytest.mark.parametrize("command", [*ALL, *INLINE])
def test_commands_name_what_exists(command):
    words = plain_words(command)
    for word in words:
        if re.fullmatch(r"scripts/\S+\.(py|sh)", word):
            script = HOME / word
            assert script.is_file(), f"{command}: there is no {word}"
            for option in re.findall(r"--[a-z-]+", " ".join(words)):
                assert word.endswith(".sh") or f'"{option}"' in script.read_text(), f"{command}: {option}"
    if words[:1] == ["evomerge"]:
        check_evomerge(command, words[1:])


@pytest.mark.parametrize("command", SEARCHES)
def test_searches_in_the_docs_can_be_composed(command):
    """Groups, keys and values are right; the models and data that they name need not be here."""
    prelude = [c.text for c in commands(command.page) if c.line < command.line and re.match(r"[A-Z]+=", c.text)]
    words = [word for word in words_of(prelude, command.text)[2:] if word != "-m" and "..." not in word]
    swept = [word.partition(",")[0] if re.fullmatch(r"[a-z_.]+=[^\[{]+,.*", word) else word for word in words]
    SearchConfig.from_dict(compose(swept)[0])


@pytest.mark.parametrize(
    "block", [pytest.param(b, id=f"{p.name}:{b.line}") for p in PAGES for b in blocks(p, "python")]
)
def test_python_compiles(block):
    compile(block.text, f"{block.page.name}:{block.line}", "exec")


def check_evomerge(command: Command, words: list[str]) -> None:
    """The subcommand exists, and so do its options."""
    parser, names = build_parser()
    subcommand, *rest = words
    if subcommand in ("COMMAND", "--help", "--version"):
        return
    assert subcommand in names, f"{command}: there is no evomerge {subcommand}"
    if subcommand == "search":
        return
    subparsers = next(action for action in parser._actions if hasattr(action, "choices") and action.choices)
    known = subparsers.choices[subcommand]._option_string_actions
    for word in rest:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{command}: evomerge {subcommand} has no {word}"


def plain_words(command: Command) -> list[str]:
    """The words of a command as they stand, without what a comment says."""
    return shlex.split(command.text.replace("\\\n", " "), comments=True)


def test_a_wrong_word_would_be_found():
    page = PAGES[0]
    with pytest.raises(AssertionError, match="no evomerge exprot"):
        check_evomerge(Command(page, 1, "evomerge exprot"), ["exprot"])
    with pytest.raises(AssertionError, match="has no --prefers"):
        check_evomerge(Command(page, 1, "evomerge front"), ["front", "RUN", "--prefers", "a=1"])
    with pytest.raises(UsageError):
        compose(["optimizer=cmase"])
