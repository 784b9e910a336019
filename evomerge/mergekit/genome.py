"""From a configuration of mergekit-evolve to an experiment: the models, the space, the tasks, and what is left out.

The experiment is a file of the configuration group `experiment`, whole in itself: it replaces the default models,
method, space and tasks. This file knows nothing about Hydra but the form of such a file, and nothing about lm-eval.
"""

import re
from collections.abc import Mapping
from typing import Any

from evomerge.errors import UsageError, nearest, refuse_unknown
from evomerge.mergekit.reading import labels
from evomerge.mergekit.references import Named, from_reference
from evomerge.recipes.groups import OUTSIDE, PARTS, Layout, place

_KEYS = (
    "apply_chat_template",
    "fewshot_as_multiturn",
    "genome",
    "limit",
    "num_fewshot",
    "random_init",
    "shuffle",
    "tasks",
)
_GENOME_KEYS = (
    "allow_negative_weights",
    "base_model",
    "filters",
    "layer_granularity",
    "merge_method",
    "models",
    "normalize",
    "smooth",
    "tokenizer_source",
)
_METHODS = ("dare_ties", "linear", "slerp", "task_arithmetic", "ties")
_NORMALIZES = ("dare_ties", "linear", "ties")  # mergekit-evolve's own defaults
_DROPS = ("dare_ties", "ties")
_HIGHEST_WEIGHT = 1.5
_LOWEST_NEGATIVE = -0.5  # not -1.5: in the middle of the space the weights must not cancel out
_LOWEST_WEIGHT = {"linear": 0.01}  # weights that are all 0 have no mean


def is_genome(data: Any) -> bool:
    """Say whether plain data are a configuration of mergekit-evolve."""
    return isinstance(data, Mapping) and "genome" in data


def base_of_genome(data: Any) -> str:
    """Return the reference of the base of a configuration."""
    base, _ = _models(_mapping(_mapping(data, "the file").get("genome"), "genome"))
    return base


def from_genome(data: Any, layout: Layout | None = None, *, name: str = "imported") -> tuple[dict[str, Any], list[str]]:
    """Return the experiment as plain data, and what it does not carry over, one line each.

    Args:
        data: the configuration as plain data.
        layout: the tensors of the models, where they are at hand; then what the filters fit is known, not guessed.
        name: of the experiment.

    Raises `UsageError` for what is no configuration, and for one that no experiment describes.
    """
    data = _mapping(data, "the file")
    refuse_unknown(data, _KEYS, "mergekit-evolve")
    genome = _mapping(data.get("genome"), "genome")
    refuse_unknown(genome, _GENOME_KEYS, "mergekit-evolve: genome")
    method = genome.get("merge_method")
    if method not in _METHODS:
        raise UsageError(f"mergekit-evolve: unknown merge_method {method!r}; {nearest(str(method), _METHODS)}")
    notes: list[str] = []
    base, experts = _models(genome)
    if method == "slerp" and len(experts) > 2:
        raise UsageError(
            "mergekit-evolve: slerp of more than two models picks two anew for each block, which no space describes; "
            "name two models"
        )
    if method not in ("linear", "slerp") and genome.get("base_model") is None:
        raise UsageError(f"mergekit-evolve: method {method} needs a base_model")
    experiment = {
        "defaults": [
            *({f"override /{group}": None} for group in ("models", "method", "space", "tasks")),
            {"override /optimizer": "cmaes"},
        ],
        "name": name,
        "models": {"base": base, "experts": experts, "dtype": "bfloat16", **_vocabulary(genome, base, notes)},
        "space": _space(genome, str(method), layout, notes),
        "tasks": _tasks(data, notes),
    }
    if data.get("limit") is not None:
        experiment["items"] = {"search": _whole(data["limit"], "limit")}
    _note_the_rest(data, notes)
    return experiment, notes


