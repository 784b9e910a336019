"""From a recipe to a configuration that mergekit-yaml runs, and a list of what mergekit cannot be told.

mergekit's own arithmetic in float32, then one rounding, is what a recipe means: `dtype: float32`, `out_dtype` the
recipe's. Values that differ between groups become lists of filters. This file knows nothing about tensors' contents.
"""

import math
from collections.abc import Mapping
from typing import Any

from evomerge.errors import UsageError, refuse_unknown
from evomerge.mergekit.filters import conditions
from evomerge.mergekit.references import is_local_adapter, revision_of, to_reference
from evomerge.mergekit.stacks import stacks
from evomerge.mergekit.words import KINDS, METHODS, STOCHASTIC, MergekitMethod
from evomerge.merging.methods import density
from evomerge.recipes.groups import ALL, Layout, value_at
from evomerge.recipes.recipe import BASE, PASSTHROUGH, GroupValues, Recipe, Value

#: tensor -> value
_Values = dict[str, Value]

# Options of a recipe that are no parameters of mergekit's; each has a place of its own below.
_OWN_OPTIONS = ("elect", "floor", "rescale", "scale", "task_vectors", "trim")
_OURS = {"density": "drop_rate"}
# What a recipe means that does not say.
_TASK_VECTORS = {"nuslerp": True, "multislerp": False}
_SCE_FLOOR = 1e-6
_COPIES = "passthrough of chosen tensors"


def to_mergekit(recipe: Recipe, layout: Layout) -> tuple[dict[str, Any], list[str]]:
    """Return the configuration as plain data, and what it does not carry over, one line each.

    Args:
        recipe: one that can be built for models of this layout.
        layout: the tensors of the models.

    Raises `UsageError` where nothing near to the recipe can be written: a method that mergekit lacks, an option that
    mergekit has for the whole model only and the recipe sets by group.
    """
    return _Export(recipe, layout).build()


