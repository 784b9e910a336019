"""What the last word of an unfinished command line may become. This file knows nothing about shells."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from evomerge.cli.hydra_words import override_words

#: Stands for the names of files, which the shell knows better.
FILES = "<files>"


def suggest(words: Sequence[str], commands: Mapping[str, argparse.ArgumentParser], conf: Path) -> list[str]:
    """Return what the last of `words` (those after `evomerge`) may become; `FILES` among them where a path may stand.

    Args:
        words: the words so far; the last is the one being written, and may be empty.
        commands: the parser of each command.
        conf: the folder of Hydra's groups.
    """
    *before, word = words
    if not before:
        return [name for name in [*commands, "--help", "--version"] if name.startswith(word)]
    command, *given = before
    if command not in commands:
        return []
    if command == "search":
        return override_words(word, given, conf)
    options = {name: action for action in commands[command]._actions for name in action.option_strings}
    if given and given[-1] in options and options[given[-1]].nargs != 0:
        return _values(options[given[-1]], word, given, conf)
    if word.startswith("-"):
        return [name for name in options if name.startswith(word) and name.startswith("--")]
    positional = [action for action in commands[command]._actions if not action.option_strings]
    if not positional:
        return []
    place = sum(
        not one.startswith("-") and not (i and given[i - 1] in options and options[given[i - 1]].nargs != 0)
        for i, one in enumerate(given)
    )
    return _values(positional[min(place, len(positional) - 1)], word, given, conf)


def _values(action: argparse.Action, word: str, given: Sequence[str], conf: Path) -> list[str]:
    """Return what an argument's value may be, told from its choices or from the name of its place."""
    place = str(action.metavar or action.dest)
    if action.choices is not None:
        known = [str(choice) for choice in action.choices]
    elif place == "HYDRA_OVERRIDE":
        return override_words(word, given, conf)
    elif place == "TASK=WEIGHT":
        known = [f"{task}=" for task in _tasks_of(given)]
    elif place == "tasks":
        before, comma, _ = word.rpartition(",")
        known = [f"{before}{comma}{task}" for task in _tasks(conf)]
    elif place == "pick":
        known = ["best", "knee"]
    elif place == "NAME":
        known = _zoo()
    elif "MODEL" in place:
        known = [*(f"zoo:{name}" for name in _zoo()), FILES]
    elif any(mark in place for mark in ("DIR", "FILE", "yaml")):
        return [FILES]
    else:
        known = []
    return [value for value in known if value == FILES or value.startswith(word)]


def _zoo() -> list[str]:
    from evomerge.zoo import MODELS

    return list(MODELS)


def _tasks(conf: Path) -> list[str]:
    names: dict[str, None] = {}
    for file in sorted((conf / "tasks").glob("*.yaml")):
        names |= dict.fromkeys(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    return sorted(names)


def _tasks_of(given: Sequence[str]) -> list[str]:
    """Return the tasks of the first run directory among the words."""
    for word in given:
        try:
            return list(yaml.safe_load((Path(word) / "config.yaml").read_text(encoding="utf-8"))["tasks"])
        except (OSError, yaml.YAMLError, KeyError, TypeError):
            continue
    return []
