"""Where the configuration files are (checkout, editable install, wheel), and what is wrong with an override.

This file knows nothing about what the configuration says.
"""

import re
from pathlib import Path

import evomerge
from evomerge.errors import WorkError, nearest


def conf_dir() -> Path:
    """Return the folder of Hydra groups: inside the package (wheel), else beside it (checkout, editable install)."""
    package = Path(evomerge.__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise WorkError(f"the configuration folder conf/ is missing beside {package}; reinstall evomerge")


#: Sections that hold only what a user puts there.
EMPTY = ("objectives",)


def explain_override(error: Exception) -> str:
    """Turn an error of Hydra or OmegaConf about an override into one line that names the nearest known word."""
    text = str(error)
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    if match := re.search(r"Could not override '([^']+)'", text):
        section = match[1].split(".")[0]
        if section in EMPTY:
            return f"configuration: {section} is empty unless you fill it; write '+{match[1]}=...', with a plus"
        return f"unknown configuration key {match[1]!r}; {nearest(match[1], _known_keys())}"
    if match := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group = conf_dir() / match[1]
        options = [path.stem for path in group.glob("*.yaml")]
        return f"{match[1]}={match[2]}: there is no such file in {group}; {nearest(match[2], options)}"
    if match := re.search(r"Could not override '([^']+)'|No match in the defaults list|Could not find", text):
        return first
    return f"configuration: {first}"


def _known_keys() -> list[str]:
    """Every dotted key of the default configuration, and the group names."""
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

    return walk(data, "")
