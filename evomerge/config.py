"""Where the configuration files are (checkout, editable install, wheel), what overrides make of them outside of Hydra's
own program, and what is wrong with an override.

This file knows nothing about what the configuration says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import evomerge
from evomerge.errors import UsageError, WorkError, nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


def conf_dir() -> Path:
    """Return the folder of Hydra groups: inside the package (wheel), else beside it (checkout, editable install)."""
    package = Path(evomerge.__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise WorkError(f"the configuration folder conf/ is missing beside {package}; reinstall evomerge")


def compose(overrides: Sequence[str]) -> tuple[dict[str, Any], Path]:
    """Return the configuration that `evomerge search OVERRIDES` would have, as plain data, and its run directory.

    Raises `UsageError` for an override that Hydra refuses.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = hydra_compose("config", list(overrides), return_hydra_config=True)
            directory = Path(composed.hydra.run.dir)
            own = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
            return cast(dict[str, Any], OmegaConf.to_container(own, resolve=True)), directory
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain_override(error)) from None


def parse_overrides(words: Sequence[str]) -> dict[str, Override]:
    """Return word -> what Hydra reads in it; `UsageError` for one that it cannot read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return dict(zip(words, OverridesParser.create().parse_overrides(list(words)), strict=True))
    except HydraException as error:
        raise UsageError(explain_override(error)) from None


#: Sections that hold only what a user puts there.
EMPTY = ("objectives", "space.options", "tracker.options", "evaluation.vllm")


def explain_override(error: Exception) -> str:
    """Turn an error of Hydra or OmegaConf about an override into one line that names the nearest known word."""
    text = str(error)
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    if match := re.search(r"Could not override '([^']+)'", text):
        # of a mapping (`items={serch: 4}`) the cause says which of its keys is unknown
        inner = re.search(r"full_key: (\S+)", str(error.__cause__))
        key = inner[1] if inner else match[1]
        if key.startswith("hydra.launcher."):
            return f"{key}: no such key; what else sbatch has: +hydra.launcher.additional_parameters.NAME=VALUE"
        empty = [section for section in EMPTY if f"{key}.".startswith(f"{section}.")]
        if empty:
            return f"configuration: {empty[0]} is empty unless you fill it; write '+{match[1]}=...', with a plus"
        return f"unknown configuration key {key!r}; {_nearest_key(key)}"
    if match := re.search(r"Could not delete from config. '([^']+)' does not exist", text):
        return f"~{match[1]}: there is no such key; {_nearest_key(match[1])}"
    if match := re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", text):
        if match[1] == "hydra/launcher":
            hint = nearest(match[2], re.findall(r"^\t(\w+)$", text, re.MULTILINE))
            return f"hydra/launcher={match[2]}: no such launcher here; {hint} (Slurm: pip install 'evomerge[cluster]')"
        group = conf_dir() / match[1]
        options = [path.stem for path in group.glob("*.yaml")]
        return f"{match[1]}={match[2]}: there is no such file in {group}; {nearest(match[2], options)}"
    if match := re.search(r"Error parsing override '(.+)'\nmissing EQUAL", text):
        return f"{match[1]!r} is no override; write key=value (evomerge search --help lists the keys)"
    if match := re.search(r"no viable alternative at input '(.+)'", text):
        return f"{match[1]!r} cannot be read; is a bracket or a quote missing?"
    if match := re.search(r"Ambiguous value for argument '(.+)'", text):
        return f"{match[1]}: several values are a sweep, evomerge search -m ...; a list is written key=[a,b]"
    return f"configuration: {first}"


def _nearest_key(key: str) -> str:
    """Return a hint for an unknown key: the nearest known one, else the keys beside which it should stand."""
    known = _known_keys()
    hint = nearest(key, known)
    if hint.startswith("did"):
        return hint
    section = key.rpartition(".")[0]
    beside = [one for one in known if one.rpartition(".")[0] == section]
    return nearest(key, beside or [one for one in known if "." not in one])


def _known_keys() -> list[str]:
    """Every dotted key of the default configuration, and the names of the groups."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        data = OmegaConf.to_container(compose("config"), resolve=False)

    def walk(node: object, prefix: str) -> list[str]:
        if not isinstance(node, dict):
            return [prefix]
        return [prefix] * bool(prefix) + [
            key for name, child in node.items() for key in walk(child, f"{prefix}.{name}" if prefix else str(name))
        ]

    return sorted({*walk(data, ""), *(path.name for path in conf_dir().iterdir() if path.is_dir())})
