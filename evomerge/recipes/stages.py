"""Coarse to fine: a search that begins in a small space and goes on in larger ones.

    granularity: global
    refine:
      - {granularity: 4}
      - {granularity: layer, share: 0.4}
      - {parameters: {drop_rate: {granularity: layer}}}

Each entry of `refine` says what its stage changes in the space of the stage before, and which share of the budget it
has; what is left is divided equally between the first stage and those that say nothing. An entry of `parameters` or
`options` that only divides (granularity, split, own) keeps the bounds; any other takes the old one's place. This file
knows nothing about models; whether the points of one stage lie in the next is for `SearchSpace.vector` to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.errors import UsageError, refuse_unknown
from evomerge.recipes.space import DIVIDING

_REFINE = "refine"
_SHARE = "share"
_NESTED = ("parameters", "options")


@dataclass(frozen=True)
class Stage:
    """One stage of a search: the configuration of its space, and its share of the budget, above 0."""

    config: Mapping[str, Any]
    share: float


def stages(config: Mapping[str, Any]) -> list[Stage]:
    """Return the stages of a search in the space of a configuration, coarse first; one where nothing is refined.

    The shares sum to 1. Raises `UsageError` for keys that a stage cannot change, and for shares that leave nothing.
    """
    first = {key: value for key, value in config.items() if key != _REFINE}
    entries = config.get(_REFINE) or []
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise UsageError(f"space.{_REFINE}: write a list of what each later stage changes, not {entries!r}")
    configs = [first]
    for number, entry in enumerate(entries):
        configs.append(_refined(configs[-1], entry, f"space.{_REFINE}.{number}"))
    given = [entry.get(_SHARE) for entry in entries]
    left = 1.0 - sum(share for share in given if share is not None)
    if left < 1e-9:
        raise UsageError(f"space.{_REFINE}: the shares leave nothing for the other stages; their sum must be below 1")
    equal = left / (1 + given.count(None))
    shares = [equal, *(equal if share is None else float(share) for share in given)]
    return [Stage(data, share) for data, share in zip(configs, shares, strict=True)]


def _refined(before: Mapping[str, Any], entry: Any, where: str) -> dict[str, Any]:
    """Return the configuration of a stage from that of the stage before."""
    if not isinstance(entry, Mapping):
        raise UsageError(f"{where}: write what the stage changes, as in {{granularity: layer}}, not {entry!r}")
    refuse_unknown(entry, (*DIVIDING, *_NESTED, _SHARE), where)
    share = entry.get(_SHARE, 0.5)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 < share < 1.0:
        raise UsageError(f"{where}.{_SHARE}: {share!r} must lie above 0 and below 1, or be left out")
    if not set(entry) - {_SHARE}:
        raise UsageError(f"{where}: changes nothing; give it one of {', '.join((*DIVIDING, *_NESTED))}")
    after = {**before, **{key: value for key, value in entry.items() if key in DIVIDING}}
    for section in _NESTED:
        changes = entry.get(section) or {}
        if not isinstance(changes, Mapping):
            raise UsageError(f"{where}.{section}: expected a mapping, not {changes!r}")
        old = before.get(section) or {}
        new = {name: _entry(old.get(name), change) for name, change in changes.items()}
        if new:
            after[section] = {**old, **new}
    return after


def _entry(old: Any, change: Any) -> Any:
    """Return the entry of a parameter: the old one divided otherwise, or the new one."""
    divides = isinstance(change, Mapping) and change and set(change) <= set(DIVIDING)
    return {**old, **change} if divides and isinstance(old, Mapping) else change
