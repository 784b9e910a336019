"""What may follow in a Hydra override: groups and their choices, keys of the composed configuration, level by level.

Read from the files of conf/ as they are, without Hydra, since a shell asks at every press of a key. This file knows
nothing about shells.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

#: The flags of `evomerge search` that Hydra reads.
FLAGS = ("-m", "--multirun", "-h", "--help", "--cfg", "--resolve", "--info", "--config-dir")


def override_words(word: str, others: Sequence[str], conf: Path) -> list[str]:
    """Return what the override `word` may become, beside the overrides that are there already.

    A word that ends in `=`, `.` or `:` is to be gone on with. Of `a=x,y` (a sweep) the last value is completed.
    """
    if word.startswith("-"):
        return [flag for flag in FLAGS if flag.startswith(word)]
    sign = re.match(r"~|\+{0,2}", word)
    mark = sign[0] if sign else ""
    key, equals, value = word[len(mark) :].partition("=")
    groups = {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in conf.iterdir() if path.is_dir()}
    tree = _compose(conf, groups, others)
    if equals:
        before, comma, last = value.rpartition(",")
        return [f"{mark}{key}={before}{comma}{found}" for found in _values(key, groups, tree) if found.startswith(last)]
    section, dot, _ = key.rpartition(".")
    node = _at(tree, section)
    names = [
        f"{section}{dot}{name}{'.' if isinstance(child, Mapping) and child else '='}" for name, child in node.items()
    ]
    if not section:
        names += [f"{group}=" for group in groups]
    if mark == "~":
        names = [name.rstrip("=." if section else "=") for name in names]
    return sorted({mark + name for name in names if name.startswith(key)})


def _values(key: str, groups: Mapping[str, Sequence[str]], tree: Mapping[str, Any]) -> Sequence[str]:
    if key in groups:
        return groups[key]
    section, _, name = key.rpartition(".")
    if key == "models.base" or section == "models.experts":
        from evomerge.zoo import MODELS

        return [f"zoo:{model}" for model in MODELS]
    return ["true", "false"] if isinstance(_at(tree, section).get(name), bool) else []


def _at(tree: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    node: Any = tree
    for name in section.split(".") if section else []:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else {}


def _compose(conf: Path, groups: Mapping[str, Sequence[str]], others: Sequence[str]) -> dict[str, Any]:
    """Return about what Hydra would compose: the main file, the chosen file of each group, `key=` of the user's own."""
    main = _read(conf / "config.yaml")
    chosen = _choices(main)
    own = dict(word.lstrip("+").split("=", 1) for word in others if "=" in word)
    picked = {group: own[group].split(",")[0] for group in groups if group in own}
    for group, name in picked.items():  # an experiment chooses for others
        chosen |= _choices(_read(conf / group / f"{name}.yaml"))
    tree: dict[str, Any] = {}
    for group, name in {**chosen, **picked}.items():
        file = conf / group / f"{name}.yaml"
        if group not in groups or not file.is_file():
            continue
        package = re.search(r"^# @package (\S+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        place = package[1] if package else group
        content = _read(file)
        _join(tree, content if place == "_global_" else {place: content})
    _join(tree, main)
    tree.pop("defaults", None)
    tree.pop("hydra", None)
    return tree


def _choices(content: Mapping[str, Any]) -> dict[str, str]:
    """Return group -> file of a defaults list."""
    found: dict[str, str] = {}
    for entry in content.get("defaults", []):
        if isinstance(entry, Mapping):
            found |= {key.removeprefix("override ").lstrip("/"): str(value) for key, value in entry.items()}
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _join(tree: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _join(tree[key], value)
        elif isinstance(value, Mapping):
            tree[key] = {}
            _join(tree[key], value)
        else:
            tree[key] = value
