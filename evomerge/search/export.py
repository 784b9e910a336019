"""From a recipe, or a run's candidate, to a model on disk with its card: rebuilt, and checked against what was scored.

This file knows nothing about how a search goes on, nor how weights are merged or written, nor how a card looks.
"""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from evomerge.checkpoints import ModelPool
from evomerge.checkpoints.provenance import trace
from evomerge.errors import UsageError
from evomerge.mergekit import export_text
from evomerge.merging import ExportReport, export
from evomerge.merging.export import SHARD_BYTES
from evomerge.recipes import Recipe
from evomerge.reporting.card import card, licence_warnings
from evomerge.reporting.card_facts import Parent, RunFacts, Written
from evomerge.reporting.licences import Licence
from evomerge.reporting.versions import versions
from evomerge.search.directory import RunDirectory
from evomerge.search.model_card import facts_of_prediction, run_facts
from evomerge.search.show import pick_trial, read_run

CARD, MERGEKIT = "README.md", "mergekit.yaml"


def export_trial(
    path: Path,
    out: Path,
    *,
    pick: str = "best",
    prefer: Mapping[str, float],
    threads: int = 1,
    shard_bytes: int = SHARD_BYTES,
    tokenizer_from: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ExportReport:
    """Write the model of a run's candidate and check it against the fingerprint recorded when it was scored.

    Args:
        path: the run directory.
        out: an empty or new directory.
        pick: best (on the selection split), knee (of the front), or the number of a trial.
        prefer: task -> weight; not empty: the front's best by weighted normalised scores.
        threads, shard_bytes, tokenizer_from, say: as for `export_recipe`.
    """
    record = read_run(path)
    trial = pick_trial(record, pick, prefer)
    return export_recipe(
        *(trial.recipe, out),
        run=run_facts(record, RunDirectory(path).read_config(), trial, chosen=_chosen(pick, prefer)),
        expected_fingerprint=trial.fingerprint,
        threads=threads,
        shard_bytes=shard_bytes,
        tokenizer_from=tokenizer_from,
        say=say,
    )


def export_predicted(
    path: Path,
    out: Path,
    *,
    prefer: Mapping[str, float],
    threads: int = 1,
    shard_bytes: int = SHARD_BYTES,
    tokenizer_from: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[ExportReport, str]:
    """Write the model that a finished run predicts to be the best for a preference; nobody has scored it.

    Args:
        path: the run directory.
        out: an empty or new directory.
        prefer: task -> weight; empty: the weights that the run was started with.
        threads, shard_bytes, tokenizer_from, say: as for `export_recipe`.

    Returns what was written and the hash of the recipe, which is the one that a report page shows.
    """
    from evomerge.search.preferred import predicted_choice  # it brings a whole search along: seconds

    recipe, point = predicted_choice(path, prefer)
    directory = RunDirectory(path)
    promised = [
        f"{task}: {mean:.3f} [{low:.3f}, {high:.3f}] on {point.items[task]} items"
        for task, (mean, low, high) in point.scores.items()
    ]
    report = export_recipe(
        *(recipe, out),
        run=facts_of_prediction(directory.read(), directory.read_config(), promised, chosen=_by_weights(prefer)),
        threads=threads,
        shard_bytes=shard_bytes,
        tokenizer_from=tokenizer_from,
        say=say,
    )
    return report, recipe.hash


def export_recipe(
    recipe: Recipe,
    out: Path,
    *,
    run: RunFacts | None = None,
    expected_fingerprint: str | None = None,
    threads: int = 1,
    shard_bytes: int = SHARD_BYTES,
    tokenizer_from: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ExportReport:
    """Write the model that a recipe describes, with its recipe, a mergekit YAML where there can be one, and its card.

    Args:
        recipe: what to build.
        out: an empty or new directory.
        run: what the run that found it knows; None for a recipe from elsewhere.
        expected_fingerprint: of its weights, where they were built before; another one is a `WorkError`.
        threads: how many merge and read.
        shard_bytes: a file of weights does not exceed this (unless one tensor does).
        tokenizer_from: label of the expert whose tokenizer, chat template and generation config to take; None: the
            base's.
        say: is told what a person has to look into (licences), a line each.
    """
    pool = ModelPool.open(recipe.base, recipe.experts, check_weights=False, vocabulary=recipe.vocabulary)

    def describe(report: ExportReport) -> dict[str, str]:
        parents = {
            f"expert {label}" if label else "base": Parent(provenance, Licence.read(provenance.path))
            for label, provenance in trace(pool, threads=threads).items()
        }
        for line in licence_warnings(parents):
            say(f"licence: {line}")
        texts, notes, refusal = {}, None, ""
        try:
            texts[MERGEKIT], notes = export_text(recipe, pool.layout, MERGEKIT)
        except UsageError as error:
            refusal = str(error)
        written = Written(
            name=report.path.name,
            fingerprint=report.fingerprint,
            parameters=report.parameters,
            files={name: digest for name, digest in report.files.items() if name.endswith(".safetensors")},
            causal=any("ForCausalLM" in str(name) for name in pool.config.get("architectures") or []),
            tokenizer_from=tokenizer_from,
            command=rebuild_command(report.fingerprint, shard_bytes, tokenizer_from),
            versions=versions(),
            mergekit=notes,
            no_mergekit=refusal,
        )
        return {**texts, CARD: card(recipe, written, parents, run)}

    return export(
        *(recipe, out),
        pool=pool,
        threads=threads,
        max_shard_bytes=shard_bytes,
        tokenizer_from=tokenizer_from,
        describe=describe,
        expected_fingerprint=expected_fingerprint,
    )


def _chosen(pick: str, prefer: Mapping[str, float]) -> str:
    if prefer:
        return f"the front's best, {_by_weights(prefer)}"
    return {"best": "the best on the selection split", "knee": "the knee of the front"}.get(pick, "by its number")


def _by_weights(prefer: Mapping[str, float]) -> str:
    if not prefer:
        return "by the weights of the run"
    return f"by the weights {', '.join(f'{task} {weight:g}' for task, weight in prefer.items())}"


def rebuild_command(fingerprint: str, shard_bytes: int, tokenizer_from: str | None) -> str:
    """Return the command line that builds the same files again from `recipe.yaml`."""
    words = ["evomerge merge recipe.yaml OUT_DIR", f"--expect {fingerprint}"]
    if shard_bytes != SHARD_BYTES:
        words.append(f"--shard-size {shard_bytes}")
    if tokenizer_from is not None:
        words.append(f"--tokenizer-from {shlex.quote(tokenizer_from)}")
    return " ".join(words)
