"""The model card of a merged model: what it was made from and how to make it again.

This file knows nothing about how a merge is found; scores are handed in as rows of text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from evomerge import __version__
from evomerge.recipes import Recipe
from evomerge.reporting.tables import markdown

_MEANING = {
    "search": "The optimizer saw these items, so the best of many candidates flatter.",
    "selection": "The best of a few finalists was chosen on these items, which flatters a little.",
    "report": "These items took no part in the search or in the selection.",
}


@dataclass(frozen=True)
class Scores:
    """What a run found out about a model, as text.

    Attributes:
        split: search, selection or report: whose items the scores are of.
        header, rows: the table.
        notes: lines under the table.
        openings: how many times the report split of the run had been opened when the card was written.
    """

    split: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    openings: int


def card(recipe: Recipe, *, scores: Scores | None = None) -> str:
    """Return the card as Markdown with a YAML head in hub format.

    Args:
        recipe: the recipe.
        scores: of the run that found it; None where there are none.

    No licence is guessed: the head says `license: other` and the card tells the reader to look at the parents'.
    """
    parents = [recipe.base, *recipe.experts.values()]
    on_hub = [parent for parent in parents if "/" in parent and not parent.startswith((".", "/", "zoo:"))]
    head = {
        "library_name": "transformers",
        "tags": ["merge", "evomerge"],
        "license": "other",
        **({"base_model": [parent.partition("@")[0] for parent in on_hub]} if on_hub else {}),
    }
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).strip(),
        "---",
        "",
        f"# A merge of {len(recipe.experts)} models",
        "",
        f"Made by evomerge {__version__} with the method `{recipe.method}`. Its licence follows from its parents'.",
        "",
        "| role | model |",
        "|---|---|",
        f"| base | `{recipe.base}` |",
        *(f"| expert {label} | `{reference}` |" for label, reference in recipe.experts.items()),
        "",
        *_scores(scores),
        "## Rebuild",
        "",
        f"Recipe `{recipe.hash}`. `evomerge merge recipe.yaml OUT_DIR` gives the same weights, bit for bit:",
        "",
        "```yaml",
        recipe.to_yaml().rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _scores(scores: Scores | None) -> list[str]:
    if scores is None:
        return ["## Scores", "", "None: built from its recipe, outside a run that scored it.", ""]
    times = f"{scores.openings} time{'' if scores.openings == 1 else 's'}"
    return [
        f"## Scores on the {scores.split} split",
        "",
        f"95 % intervals. {_MEANING[scores.split]} This run had opened its report split {times} by then.",
        "",
        *markdown(scores.header, scores.rows),
        "",
        *(line for note in scores.notes for line in (note, "")),
    ]
