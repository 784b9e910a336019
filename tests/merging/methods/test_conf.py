"""The ready-made spaces of conf/method name what their methods have, within its bounds."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.merging.methods import METHODS, Parameter, get

_FILES = sorted((Path(__file__).parents[3] / "conf" / "method").glob("*.yaml"))


def _values(given: Any) -> list[Any]:
    """The values that an entry of a space can take: its bounds, its choices, or itself."""
    if not isinstance(given, dict):
        return [given]
    return given.get("choices", [given[key] for key in ("low", "high") if key in given])


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_names_and_bounds_are_the_methods(path: Path) -> None:
    space = yaml.safe_load(path.read_text())
    methods = [get(name) for name in space["methods"]]
    assert path.stem == "any" or [method.name for method in methods] == [path.stem]
    for kind in ("parameters", "options"):
        known: dict[str, Parameter] = {p.name: p for method in methods for p in getattr(method, kind)}
        for name, given in space[kind].items():
            for value in _values(given):
                number = float(value) if isinstance(value, int) and not isinstance(value, bool) else value
                assert known[name].refusal(number) is None


def test_every_method_with_something_to_search_has_a_space() -> None:
    nothing = {"karcher", "model_stock", "ram", "passthrough", "metrics_weighted"}
    assert {path.stem for path in _FILES} == (set(METHODS) - nothing) | {"any"}
