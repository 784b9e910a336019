"""What a model card is told: the parents, the model as it was written, and what the run that found it knows.

This file knows nothing about how a card looks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.checkpoints.provenance import Provenance
from evomerge.reporting.licences import Licence


@dataclass(frozen=True)
class Parent:
    """One model that the merge was made from."""

    provenance: Provenance
    licence: Licence


@dataclass(frozen=True)
class Scores:
    """What a run found out about a model, as text.

    Attributes:
        split: search, selection or report: whose items the scores are of.
        header, rows: the table, the parents beside the model.
        notes: lines under the table.
    """

    split: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


@dataclass(frozen=True)
class ItemSet:
    """The items of a task that a run scored on one split, and their hash."""

    task: str
    split: str
    items: int
    hash: str


@dataclass(frozen=True)
class RunFacts:
    """What the run that found a model knows about it.

    Attributes:
        found: what -> how the model was found, as text.
        scores: None where it was not scored.
        by_split: split and mean normalised score, as text, for each split that it was scored on.
        items: the sets of items of the run.
        openings: how many times the report split of the run had been opened when the card was written.
        versions: what the run was scored with, name -> version.
        results: entries of the hub's `model-index`; of the report split alone.
        predicted: lines on what surrogates promise, for a model that was chosen by them and not scored.
    """

    found: Mapping[str, str]
    scores: Scores | None
    by_split: Sequence[tuple[str, str]]
    items: Sequence[ItemSet]
    openings: int
    versions: Mapping[str, str]
    results: Sequence[Mapping[str, Any]] = ()
    predicted: Sequence[str] = ()


@dataclass(frozen=True)
class Written:
    """The model that a card is of, as it was written.

    Attributes:
        name: of its directory.
        fingerprint: of its weights.
        parameters: the number of weights.
        files: name -> SHA-256 of the files of weights.
        causal: whether it is a language model that continues a text.
        tokenizer_from: the expert whose tokenizer it has, None for the base's.
        command: what rebuilds it, with `recipe.yaml` beside it.
        versions: what it was built with, name -> version.
        mergekit: what mergekit.yaml does not carry over, a line each; None where there is no such file.
        no_mergekit: why there is none.
    """

    name: str
    fingerprint: str
    parameters: int
    files: Mapping[str, str]
    causal: bool
    tokenizer_from: str | None
    command: str
    versions: Mapping[str, str]
    mergekit: Sequence[str] | None = None
    no_mergekit: str = ""
