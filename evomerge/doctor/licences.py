"""Which licence a model says it has, and whether its terms deserve a look before merging. No legal advice.

A merged model is made from all its parents, so the terms of each matter. This file knows names of licences, not models.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

Terms = Literal["non-commercial", "share-alike", "own terms", "permissive", "unknown"]

_NON_COMMERCIAL = re.compile(r"(^|[^a-z])nc([^a-z]|$)|non-?commercial|research-only|academic")
_SHARE_ALIKE = re.compile(r"(^|[^a-z])sa([^a-z]|$)|gpl|share-?alike|^(eupl|osl|ms-rl|mpl|cecill)")
_PERMISSIVE = re.compile(
    r"^(apache|mit$|bsd|isc$|zlib|unlicense|wtfpl|cc0|cc-by-\d|cc-by$|cdla-permissive|afl|artistic|ncsa|postgresql|odc-by)"
)
# Phrases near the start of a licence file, most particular first.
_FILES = (
    ("Attribution-NonCommercial-ShareAlike", "cc-by-nc-sa"),
    ("Attribution-NonCommercial-NoDerivatives", "cc-by-nc-nd"),
    ("Attribution-NonCommercial", "cc-by-nc"),
    ("Attribution-ShareAlike", "cc-by-sa"),
    ("Attribution 4.0 International", "cc-by-4.0"),
    ("GNU AFFERO GENERAL PUBLIC LICENSE", "agpl"),
    ("GNU LESSER GENERAL PUBLIC LICENSE", "lgpl"),
    ("GNU GENERAL PUBLIC LICENSE", "gpl"),
    ("Apache License", "apache-2.0"),
    ("MIT License", "mit"),
)
_START_CHARACTERS = 2000
_CARD_CHARACTERS = 100_000


def terms(licence: str | None) -> Terms:
    """Sort a licence (a hub identifier such as `cc-by-nc-4.0`, or free text) by what its terms restrict."""
    if not licence:
        return "unknown"
    text = licence.lower()
    if _NON_COMMERCIAL.search(text):
        return "non-commercial"
    if _SHARE_ALIKE.search(text):
        return "share-alike"
    return "permissive" if _PERMISSIVE.search(text) else "own terms"


def read_card(path: Path) -> Mapping[str, Any]:
    """Return the YAML head of a directory's model card (README.md); empty if there is none that can be read."""
    try:
        with (path / "README.md").open(encoding="utf-8", errors="replace") as file:
            text = file.read(_CARD_CHARACTERS)
    except OSError:
        return {}
    match = re.match(r"\ufeff?---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    if not match:
        return {}
    try:
        head = yaml.safe_load(match.group(1))
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return head if isinstance(head, dict) else {}


def read_licence(path: Path, card: Mapping[str, Any]) -> str | None:
    """Return the licence that a model's card names, else what its licence file begins with, else None."""
    named = card.get("license")
    if isinstance(named, list):
        named = ", ".join(item for item in named if isinstance(item, str))
    own = card.get("license_name")
    if named == "other" and isinstance(own, str) and own:
        return f"other ({own})"
    if isinstance(named, str) and named:
        return named
    return _from_file(path)


def _from_file(path: Path) -> str | None:
    for file in sorted(path.glob("LICEN[SC]E*")):
        try:
            with file.open(encoding="utf-8", errors="replace") as stream:
                start = " ".join(stream.read(_START_CHARACTERS).split())
        except OSError:
            continue
        known = next((name for phrase, name in _FILES if phrase.lower() in start.lower()), None)
        if known or start:
            return known or f"own text ({start[:40].strip()})"
    return None
