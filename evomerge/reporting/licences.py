"""What the licences of a merge's parents mean for its card. Nothing is guessed, and this is no legal advice.

A merged model is made from all its parents. Its card names a licence only where every parent's own card names that
same one; else it says `unknown` (a parent names none) or `other` (they differ), and what a person has to look into.
This file knows names of licences, not models.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.doctor.licences import read_card, read_licence, terms

_DETAILS = ("license_name", "license_link")
_WARNINGS = {
    "non-commercial": "forbids commercial use",
    "share-alike": "asks for derived works under its own terms",
    "own terms": "has terms of its own (names, uses, notices): read them",
}


@dataclass(frozen=True)
class Licence:
    """What one model says about its licence.

    Attributes:
        name: as a person reads it; None: it names none.
        source: the file that says so; None: none does.
        declared: `license` and what goes with it in the head of its card; empty if the card names none.
    """

    name: str | None
    source: str | None
    declared: Mapping[str, str]

    @classmethod
    def read(cls, directory: Path) -> "Licence":
        """Read what a model directory says; a card that says `unknown` names none."""
        card = read_card(directory)
        name = read_licence(directory, card)
        if name in (None, "unknown"):
            return cls(None, None, {})
        return cls(name, "README.md" if card.get("license") else "LICENSE", _declared(card))


def _declared(card: Mapping[str, Any]) -> dict[str, str]:
    if not isinstance(card.get("license"), str) or not card["license"]:
        return {}
    return {"license": card["license"]} | {key: card[key] for key in _DETAILS if isinstance(card.get(key), str)}


def head(licences: Sequence[Licence]) -> dict[str, str]:
    """Return what the head of the merged model's card says: the one licence that all parents' cards name, or no more.

    `other` alone is no licence: it counts as one only where all give it the same name.
    """
    if not licences or any(licence.name is None for licence in licences):
        return {"license": "unknown"}
    first = licences[0].declared
    same = all(licence.declared == first for licence in licences)
    if same and first and (first["license"] != "other" or "license_name" in first):
        return dict(first)
    return {"license": "other"}


def warnings(licences: Mapping[str, Licence]) -> list[str]:
    """Return what a person has to look into before the merged model is used or published, a line each.

    Args:
        licences: name of a model, as a person knows it -> its licence.
    """
    lines = []
    silent = [model for model, licence in licences.items() if licence.name is None]
    if silent:
        lines.append(f"{_some(silent)} {'names' if len(silent) == 1 else 'name'} no licence: ask or look it up")
    names = Counter(licence.name for licence in licences.values() if licence.name)
    if len(names) > 1:
        lines.append(
            "the licences differ, and may not allow one model made from all: "
            + ", ".join(f"{model} {licence.name}" for model, licence in licences.items() if licence.name)
        )
    for name in names:
        meaning = _WARNINGS.get(terms(name))
        if meaning:
            lines.append(f"{name} ({_some([m for m, licence in licences.items() if licence.name == name])}) {meaning}")
    return lines


def _some(models: Sequence[str]) -> str:
    return models[0] if len(models) == 1 else f"{', '.join(models[:-1])} and {models[-1]}"
