"""Help that teaches: every command explains itself with examples, and the examples are commands that parse."""

import shlex

import pytest

from evomerge.cli.entry import build_parser
from tests.search.runs import evomerge, here

_, COMMANDS = build_parser()


def examples(name):
    text = COMMANDS[name].format_help()
    assert "examples:" in text
    return [line.strip() for line in text.split("examples:")[1].splitlines() if line.strip()]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_parse(name):
    parser, _ = build_parser()
    lines = examples(name)
    assert lines
    for line in lines:
        if line.startswith("eval"):
            line = line.split("$(")[1].split(")")[0]
        words = shlex.split(line.split(" > ")[0])
        assert words[:2] == ["evomerge", name]
        if name != "search":  # whose words are Hydra's
            parser.parse_args(words[1:])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name):
    silent = [action.dest for action in COMMANDS[name]._actions if action.option_strings and not action.help]
    assert not silent


def test_the_first_help_names_every_command_and_a_way_to_begin():
    text = build_parser()[0].format_help()
    for name in COMMANDS:
        assert f"\n    {name}" in text
    assert "evomerge search experiment=quickstart" in text


def test_help_of_search_teaches_too():
    done = evomerge("search", "--help")
    assert done.returncode == 0
    for words in ("examples:", "experiment=quickstart", "optimizer: bayesian_map", "candidates: 100", "completion"):
        assert words in done.stdout


@pytest.mark.parametrize("words", [["front"], ["zoo", "--nonsense"], ["export", "a"], ["completion", "tcsh"]])
def test_a_wrong_word_is_one_line_that_points_to_the_help(words):
    done = here(*words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"evomerge {words[0]} --help" in done.stderr or "--help" in done.stderr


def test_the_zoo_says_what_comes_next():
    assert "next: evomerge search experiment=quickstart" in here("zoo").stdout
