"""The model card of a merged model: what it was made from and how to make it again.

This file knows nothing about how a merge is found; scores are handed in as rows of text.
"""

from collections.abc import Sequence

import yaml

from evomerge import __version__
from evomerge.recipes import Recipe


def card(recipe: Recipe, *, scores: Sequence[Sequence[str]] = (), openings: int | None = None) -> str:
    """Return the card as Markdown with a YAML head in hub format.

    Args:
        recipe: the recipe.
        scores: a table, header first, of report-split scores.
        openings: how many times the report split of the run had been opened when these scores were taken.

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
    ]
    if scores:
        header, *rows = scores
        lines += [
            "## Scores on the report split",
            "",
            "95 % intervals; these items took no part in the search or in the selection."
            + ("" if openings is None else f" Times this run had opened the report split: {openings}."),
            "",
            "| " + " | ".join(header) + " |",
            "|" + "---|" * len(header),
            *("| " + " | ".join(row) + " |" for row in rows),
            "",
        ]
    lines += [
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