def _models(genome: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the base and the experts."""
    listed = genome.get("models")
    if not isinstance(listed, list) or not listed:
        raise UsageError("mergekit-evolve: genome.models must be a list of models")
    models = [from_reference(model, f"mergekit-evolve: genome.models[{index}]") for index, model in enumerate(listed)]
    given = genome.get("base_model")
    base = models[0] if given is None else from_reference(given, "mergekit-evolve: genome.base_model")
    if base.adapter is not None:
        raise UsageError("mergekit-evolve: the base has a LoRA adapter; merge it into the base first")
    # a mean has the base among its models; elsewhere it is the origin, as in slerp the first model, if none is named
    experts = models if genome.get("merge_method") == "linear" else [model for model in models if model != base]
    if not experts:
        raise UsageError("mergekit-evolve: genome.models names no model besides the base")
    if len(set(experts)) != len(experts):
        raise UsageError("mergekit-evolve: genome.models names a model twice")
    return base.model, dict(zip(labels(experts), (_reference(model, base) for model in experts), strict=True))


def _reference(model: Named, base: Named) -> str:
    if model.adapter is not None and model.model != base.model:
        raise UsageError(f"mergekit-evolve: the adapter {model.adapter} does not sit on the base {base.model}")
    return model.adapter or model.model


def _vocabulary(genome: Mapping[str, Any], base: str, notes: list[str]) -> dict[str, str]:
    source = genome.get("tokenizer_source")
    if source is None:
        return {}
    if source in ("union", "base", base):
        return {"vocabulary": "union" if source == "union" else "base"}
    notes.append(f"tokenizer_source {source} is not carried over: the models' vocabularies must agree")
    return {}


def _space(genome: Mapping[str, Any], method: str, layout: Layout | None, notes: list[str]) -> dict[str, Any]:
    every = genome.get("layer_granularity") or 0
    if isinstance(every, bool) or not isinstance(every, int):
        raise UsageError(f"mergekit-evolve: genome.layer_granularity {every!r} must be a whole number")
    if every > 0 and layout and layout.layers % every:
        raise UsageError(
            f"mergekit-evolve: layer_granularity {every} does not divide the models' {layout.layers} layers"
        )
    granularity: str | int = every if every > 0 else "global"
    split, own = _filters(genome.get("filters"), layout, notes)
    parameters: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if method == "slerp":
        options["t"] = {"low": 0.0, "high": 1.0, "granularity": granularity, "own": []}
    else:
        low = _LOWEST_NEGATIVE if genome.get("allow_negative_weights") else _LOWEST_WEIGHT.get(method, 0.0)
        parameters["weight"] = {"low": low, "high": _HIGHEST_WEIGHT}
        notes.append(f"weight is searched between {low:g} and {_HIGHEST_WEIGHT:g}; mergekit-evolve has no bounds")
        given = genome.get("normalize")
        options["normalize"] = method in _NORMALIZES if given is None else _flag(given, "genome.normalize")
    if method in _DROPS:
        parameters["drop_rate"] = {"low": 0.0, "high": 1.0}
    if method == "dare_ties":
        options["rescale"] = "l1"
    if genome.get("smooth") and every > 0:
        split = _smooth(parameters, every, split, layout, notes)
    elif every > 0:
        notes.append(
            "embeddings, norms and head have values of their own; mergekit-evolve ties them to the first and the last "
            "block of layers"
        )
    return {
        "methods": [method],
        "granularity": granularity,
        "split": split,
        "own": own,
        "parameters": parameters,
        "options": options,
    }


def _smooth(
    parameters: dict[str, dict[str, Any]], every: int, split: bool, layout: Layout | None, notes: list[str]
) -> bool:
    """Turn bounds into gradients over the layers; return whether the parts of a layer stay apart."""
    anchors = layout.layers // every if layout else 0
    if anchors < 2:
        why = (
            "a gradient needs two values or more" if layout else "the models are not here, so their layers are unknown"
        )
        notes.append(f"smooth is not carried over ({why}): each block of layers has one value")
        return split
    for bounds in parameters.values():
        bounds |= {"shape": "gradient", "anchors": anchors}
    notes.append("smooth: norms and head follow the last value of a gradient; mergekit gives them the first")
    if split:
        notes.append("filters are not carried over: a gradient runs over whole layers")
    return False


def _filters(filters: Any, layout: Layout | None, notes: list[str]) -> tuple[bool, list[str]]:
    """Return whether attention, mlp and the rest are apart, and which groups outside the layers are."""
    if filters is None:
        return False, []
    if not isinstance(filters, list) or not all(isinstance(one, str) for one in filters):
        raise UsageError("mergekit-evolve: genome.filters must be a list of texts")
    own, parts = [], []
    for one in filters:
        found = _group_of(one, layout)
        if found in OUTSIDE:
            own.append(found)
        elif found in PARTS:
            parts.append(found)
        else:
            notes.append(
                f"filter {one!r} is not carried over: it fits no group of evomerge's (attention, mlp, head, ...)"
            )
    if parts and set(parts) != {"attention", "mlp"}:
        notes.append("attention, mlp and the rest of a layer each have a value; mergekit-evolve had fewer of their own")
    return bool(parts), sorted(set(own), key=OUTSIDE.index)


def _group_of(text: str, layout: Layout | None) -> str | None:
    """Return the part of a layer or the group outside the layers that a filter fits exactly, or None."""
    if layout is None:
        inside, outside = place(f"model.layers.0.{text}.weight"), place(f"model.{text}.weight")
        return inside.part if inside.part in ("attention", "mlp") else outside.kind if outside.kind != "other" else None
    fits = {name for name in layout.tensors if text in name}
    groups = [*OUTSIDE, *(f"layers.{part}" for part in PARTS)]
    exact = [group for group in groups if fits and fits == set(layout.members(group))]
    return exact[0].removeprefix("layers.") if exact else None


def _tasks(data: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    listed = data.get("tasks")
    if not isinstance(listed, list) or not listed:
        raise UsageError("mergekit-evolve: tasks must be a list of tasks")
    shots = data.get("num_fewshot")
    result: dict[str, Any] = {}
    weights: dict[str, float] = {}
    for index, entry in enumerate(listed):
        where = f"mergekit-evolve: tasks[{index}]"
        task = {"name": entry} if isinstance(entry, str) else _mapping(entry, f"tasks[{index}]")
        refuse_unknown(task, ("metric", "name", "weight"), where)
        name, metric, weight = task.get("name"), task.get("metric", "acc,none"), task.get("weight", 1.0)
        if not isinstance(name, str) or not isinstance(metric, str):
            raise UsageError(f"{where}: name and metric must be texts")
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise UsageError(f"{where}: weight {weight!r} is not a number")
        key = re.sub(r"[^\w-]", "_", name)
        if key in result:
            raise UsageError(f"{where}: task {name} is named twice")
        score, _, extraction = metric.partition(",")
        result[key] = {"task": name, "metric": score, **({"filter": extraction} if extraction else {})}
        if shots is not None:
            result[key]["num_fewshot"] = _whole(shots, "num_fewshot", low=0)
        weights[name] = float(weight)
        if score.startswith("acc"):
            notes.append(f"task {name}: only generated answers can be scored, no likelihoods")
    if len(set(weights.values())) > 1 or min(weights.values()) <= 0:
        shown = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
        notes.append(f"the tasks' weights ({shown}) are not carried over: the search weighs the tasks alike")
    return result


def _note_the_rest(data: Mapping[str, Any], notes: list[str]) -> None:
    notes.append(
        "candidates are scored on training data (splits.search) and the test data kept for the report, where "
        "mergekit-evolve scores on whatever the task evaluates"
    )
    if data.get("shuffle"):
        notes.append("shuffle is left out: a limit always takes a random part of the items")
    if data.get("random_init"):
        notes.append("random_init is not carried over")
    if data.get("apply_chat_template", True):
        notes.append(
            "apply_chat_template (mergekit-evolve's default) is not carried over: prompts are lm-eval's plain ones"
        )
    elif data.get("fewshot_as_multiturn"):
        notes.append("fewshot_as_multiturn is not carried over")


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"mergekit-evolve: {where} {value!r} must be true or false")
    return value


def _mapping(data: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise UsageError(f"mergekit-evolve: {where} must be a mapping")
    return data


def _whole(value: Any, where: str, *, low: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UsageError(f"mergekit-evolve: {where} {value!r} must be a whole number >= {low}")
    return value
