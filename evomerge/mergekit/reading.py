"""From a mergekit configuration to a recipe, and a list of what the recipe does not carry over.

Every parameter is looked up at every tensor as mergekit does it (source, slice, module, whole file; filters,
gradients), and the values are then put into groups. This file knows nothing about tensors' contents.
"""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from evomerge.errors import UsageError, nearest
from evomerge.mergekit.cells import to_groups
from evomerge.mergekit.document import Document, Parameters, Slice, parse
from evomerge.mergekit.references import Named
from evomerge.mergekit.settings import Value, first_set, varies
from evomerge.mergekit.stacks import stack_of, stacks
from evomerge.mergekit.words import KINDS, METHODS, STOCHASTIC, WITHOUT_COUNTERPART
from evomerge.recipes.groups import Layout, place
from evomerge.recipes.recipe import BASE, Recipe
from evomerge.recipes.recipe import Value as RecipeValue

# Parameters whose only use is in mergekit.
_WITHOUT_EFFECT = {"int8_mask": "it has no effect on the result"}
_L1 = ("dare_linear", "dare_ties")  # their default here is another


def needs_layout(data: Any) -> bool:
    """Say whether a configuration can only be read beside a model: it has slices, gradients or filters."""
    document = parse(data)
    scopes = [*document.parameters]
    for one in document.slices:
        scopes += [one.parameters, *(entry.parameters for entry in one.inputs)]
    return document.slices[0].last is not None or any(varies(value) for scope in scopes for value in scope.values())


def models_of(data: Any) -> list[str]:
    """Return the references of the models that a configuration names, the base first."""
    document = parse(data)
    named = [document.base] if document.base else []
    named += [entry.model for one in document.slices for entry in one.inputs]
    return list(dict.fromkeys(one.model for one in named))


def from_mergekit(
    data: Any, layout: Layout | None, *, base: str | None = None, dtype: str | None = None
) -> tuple[Recipe, list[str]]:
    """Return the recipe, and what it does not carry over, one line each.

    Args:
        data: the configuration as plain data.
        layout: the tensors of the models; None will do where `needs_layout` says no.
        base: reference of the base, for a configuration that names none.
        dtype: of the models, for a configuration that names none.

    Raises `UsageError` for what is no configuration, and for one that no recipe describes.
    """
    return _Import(parse(data), layout, base).build(dtype)