class _Export:
    """One export.

    Attributes:
        name, method: mergekit's method.
        given: parameter -> label -> tensor -> value, as far as the recipe sets them.
        options: option -> tensor -> value, likewise.
        copied: tensor -> the model it is copied from ("base" or a label), where it is.
    """

    def __init__(self, recipe: Recipe, layout: Layout) -> None:
        self.recipe, self.layout = recipe, layout
        self.notes: list[str] = []
        self.given = {
            name: {label: self.values(groups) for label, groups in by_expert.items()}
            for name, by_expert in recipe.parameters.items()
        }
        copied = {ALL: "", **recipe.options.get(PASSTHROUGH, {})}
        self.copied = {tensor: value for tensor, value in self.values(copied).items() if value}
        self.options = {name: self.values(g) for name, g in recipe.options.items() if name != PASSTHROUGH}
        self.name = recipe.method
        if self.name == "metrics_weighted":
            self.metrics_to_weights()
        if self.name not in METHODS:
            raise UsageError(
                f"mergekit has no method {self.name!r}, nor one that equals it; it has {', '.join(METHODS)}"
            )
        self.method: MergekitMethod = METHODS[self.name]

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def values(self, groups: GroupValues) -> _Values:
        return {tensor: value_at(groups, tensor) for tensor in self.layout.tensors}

    def option(self, name: str, default: Value) -> set[Value]:
        """Return the values that an option has anywhere."""
        return set(self.options[name].values()) if name in self.options else {default}

    def metrics_to_weights(self) -> None:
        """Turn metrics-weighted averaging into the linear merge that it is."""
        metrics = self.given.pop("metric", {})
        powers, better = self.options.pop("power", {}), self.options.pop("better", {})
        weights: dict[str, _Values] = {label: {} for label in metrics}
        for tensor in self.layout.tensors:
            sign = 1.0 if better.get(tensor) == "larger" else -1.0
            power = sign * float(powers.get(tensor, 1.0))
            logs = {label: power * math.log(float(values[tensor])) for label, values in metrics.items()}
            for label, log in logs.items():
                weights[label][tensor] = math.exp(log - max(logs.values()))
        self.name, self.given["weight"] = "linear", weights
        self.note("metrics_weighted is written as linear, with the weights that follow from the metrics")

    # ---- the parts of the file ---------------------------------------------------------------------------------------

    def build(self) -> tuple[dict[str, Any], list[str]]:
        self.refuse_same_models()
        models, shared = self.per_model(), self.shared()
        _say_once(models, shared)
        self.own_options()
        data: dict[str, Any] = {"merge_method": self.name, **self.inputs(models)}
        if shared:
            data["parameters"] = shared
        data |= {"dtype": "float32", "out_dtype": self.recipe.dtype}
        self.vocabulary(data)
        self.models()
        return data, self.notes

    def refuse_same_models(self) -> None:
        """Refuse models that mergekit would take for one."""
        seen: dict[str, str] = {self.recipe.base: "the base"} if self.takes_base() else {}
        for label, reference in self.recipe.experts.items():
            if reference in seen:
                raise UsageError(
                    f"expert {label!r} is the same model as {seen[reference]}; mergekit takes a model once"
                )
            seen[reference] = f"expert {label!r}"

    def per_model(self) -> dict[str, dict[str, Any]]:
        """Return label -> mergekit's parameters of that model."""
        known = [_OURS.get(name, name) for name in self.method.per_model if name != "scale"]
        refuse_unknown(self.given, known, f"recipe: method {self.name}: parameters")
        result: dict[str, dict[str, Any]] = {label: {} for label in self.recipe.experts}
        for name, by_expert in self.given.items():
            for label, values in by_expert.items():
                if name == "drop_rate":
                    values = {tensor: density(float(value)) for tensor, value in values.items()}
                word = "density" if name == "drop_rate" else name
                result[label][word] = conditions({**values, **self.copies(word, label)})
        if "scale" in self.options:
            for parameters in result.values():
                parameters["scale"] = conditions(self.options["scale"])
        return result

    def shared(self) -> dict[str, Any]:
        """Return mergekit's parameters of all models together."""
        known = (*self.method.shared, *_OWN_OPTIONS)
        refuse_unknown(self.options, known, f"recipe: method {self.name}: options")
        result: dict[str, Any] = {}
        for name in self.method.shared:
            if name in self.options and name != "rescale":
                values = {**self.options[name], **self.copies(name, "")}
                if KINDS.get(name) == "whole":
                    values = {tensor: int(value) for tensor, value in values.items()}
                result[name] = conditions(values)
        return result

    def copies(self, word: str, label: str) -> _Values:
        """Return the values of a parameter that make a sum of models copy one of them, where one is to be copied."""
        if not self.can_copy or word not in ("weight", "density", "lambda"):
            return {}
        return {tensor: float(label == source) if word == "weight" else 1.0 for tensor, source in self.copied.items()}

    @property
    def can_copy(self) -> bool:
        return "normalize" in self.method.shared and (
            self.method.base == "required" or BASE not in self.copied.values()
        )

    def own_options(self) -> None:
        """Say what becomes of the options that mergekit has no word for."""
        drops = any(any(values.values()) for values in self.given.get("drop_rate", {}).values())
        if self.copied and self.can_copy:
            self.note(f"{_COPIES} is written as weights of 1 and 0, which is equal but for rounding")
        elif self.copied:
            some = next(iter(self.copied))
            self.note(f"{_COPIES} is not carried over: mergekit merges them too ({len(self.copied)}, as {some})")
        if drops and "model" in self.option("trim", "tensor"):
            self.note("trim: model is not carried over: mergekit trims each tensor by itself")
        if len(self.recipe.experts) > 1 and "unweighted" in self.option("elect", "weighted"):
            self.note("elect: unweighted is not carried over: mergekit weighs task vectors before it elects signs")
        if drops and self.name in STOCHASTIC:
            if "inv_keep" in self.option("rescale", "inv_keep" if self.name.startswith("dare") else "l1"):
                self.note(
                    "rescale: inv_keep is not carried over: mergekit restores the L1 norm instead (rescale: true)"
                )
            self.note(
                f"seed {self.recipe.seed} and its masks are not carried over: mergekit draws its own, from torch's "
                "global generator (mergekit-yaml --random-seed N)"
            )
        if self.option("floor", _SCE_FLOOR) != {_SCE_FLOOR}:
            self.note(f"floor is not carried over: in mergekit it is always {_SCE_FLOOR:g}")

    def inputs(self, models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return `models` or `slices`, and `base_model`.

        In `models` mergekit adds the base as one more input, which a method that has no use for a base must not get; in
        `slices` it does not, and the base still gives config and tokenizer.
        """
        base = to_reference(self.recipe.base)
        entries = [
            {
                "model": to_reference(reference, self.recipe.base),
                **({"parameters": own} if (own := models[label]) else {}),
            }
            for label, reference in self.recipe.experts.items()
        ]
        if self.takes_base():
            return {"base_model": base, "models": entries}
        first = entries[0]["model"]
        ends = {"base_model": first} if self.name == "slerp" else {}
        counts = stacks(self.layout)
        if self.method.base == "optional" or len(counts) != 1:
            self.note("the base is not carried over: config and tokenizer come from one of the experts")
            return {**ends, "models": entries}
        layers = next(iter(counts.values()))
        sources = [{"model": entry["model"], "layer_range": [0, layers], **_parameters(entry)} for entry in entries]
        return {"base_model": base, "slices": [{**ends, "sources": sources}]}

    def takes_base(self) -> bool:
        """Say whether the base is an input of the merge."""
        if self.name == "slerp":
            return len(self.recipe.experts) == 1
        if self.method.base != "optional":
            return self.method.base == "required"
        choices = self.option("task_vectors", _TASK_VECTORS[self.name])
        if len(choices) > 1:
            raise UsageError(
                f"option task_vectors varies by group, but mergekit's {self.name} works on task vectors in the "
                "whole model (with a base_model) or nowhere; give it one value"
            )
        return bool(choices.pop())

    def vocabulary(self, data: dict[str, Any]) -> None:
        choice = self.recipe.vocabulary
        if choice == "intersection":
            raise UsageError("vocabulary: mergekit has no intersection; write base or union")
        if choice == "same":
            return
        if "base_model" not in data:
            raise UsageError(
                f"vocabulary {choice}: mergekit has to know the base for it, which {self.name} without one cannot give"
            )
        data["tokenizer_source"] = choice
        self.note(f"vocabulary {choice}: mergekit makes up the rows of tokens that a model lacks in a way of its own")

    def models(self) -> None:
        """Say what mergekit does differently with some references."""
        for reference in (self.recipe.base, *self.recipe.experts.values()):
            if revision := revision_of(reference):
                self.note(
                    f"revision {revision!r} is written, but mergekit 0.1.5 downloads the weights of the default branch"
                )
        if any(map(is_local_adapter, self.recipe.experts.values())):
            self.note(
                "LoRA experts: run mergekit-yaml with --lora-merge-cache DIR and --lora-merge-dtype float32; it merges "
                "each adapter into the base first"
            )


def _say_once(models: Mapping[str, dict[str, Any]], shared: dict[str, Any]) -> None:
    """Move settings that all of several models have alike to the shared ones."""
    first, *others = models.values()
    for name, setting in dict(first).items():
        if others and all(own[name] == setting for own in others):
            shared[name] = setting
            for own in models.values():
                del own[name]


def _parameters(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"parameters": entry["parameters"]} if "parameters" in entry else {}
