"""The model card of a merged model: what it was made from, how well it did and how to make it again.

The head is YAML as the hub reads it; the rest is for people. This file knows nothing about how a merge is found, built
or written: all that it says is handed in.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from evomerge import __version__
from evomerge.checkpoints.provenance import Provenance
from evomerge.recipes import Recipe
from evomerge.recipes.groups import ALL
from evomerge.recipes.recipe import Value
from evomerge.reporting.card_facts import Parent, RunFacts, Written
from evomerge.reporting.licences import head, warnings
from evomerge.reporting.tables import markdown

_MEANING = {
    "search": "The optimizer saw these items, so the best of many candidates flatter.",
    "selection": "The best of a few finalists was chosen on these items, which flatters a little.",
    "report": "These items took no part in the search or in the selection.",
}

_NEWER = "Where the hub has a newer one by now, write the revision behind the name (`org/name@revision`)"


def card(recipe: Recipe, written: Written, parents: Mapping[str, Parent], run: RunFacts | None) -> str:
    """Return the card as Markdown with a YAML head in hub format.

    Args:
        recipe: the recipe.
        written: what was built from it.
        parents: role ("base", "expert LABEL") -> what it is.
        run: what the run that found it knows; None for a recipe from elsewhere.

    A licence is in the head only where all parents' cards name that same one (`licences.py`).
    """
    lines = [
        "---",
        yaml.safe_dump(_head(written, parents, run), sort_keys=False, allow_unicode=True, width=110).strip(),
        "---",
        "",
        f"# {_line(written.name)}",
        "",
        f"A merge of {len(recipe.experts)} fine-tuned models of one base with the method `{recipe.method}`, "
        f"{written.parameters:,} parameters in {recipe.dtype}, made by evomerge {__version__}.",
        "",
        *_parents(recipe, parents),
        *_licences(parents),
        *_scores(run),
        *_recipe(recipe),
        *_run(run),
        *_rebuild(recipe, written, parents, run),
        *_versions(written, run),
        *_files(written, parents),
    ]
    return "\n".join(lines)


def licence_warnings(parents: Mapping[str, Parent]) -> list[str]:
    """Return what a person has to look into about the parents' licences, a line each."""
    return warnings({role: parent.licence for role, parent in parents.items()})


def _head(written: Written, parents: Mapping[str, Parent], run: RunFacts | None) -> dict[str, Any]:
    on_hub = [parent.provenance.repository for parent in parents.values() if parent.provenance.repository]
    results = list(run.results) if run else []
    return {
        "library_name": "transformers",
        **({"pipeline_tag": "text-generation"} if written.causal else {}),
        "tags": ["merge", "evomerge"],
        **head([parent.licence for parent in parents.values()]),
        **({"base_model": list(dict.fromkeys(on_hub)), "base_model_relation": "merge"} if on_hub else {}),
        **({"model-index": [{"name": written.name, "results": results}]} if results else {}),
    }


def _parents(recipe: Recipe, parents: Mapping[str, Parent]) -> list[str]:
    rows = [
        [
            role,
            _code(parent.provenance.reference),
            _code(parent.provenance.revision) if parent.provenance.revision else "-",
            _line(parent.licence.name or "**unknown**"),
        ]
        for role, parent in parents.items()
    ]
    return [
        "## Made from",
        "",
        *markdown(["role", "model", "revision", "licence"], rows),
        "",
        "The revision is the commit of the hub that was read; a local directory has none. The SHA-256 of each file "
        "that was read is at the end.",
        "",
    ]


def _licences(parents: Mapping[str, Parent]) -> list[str]:
    licences = [parent.licence for parent in parents.values()]
    found, named = warnings({role: parent.licence for role, parent in parents.items()}), head(licences)["license"]
    sources = sorted({licence.source for licence in licences if licence.source})
    read = f"The names above were read in the models' {' and '.join(sources)}." if sources else ""
    if named not in ("other", "unknown"):
        said = f"The cards of all parents name `{named}`, and so does this one."
    else:
        said = f"This card names no licence (`{named}`): which terms this model may be used under is not decided here."
    return [
        "## Licence",
        "",
        " ".join(text for text in (said, read) if text),
        "",
        *(f"> **Warning:** {_line(line)}.\n" for line in found),
    ]


# ---- the recipe ----------------------------------------------------------------------------------------------------


def _recipe(recipe: Recipe) -> list[str]:
    columns = {
        f"{parameter} {label}": groups
        for parameter, by_expert in recipe.parameters.items()
        for label, groups in by_expert.items()
    } | dict(recipe.options)
    lines = ["## Recipe", "", f"Recipe `{recipe.hash}`, seed of the masks {recipe.seed}.", ""]
    if not columns:
        return lines
    groups = _in_order(columns.values())
    rows = [[group, *(_cell(values.get(group)) for values in columns.values())] for group in groups]
    return [
        *lines,
        *markdown(["tensors", *columns], rows),
        "",
        "Of several groups that a tensor is in, the narrowest that has a value counts.",
        "",
    ]


