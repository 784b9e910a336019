"""A mergekit configuration as typed, closed data. What mergekit silently ignores is refused or noted here.

The three ways to name the inputs (`models`, `slices`, `modules`) become slices. The data may come from anybody: every
part is checked, and what its aliases expand to is bounded. This file knows nothing about recipes and layouts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from evomerge.errors import UsageError, refuse_unknown
from evomerge.mergekit.references import Named, from_reference
from evomerge.mergekit.words import KNOWN_PARAMETERS

Parameters = Mapping[str, Any]

_MOST_CHARACTERS = 1 << 20
_MOST_NODES = 200_000
_DEEPEST = 20
_KEYS = (
    "base_model",
    "chat_template",
    "dtype",
    "merge_method",
    "models",
    "modules",
    "name",
    "out_dtype",
    "out_path",
    "parameters",
    "slices",
    "tokenizer",
    "tokenizer_source",
)


@dataclass(frozen=True)
class Input:
    """A model in a slice, with the parameters that hold for it alone."""

    model: Named
    parameters: Parameters


@dataclass(frozen=True)
class Slice:
    """Some layers of the result: `first` up to, not including, `last` of each input (None: all there are)."""

    inputs: tuple[Input, ...]
    base: Named | None
    parameters: Parameters
    first: int = 0
    last: int | None = None


@dataclass(frozen=True)
class Document:
    """A configuration.

    Attributes:
        method: mergekit's merge method.
        base: `base_model`.
        slices: in the order of the result; at least one.
        parameters: for all slices, what comes first goes first.
        dtype, out_dtype: of the arithmetic and of the result; None: not said.
        tokenizer: union, base, a model, or None.
        notes: what evomerge leaves out.
    """

    method: str
    base: Named | None
    slices: tuple[Slice, ...]
    parameters: tuple[Parameters, ...]
    dtype: str | None
    out_dtype: str | None
    tokenizer: str | Named | None
    notes: tuple[str, ...]


def load_yaml(text: str, where: str) -> Any:
    """Parse YAML from anybody; `UsageError` if it is none, or too large or nested to be a configuration."""
    if len(text) > _MOST_CHARACTERS:
        raise UsageError(f"{where}: is too large for a configuration")
    try:
        data = yaml.safe_load(text)
        _count(data, 0, _MOST_NODES, where)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        if "single document" in reason:
            raise UsageError(f"{where}: the file holds several documents; import each from a file of its own") from None
        raise UsageError(f"{where}: not valid YAML: {reason[:200]}") from None
    return data


def _count(data: Any, depth: int, left: int, where: str) -> int:
    """Return how many of `left` nodes remain after those of `data`."""
    if left <= 0 or depth > _DEEPEST:
        raise UsageError(f"{where}: is too large or too nested for a configuration")
    children = [*data, *data.values()] if isinstance(data, dict) else data if isinstance(data, list) else ()
    left -= 1
    for child in children:
        left = _count(child, depth + 1, left, where)
    return left


def parse(data: Any) -> Document:
    """Read a configuration from plain data; `UsageError` naming the first thing that cannot be."""
    if not isinstance(data, Mapping):
        raise UsageError("mergekit: expected a mapping with merge_method and models, slices or modules")
    refuse_unknown(data, _KEYS, "mergekit")
    method = data.get("merge_method")
    if not isinstance(method, str):
        raise UsageError("mergekit: merge_method is missing")
    given = [key for key in ("models", "slices", "modules") if data.get(key)]
    if len(given) != 1:
        raise UsageError(f"mergekit: give one of models, slices and modules, not {' and '.join(given) or 'none'}")
    notes: list[str] = []
    base = _model(data["base_model"], "base_model") if data.get("base_model") is not None else None
    parameters = [_parameters(data, "parameters")]
    body: Mapping[str, Any] = data
    if given == ["modules"]:
        body = _module(data["modules"])
        parameters.insert(0, _parameters(body, "modules.parameters"))
    slices = _slices(body["slices"], notes) if body.get("slices") else (_whole(body["models"], base, notes),)
    notes += [f"{key} is left out" for key in ("name", "out_path") if data.get(key) is not None]
    if data.get("chat_template") is not None:
        notes.append("chat_template is not carried over: evomerge writes that of the base")
    return Document(
        method,
        base,
        slices,
        tuple(parameters),
        _dtype(data, "dtype"),
        _dtype(data, "out_dtype"),
        _tokenizer(data, notes),
        tuple(notes),
    )


def _module(modules: Any) -> Mapping[str, Any]:
    """Return the definition that all modules share."""
    if not isinstance(modules, Mapping):
        raise UsageError("mergekit: modules must be a mapping")
    first, *others = modules.values()
    for body in modules.values():
        if not isinstance(body, Mapping):
            raise UsageError("mergekit: modules: each must be a mapping")
        refuse_unknown(body, ("models", "parameters", "slices"), "mergekit: modules")
        if bool(body.get("models")) == bool(body.get("slices")):
            raise UsageError("mergekit: modules: each must have models or slices")
    if any(other != first for other in others):
        raise UsageError("mergekit: modules that are merged in different ways cannot be a recipe; import one at a time")
    module: Mapping[str, Any] = first
    return module


def _whole(models: Any, base: Named | None, notes: list[str]) -> Slice:
    """Read `models`; as in mergekit the base becomes one of the inputs."""
    inputs = []
    for index, entry in enumerate(_list(models, "models")):
        where = f"models[{index}]"
        if isinstance(entry, Mapping) and "layer_range" in entry:
            notes.append(f"{where}.layer_range is left out, as mergekit does")
            entry = {key: value for key, value in entry.items() if key != "layer_range"}
        inputs.append(_input(entry, where, ("model", "parameters")))
    if base is not None and all(one.model != base for one in inputs):
        inputs.append(Input(base, {}))
    return _distinct(Slice(tuple(inputs), None, {}), "models")


def _slices(slices: Any, notes: list[str]) -> tuple[Slice, ...]:
    result = []
    for index, entry in enumerate(_list(slices, "slices")):
        where = f"slices[{index}]"
        _mapping(entry, where, ("base_model", "parameters", "residual_weight", "sources"))
        if entry.get("residual_weight") is not None:
            notes.append(f"{where}.residual_weight is left out, as mergekit does")
        inputs, ranges = [], []
        for number, source in enumerate(_list(entry.get("sources"), f"{where}.sources")):
            place = f"{where}.sources[{number}]"
            inputs.append(_input(source, place, ("layer_range", "model", "parameters")))
            ranges.append(_range(source.get("layer_range"), f"{place}.layer_range"))
        base = _model(entry["base_model"], where) if entry.get("base_model") is not None else None
        slice_ = Slice(tuple(inputs), base, _parameters(entry, where), *ranges[0])
        for other, one in zip(ranges, inputs, strict=True):
            if other != ranges[0]:
                raise UsageError(
                    f"mergekit: {where}: layers {list(other)} of {one.model.model} are merged with layers "
                    f"{list(ranges[0])} of {inputs[0].model.model}; a recipe merges each layer with the same layer"
                )
        result.append(_distinct(slice_, where))
    return tuple(_in_order(result))


def _in_order(slices: list[Slice]) -> list[Slice]:
    """Refuse slices that are no model from its first layer on."""
    expected = 0
    for index, one in enumerate(slices):
        if one.first != expected:
            raise UsageError(
                f"mergekit: slices[{index}] has layers [{one.first}, {one.last}] where layer {expected} should come: "
                "a model with layers in another order, repeated or left out cannot be a recipe"
            )
        expected = one.last or expected
    return slices


def _distinct(one: Slice, where: str) -> Slice:
    if len({entry.model for entry in one.inputs}) != len(one.inputs):
        raise UsageError(f"mergekit: {where}: a model is listed twice")
    return one


def _input(data: Any, where: str, keys: tuple[str, ...]) -> Input:
    _mapping(data, where, keys)
    return Input(_model(data.get("model"), f"{where}.model"), _parameters(data, where))


def _model(value: Any, where: str) -> Named:
    return from_reference(value, f"mergekit: {where}")


def _parameters(data: Mapping[str, Any], where: str) -> Parameters:
    parameters = data.get("parameters") or {}
    where = f"mergekit: {where}" if where.endswith("parameters") else f"mergekit: {where}.parameters"
    if not isinstance(parameters, Mapping):
        raise UsageError(f"{where} must be a mapping")
    refuse_unknown(parameters, KNOWN_PARAMETERS, where)
    return parameters


def _mapping(data: Any, where: str, keys: tuple[str, ...]) -> None:
    if not isinstance(data, Mapping):
        raise UsageError(f"mergekit: {where} must be a mapping with {', '.join(keys)}")
    refuse_unknown(data, keys, f"mergekit: {where}")


def _list(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list) or not data:
        raise UsageError(f"mergekit: {where} must be a list with at least one entry")
    return data


def _range(data: Any, where: str) -> tuple[int, int]:
    whole = isinstance(data, list) and len(data) == 2 and all(type(end) is int for end in data)
    if not whole or not 0 <= data[0] < data[1]:
        raise UsageError(f"mergekit: {where}: {data!r} is no range [first, one past the last]")
    return data[0], data[1]


def _dtype(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    if value is None:
        return None
    name = str(value).removeprefix("torch.")
    if name not in ("bfloat16", "float16", "float32"):
        raise UsageError(f"mergekit: {key} {value!r} is none of bfloat16, float16, float32")
    return name


def _tokenizer(data: Mapping[str, Any], notes: list[str]) -> str | Named | None:
    source, block = data.get("tokenizer_source"), data.get("tokenizer")
    if source is not None and block is not None:
        raise UsageError("mergekit: give tokenizer_source or tokenizer, not both")
    if block is not None:
        _mapping(block, "tokenizer", ("pad_to_multiple_of", "source", "tokens"))
        notes += [f"tokenizer.{key} is not carried over" for key in ("tokens", "pad_to_multiple_of") if block.get(key)]
        source = block.get("source", "union")
    if source is None or source in ("union", "base"):
        return None if source is None else str(source)
    return _model(source, "tokenizer_source")
