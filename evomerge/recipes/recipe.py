"""The recipe: all it takes to rebuild one merged model, immutable, with a content hash.

    version: 1
    method: dare_linear
    base: zoo:base
    experts: {code: zoo:code, math: zoo:math}
    dtype: bfloat16
    seed: 0
    parameters:
      weight: {code: {all: 0.5}, math: {layers.0-2: 0.9, all: 0.4}}
      drop_rate: {code: {all: 0.1}, math: {all: 0.3}}
    options:
      lambda: {all: 1.0}
      passthrough: {head: base}     # of any method: tensors that are copied from the base or from an expert
    vocabulary: union               # only where tokenizers differ

`parameters` have a value per expert and group, `options` one per group for all experts. A plain value stands for
`{all: value}`, and a plain value in place of a parameter's experts stands for the same value for each. A shape
(`shapes.py`) stands for the groups it gives: `weight: {math: {shape: lines, layers: 24, alpha: 0.3, beta: 0.5}}`.
All this is written out when a recipe is made: what follows, its hash and its YAML form know groups only. This file
knows nothing about what a method does with its parameters, nor whether the models exist: `merging` and `checkpoints`
see to that.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from evomerge.checks import number
from evomerge.errors import UsageError, nearest, refuse_unknown
from evomerge.recipes.groups import ALL, parse_group, value_at
from evomerge.recipes.shapes import SHAPE, expand

RECIPE_VERSION = 1
DTYPES = ("bfloat16", "float16", "float32")
VOCABULARIES = ("same", "base", "union", "intersection")

#: The option of every method that names the model whose tensors are copied; the base is "base", "" is none.
PASSTHROUGH = "passthrough"
BASE = "base"

Value = float | bool | str
GroupValues = Mapping[str, Value]

_KEYS = ("version", "method", "base", "experts", "dtype", "seed", "parameters", "options", "vocabulary")


@dataclass(frozen=True)
class Recipe:
    """One merge, fully determined.

    Attributes:
        method: name of a merge method.
        base: reference of the common ancestor (a directory, `hub/id@revision`, or `zoo:name`).
        experts: label -> reference. Labels key the DARE masks and give the order of summation (sorted).
        parameters: parameter name -> expert label -> group -> value.
        options: option name -> group -> value.
        dtype: the type the merged tensors are rounded to, one of `DTYPES`.
        seed: seed of the DARE masks.
        vocabulary: whose tokens the merged model has where the models' tokenizers differ, one of `VOCABULARIES`;
            "same": they must not differ.
    """

    method: str
    base: str
    experts: Mapping[str, str]
    parameters: Mapping[str, Mapping[str, GroupValues]] = field(default_factory=dict)
    options: Mapping[str, GroupValues] = field(default_factory=dict)
    dtype: str = "bfloat16"
    seed: int = 0
    vocabulary: str = "same"

    def __post_init__(self) -> None:
        """Normalise the shorthands and refuse what cannot be a recipe (`UsageError`)."""
        if not self.experts:
            raise UsageError("recipe: no experts; name at least one as 'label: reference'")
        for label in self.experts:
            if not isinstance(label, str) or not label or "/" in label:
                raise UsageError(f"recipe: expert label {label!r} must be a non-empty text without '/'")
        if self.dtype not in DTYPES:
            raise UsageError(f"recipe: dtype {self.dtype!r} is none of {', '.join(DTYPES)}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise UsageError(f"recipe: seed {self.seed!r} must be a whole number >= 0")
        if self.vocabulary not in VOCABULARIES:
            raise UsageError(f"recipe: vocabulary {self.vocabulary!r} is none of {', '.join(VOCABULARIES)}")
        object.__setattr__(self, "experts", dict(sorted(self.experts.items())))
        parameters = {}
        for name, by_expert in sorted(self.parameters.items(), key=_name):
            by_expert = _by_expert(by_expert, self.experts)
            refuse_unknown(by_expert, self.experts, f"recipe: parameter {name!r} by expert")
            missing = [label for label in self.experts if label not in by_expert]
            if missing:
                raise UsageError(f"recipe: parameter {name!r} has no value for expert {missing[0]!r}")
            parameters[name] = {label: _groups(by_expert[label], f"{name}.{label}") for label in self.experts}
        object.__setattr__(self, "parameters", parameters)
        options = {name: _groups(values, name) for name, values in sorted(self.options.items(), key=_name)}
        object.__setattr__(self, "options", options)
        _check_passthrough(options.get(PASSTHROUGH, {}), self.experts)

    def parameter(self, name: str, expert: str, tensor: str) -> Value:
        """Return the value of a per-expert parameter at a tensor; `KeyError` if the recipe does not set it."""
        return value_at(self.parameters[name][expert], tensor)

    def option(self, name: str, tensor: str) -> Value:
        """Return the value of an option at a tensor; `KeyError` if the recipe does not set it."""
        return value_at(self.options[name], tensor)

    def with_(self, **changes: Any) -> "Recipe":
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    @cached_property
    def hash(self) -> str:
        """The content hash: 16 hexadecimal digits of SHA-256 over the canonical form."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        """Hash by content, so that recipes can be keys."""
        return int(self.hash, 16)

    # ---- YAML ----------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data, in the order of the YAML form; the default vocabulary is left out."""
        vocabulary = {} if self.vocabulary == "same" else {"vocabulary": self.vocabulary}
        return {
            "version": RECIPE_VERSION,
            "method": self.method,
            "base": self.base,
            "experts": dict(self.experts),
            "dtype": self.dtype,
            "seed": self.seed,
            "parameters": {n: {e: dict(g) for e, g in v.items()} for n, v in self.parameters.items()},
            "options": {name: dict(values) for name, values in self.options.items()},
            **vocabulary,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Recipe":
        """Make a recipe from plain data; `UsageError` for unknown keys, a wrong version or wrong types."""
        if not isinstance(data, Mapping):
            raise UsageError("recipe: expected a mapping with keys " + ", ".join(_KEYS))
        refuse_unknown(data, _KEYS, "recipe")
        if data.get("version", RECIPE_VERSION) != RECIPE_VERSION:
            raise UsageError(
                f"recipe: version {data['version']!r} is not supported; this evomerge reads {RECIPE_VERSION}"
            )
        for key in ("method", "base", "experts"):
            if key not in data:
                raise UsageError(f"recipe: key {key!r} is missing")
        for key in ("method", "base"):
            if not isinstance(data[key], str):
                raise UsageError(f"recipe: {key} must be a text, not {data[key]!r}")
        for key in ("experts", "parameters", "options"):
            if not isinstance(data.get(key, {}), Mapping):
                raise UsageError(f"recipe: {key} must be a mapping, not {data[key]!r}")
        return cls(**{key: data[key] for key in _KEYS if key in data and key != "version"})

    def to_yaml(self) -> str:
        """Return the YAML form; `from_yaml` gives the same recipe back."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)

    @classmethod
    def from_yaml(cls, text: str) -> "Recipe":
        """Read the YAML form."""
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"recipe: not valid YAML: {' '.join(str(error).split())}") from None
        return cls.from_dict(data)

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a recipe file; every refusal names the file."""
        try:
            return cls.from_yaml(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"recipe {path}: cannot be read: {error}") from None
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None


def _name(item: tuple[Any, Any]) -> str:
    return str(item[0])


def _by_expert(values: Any, experts: Mapping[str, str]) -> Mapping[str, Any]:
    """Return `values` as expert -> value, a plain value or a shape standing for every expert."""
    by_expert = isinstance(values, Mapping) and (SHAPE not in values or SHAPE in experts)
    return values if by_expert else dict.fromkeys(experts, values)


def _groups(values: Any, where: str) -> dict[str, Value]:
    """Return `values` as group -> value, a plain value standing for all groups and a shape for its own."""
    if not isinstance(values, Mapping):
        values = {ALL: values}
    elif SHAPE in values:
        values = expand(values, f"recipe: {where}")
    if not values:
        raise UsageError(f"recipe: {where} has no value")
    result: dict[str, Value] = {}
    for group, value in sorted(values.items(), key=_name):
        parse_group(str(group))
        if isinstance(value, bool | str):
            result[str(group)] = value
            continue
        if not isinstance(value, int | float):
            raise UsageError(f"recipe: {where}.{group} must be a number, true/false or a text, not {value!r}")
        result[str(group)] = number(value, f"recipe: {where}.{group}")
    return result


def _check_passthrough(values: GroupValues, experts: Mapping[str, str]) -> None:
    """Refuse labels that name no model, and the label that names two."""
    models = (BASE, *experts)
    for group, label in values.items():
        if label not in ("", *models):
            raise UsageError(
                f"recipe: {PASSTHROUGH}.{group}: there is no model {label!r}; {nearest(str(label), models)}"
            )
        if label == BASE and BASE in experts:
            raise UsageError(
                f"recipe: {PASSTHROUGH}.{group}: 'base' is also an expert's label; give the expert another"
            )