class _Import:
    """One import.

    Attributes:
        document: the configuration.
        base: reference of the base of the recipe.
        origin: the model that mergekit takes for the base, if it takes one.
        inputs: the other inputs, in the order of the file.
        labels: their labels.
    """

    def __init__(self, document: Document, layout: Layout | None, base: str | None) -> None:
        self.document, self.name = document, document.method
        self.notes = list(document.notes)
        if self.name in WITHOUT_COUNTERPART:
            raise UsageError(f"mergekit: evomerge has no counterpart of method {self.name!r}")
        if self.name not in METHODS:
            raise UsageError(f"mergekit: unknown merge_method {self.name!r}; {nearest(self.name, METHODS)}")
        self.method = METHODS[self.name]
        self.tensors = ("",) if layout is None else layout.tensors
        self.stacks = {} if layout is None else stacks(layout)
        if layout is not None:
            self.refuse_other_layers()
        self.origin = self.find_origin()
        every = [entry.model for one in document.slices for entry in one.inputs]
        self.inputs = [model for model in dict.fromkeys(every) if model != self.origin]
        self.base = self.find_base(base)
        self.labels = dict(zip(self.inputs, labels(self.inputs, in_order=self.name == "slerp"), strict=True))
        self.refuse_number()

    # ---- who is who --------------------------------------------------------------------------------------------------

    def refuse_other_layers(self) -> None:
        last = self.document.slices[-1].last
        if last is None:
            return
        if len(self.stacks) != 1:
            raise UsageError("mergekit: slices need a model with one stack of layers; use models instead")
        (layers,) = self.stacks.values()
        if last != layers:
            raise UsageError(
                f"mergekit: the slices end at layer {last}, but the models have {layers}: a model with layers left "
                "out cannot be a recipe"
            )

    def find_origin(self) -> Named | None:
        """Return the model that is the base of the arithmetic."""
        slices = self.document.slices
        bases = list(dict.fromkeys(one.base or self.document.base for one in slices))
        if self.method.base == "ignored":
            return None
        if self.method.base == "required" and None in bases:
            raise UsageError(f"mergekit: method {self.name} needs a base_model")
        for one in slices:
            wanted = one.base or self.document.base
            if wanted is not None and all(entry.model != wanted for entry in one.inputs):
                raise UsageError(
                    f"mergekit: base_model {wanted.model} is not among the sources of a slice; add it there"
                )
        if self.name == "slerp":
            pairs = {frozenset(entry.model for entry in one.inputs) for one in slices}
            if len(pairs) > 1 or any(len(one.inputs) != 2 for one in slices):
                raise UsageError("mergekit: slerp must have the same two models, one of them base_model, in all slices")
            if self.document.base is not None and self.document.base not in bases:
                return None  # between two experts: the base has no part in it
            return self.document.base or bases[0]
        if len(bases) > 1:
            raise UsageError("mergekit: slices with different base models cannot be a recipe")
        return bases[0]

    def find_base(self, given: str | None) -> str:
        named = self.document.base or self.origin
        if named is not None:
            if named.adapter is not None:
                raise UsageError("mergekit: the base has a LoRA adapter; merge it into the base first")
            return named.model
        if given is not None:
            return given
        first = self.inputs[0]
        self.note(f"no base_model is named, and {self.name} uses none: {first.model} is taken for the base")
        return first.model

    def refuse_number(self) -> None:
        fewest, most = self.method.models
        for one in self.document.slices:
            count = sum(entry.model != self.origin for entry in one.inputs)
            swap = self.name == "slerp" and self.origin is None
            if not swap and not fewest <= count <= most:
                wanted = f"{fewest}" if fewest == most else f"at least {fewest}"
                raise UsageError(f"mergekit: method {self.name} takes {wanted} models besides the base, not {count}")
        sums = self.method.base != "optional" and "weight" in self.method.per_model
        for model in self.inputs:
            everywhere = all(any(entry.model == model for entry in one.inputs) for one in self.document.slices)
            if not everywhere and not sums and self.name != "passthrough":
                raise UsageError(
                    f"mergekit: {model.model} is in some slices only; with {self.name} no recipe says that"
                )

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # ---- values ------------------------------------------------------------------------------------------------------

    def where(self, tensor: str) -> tuple[Slice, float]:
        """Return the slice that a tensor is part of, and where in its slice it is (see `settings.first_set`)."""
        slices = self.document.slices
        stack = stack_of(tensor) if tensor else None
        if stack is None:
            # mergekit: what comes before the layers belongs to the first slice, what comes after to the last
            return slices[0] if place(tensor).kind == "embeddings" else slices[-1], 0.0
        name, layer = stack
        one = next(one for one in slices if one.last is None or layer < one.last)
        layers = self.stacks[name] if one.last is None else one.last - one.first
        return one, (layer - one.first) / (layers - 1) if layers > 1 else 1.0

    def names_set(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that the file sets anywhere."""
        scopes: list[Parameters] = [*self.document.parameters]
        for one in self.document.slices:
            scopes += [one.parameters, *(entry.parameters for entry in one.inputs)]
        return [name for name in names if any(name in scope for scope in scopes)]

    def of_model(self, name: str, model: Named) -> dict[str, Value]:
        """Return tensor -> value of a parameter that each model has its own of."""
        kind, default = KINDS.get(name, "number"), self.method.per_model[name]
        values: dict[str, Value] = {}
        for tensor in self.tensors:
            one, t = self.where(tensor)
            entry = next((entry for entry in one.inputs if entry.model == model), None)
            if entry is None:
                values[tensor] = default or 0.0  # a weight of 0: it has no part in the sum
                continue
            scopes = (entry.parameters, one.parameters, *self.document.parameters)
            value = first_set(scopes, name, kind, tensor, t)
            if value is None and default is None:
                at = f" at tensor {tensor!r}" if tensor else ""
                raise UsageError(f"mergekit: {name} of {model.model} has no value{at}; mergekit refuses that too")
            values[tensor] = value if value is not None else default if default is not None else 0.0
        return values

    def shared(self, name: str) -> dict[str, Value]:
        """Return tensor -> value of a parameter of all models together."""
        kind, default = KINDS.get(name, "number"), self.method.shared[name]
        values: dict[str, Value] = {}
        for tensor in self.tensors:
            one, t = self.where(tensor)
            value = first_set((one.parameters, *self.document.parameters), name, kind, tensor, t)
            if value is None and default is None:
                raise UsageError(f"mergekit: {name} has no value at tensor {tensor!r}; mergekit refuses that too")
            values[tensor] = value if value is not None else default if default is not None else 0.0
        return values

    # ---- the recipe --------------------------------------------------------------------------------------------------

    def build(self, dtype: str | None) -> tuple[Recipe, list[str]]:
        self.unknown_here()
        given = {
            name: {model: self.of_model(name, model) for model in self.inputs}
            for name, default in self.method.per_model.items()
            if default is None or self.names_set([name])
        }
        options = {
            name: self.shared(name)
            for name, default in self.method.shared.items()
            if name not in _WITHOUT_EFFECT and (default is None or self.names_set([name]))
        }
        method = self.name
        if method == "passthrough":
            method, given, options = self.passthrough(given.get("scale", {}))
        elif "density" in given:
            self.sparsify(given, options)
        if method == "slerp":
            options["t"] = {tensor: self.from_first(tensor, float(t)) for tensor, t in options["t"].items()}
        if self.method.base == "optional" and (self.origin is not None) != (self.name == "nuslerp"):
            options["task_vectors"] = dict.fromkeys(self.tensors, self.origin is not None)
        recipe = Recipe(
            method=method,
            base=self.base,
            experts={label: self.reference(model) for model, label in self.labels.items()},
            parameters={
                name: {self.labels[model]: self.groups(name, values) for model, values in by_model.items()}
                for name, by_model in given.items()
            },
            options={name: self.groups(name, values) for name, values in options.items()},
            dtype=self.dtype(dtype),
            vocabulary=self.vocabulary(),
        )
        return recipe, self.notes

    def groups(self, name: str, values: Mapping[str, Any]) -> dict[str, RecipeValue]:
        return to_groups(values, f"mergekit: {name}")

    def unknown_here(self) -> None:
        """Note parameters that this method does not take, or that do nothing."""
        if any(entry.model == self.origin and entry.parameters for one in self.document.slices for entry in one.inputs):
            self.note("parameters of the base are left out: mergekit does not use them")
        known = (*self.method.per_model, *self.method.shared)
        for one in (*self.document.parameters, *self.scopes()):
            for name in one:
                if name not in known:
                    self.note(f"{name} is left out: mergekit's {self.name} does not use it")
                elif name in _WITHOUT_EFFECT:
                    self.note(f"{name} is left out: {_WITHOUT_EFFECT[name]}")

    def scopes(self) -> list[Parameters]:
        return [
            scope for one in self.document.slices for scope in (one.parameters, *(i.parameters for i in one.inputs))
        ]

    def sparsify(self, given: dict[str, dict[Named, dict[str, Value]]], options: dict[str, dict[str, Value]]) -> None:
        """Turn density and rescale into drop_rate and the recipe's rescale."""
        densities = given.pop("density")
        rescale = options.pop("rescale", None)
        if self.name == "task_arithmetic":
            self.note("density is left out: mergekit's task_arithmetic does not use it")
            return
        given["drop_rate"] = {
            model: {tensor: min(max(round(1.0 - float(value), 12), 0.0), 1.0) for tensor, value in values.items()}
            for model, values in densities.items()
        }
        dropping = {tensor for values in given["drop_rate"].values() for tensor, value in values.items() if value}
        if not dropping:
            return
        default = bool(self.method.shared["rescale"])
        wrong = sorted(t for t in dropping if rescale is not None and rescale[t] != default)
        if wrong:
            at = f" (at tensor {wrong[0]!r})" if wrong[0] else ""
            raise UsageError(
                f"mergekit: rescale: {'false' if default else 'true'}{at} has no counterpart in evomerge; "
                f"{'leave it out and multiply the weight by the density' if default else 'leave it out'}"
            )
        if self.name in _L1:
            options["rescale"] = dict.fromkeys(self.tensors, "l1")  # type: ignore[arg-type]
        if self.name in STOCHASTIC:
            self.note("masks are not carried over: evomerge draws its own, by the recipe's seed")

    def passthrough(self, scale: Mapping[Named, dict[str, Value]]) -> Any:
        """Return method, parameters and options for a copy of one model, or of several, layer by layer."""
        if len(self.inputs) == 1:
            return self.name, {}, {"scale": scale[self.inputs[0]]} if scale else {}
        if any(value != 1.0 for values in scale.values() for value in values.values()):
            raise UsageError("mergekit: passthrough of several models with a scale cannot be a recipe")
        sources = {tensor: self.labels[self.where(tensor)[0].inputs[0].model] for tensor in self.tensors}
        self.note("passthrough of several models is written as linear with every tensor copied from one of them")
        return (
            "linear",
            {"weight": {model: dict.fromkeys(self.tensors, 1.0) for model in self.inputs}},
            {"passthrough": sources},
        )

    def from_first(self, tensor: str, t: float) -> float:
        """Return t as seen from the recipe's first model, where a slice starts from the other."""
        base = self.where(tensor)[0].base or self.document.base
        first = self.origin or min(self.labels, key=lambda model: self.labels[model])
        return t if base == first else 1.0 - t

    def reference(self, model: Named) -> str:
        """Return the reference of an expert."""
        if model.adapter is None:
            return model.model
        if model.model != self.base:
            raise UsageError(
                f"mergekit: the adapter {model.adapter} sits on {model.model}, not on the base {self.base}"
            )
        return model.adapter

    def dtype(self, models: str | None) -> str:
        own, out = self.document.dtype, self.document.out_dtype
        if own != "float32":
            with_ = f"in {own}" if own else "in the models' own dtype"
            self.note(f"dtype: mergekit computes {with_}, evomerge in float32 with one rounding at the end")
        dtype = out or own or models
        if dtype is None:
            self.note("dtype: none is named; bfloat16 is taken")
        return dtype or "bfloat16"

    def vocabulary(self) -> str:
        choice = self.document.tokenizer
        if choice is None:
            return "same"
        if isinstance(choice, str):
            self.note(
                f"vocabulary {choice}: evomerge makes up the rows of tokens that a model lacks in a way of its own"
            )
            return choice
        if choice.model == self.base:
            return "base"
        self.note(
            f"tokenizer_source {choice.model} is not carried over: the base's tokenizer is taken, and the vocabularies "
            "must agree"
        )
        return "same"


def labels(models: list[Named], *, in_order: bool = False) -> list[str]:
    """Return a label for each model, from its name, none twice and none that stands for the base.

    `in_order`: such that they sort in the order of the models.
    """
    names: list[str] = []
    for model in models:
        name = PurePosixPath((model.adapter or model.model).split("@")[0].removeprefix("zoo:")).name or "model"
        number, label = 1, name
        while label in (BASE, *names):
            number += 1
            label = f"{name}-{number}"
        names.append(label)
    if in_order and names != sorted(names):
        return [f"{index}-{label}" for index, label in enumerate(names, 1)]
    return names