def _in_order(columns: Any) -> list[str]:
    """Return the groups of all columns, each once, layers by number and `all` last."""
    groups = {group for values in columns for group in values}

    def key(group: str) -> tuple[bool, str, int, str]:
        first, _, rest = group.partition(".")
        number = rest.split(".")[0].split("-")[0]
        return group == ALL, first, int(number) if number.isdecimal() else -1, rest

    return sorted(groups, key=key)


def _cell(value: Value | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:.4g}"


# ---- what a run knows ----------------------------------------------------------------------------------------------


def _scores(run: RunFacts | None) -> list[str]:
    if run is None:
        return ["## Scores", "", "None: built from its recipe, outside a run that scored it.", ""]
    times = f"{run.openings} time{'' if run.openings == 1 else 's'}"
    opened = f"When this card was written, the run had opened its report split {times}."
    if run.scores is None:
        return ["## Scores", "", f"None: this model was not scored. {opened}", "", *_predicted(run.predicted)]
    scores = run.scores
    return [
        f"## Scores on the {scores.split} split",
        "",
        f"95 % intervals. {_MEANING[scores.split]} {opened} Beside the parents stand the best merges of simpler kinds.",
        "",
        *markdown(scores.header, scores.rows),
        "",
        *(line for note in scores.notes for line in (note, "")),
        "Mean normalised: on each task 0 is the base and 1 the best expert, by their scores on the search split. For "
        "this model:",
        "",
        *markdown(["split", "mean normalised"], run.by_split),
        "",
    ]


def _predicted(lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    head = "Its scores on the selection split as the run predicts them; with 95 % probability all intervals hold:"
    return [head, "", *(f"- {_line(line)}" for line in lines), ""]


def _run(run: RunFacts | None) -> list[str]:
    if run is None:
        return []
    items = [[found.task, found.split, str(found.items), _code(found.hash)] for found in run.items]
    return [
        "## How it was found",
        "",
        *markdown(["what", "how"], [[what, how] for what, how in run.found.items()]),
        "",
        "## Items",
        "",
        "A hash is of the items' names and prompts, in order: two models with the same hash were asked the same.",
        "",
        *markdown(["task", "split", "items", "hash"], items),
        "",
    ]


# ---- how to make it again ------------------------------------------------------------------------------------------


def _rebuild(recipe: Recipe, written: Written, parents: Mapping[str, Parent], run: RunFacts | None) -> list[str]:
    tokenizer = f"the expert {written.tokenizer_from}" if written.tokenizer_from else "the base"
    scored = run is not None and run.scores is not None
    prompts = " The scores above were measured with the base's." if written.tokenizer_from and scored else ""
    local = [role for role, parent in parents.items() if _is_local(parent.provenance)]
    moving = [role for role, parent in parents.items() if _may_move(parent.provenance)]
    if written.mergekit is None:
        mergekit = [f"There is no `mergekit.yaml`: {_line(written.no_mergekit)}."]
    else:
        mergekit = ["`mergekit.yaml` tells mergekit the same" + (", but for this:" if written.mergekit else ".")]
        mergekit += ["", *(f"- {_line(note)}" for note in written.mergekit)] if written.mergekit else []
    return [
        "## Rebuild",
        "",
        "```bash",
        written.command,
        "```",
        "",
        f"gives the same weights, bit for bit, and checks it: their fingerprint is `{written.fingerprint}`. The recipe "
        "is also in the metadata of each safetensors file. Tokenizer, chat template and generation config are those of "
        f"{tokenizer}.{prompts}",
        "",
        *([f"Local directories, to be replaced by your own: {', '.join(local)}.", ""] if local else []),
        *([f"{_NEWER}: {', '.join(moving)}.", ""] if moving else []),
        "```yaml",
        recipe.to_yaml().rstrip(),
        "```",
        "",
        *mergekit,
        "",
    ]


def _versions(written: Written, run: RunFacts | None) -> list[str]:
    then = run.versions if run else {}
    names = list(dict.fromkeys([*written.versions, *then]))
    header = ["package", "built with", *(["scored with"] if then else [])]
    columns = [written.versions, *([then] if then else [])]
    rows = [[name, *(given.get(name, "-") for given in columns)] for name in names]
    return ["## Versions", "", *markdown(header, rows), ""]


def _files(written: Written, parents: Mapping[str, Parent]) -> list[str]:
    rows = [["this model", name, _code(digest)] for name, digest in written.files.items()]
    for role, parent in parents.items():
        rows += [[role, name, _code(digest)] for name, digest in parent.provenance.files.items()]
    return ["## Files", "", *markdown(["model", "file", "SHA-256"], rows), ""]


def _is_local(provenance: Provenance) -> bool:
    return provenance.repository is None and not provenance.reference.startswith("zoo:")


def _may_move(provenance: Provenance) -> bool:
    return provenance.revision is not None and not provenance.reference.endswith(f"@{provenance.revision}")


def _code(text: str) -> str:
    return f"`{_line(text).replace('`', '')}`"


def _line(text: str) -> str:
    """Return a text as one line: names of models are anybody's, and must not begin something of their own."""
    return " ".join(text.split())
