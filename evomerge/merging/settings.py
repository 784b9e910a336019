"""From a recipe to the values that hold at one tensor, and whether a recipe can be built at all.

This file knows recipes, the layout of a model and what methods declare; no tensors.
"""

import math
from collections.abc import Iterator, Mapping

from evomerge.errors import UsageError, refuse_unknown
from evomerge.merging.methods import PASSTHROUGH, Method, Parameter, Settings, get
from evomerge.recipes import Layout, Recipe
from evomerge.recipes.groups import ALL, parse_group, value_at
from evomerge.recipes.recipe import GroupValues, Value


def check(recipe: Recipe, layout: Layout) -> dict[str, Settings]:
    """Return the values at each tensor; refuse (`UsageError`) a recipe that cannot be built for models of this layout.

    See `resolve` and `clash`.
    """
    values = resolve(recipe, layout)
    reason = clash(recipe, values)
    if reason:
        raise UsageError(reason)
    return values


def resolve(recipe: Recipe, layout: Layout) -> dict[str, Settings]:
    """Return the values at each tensor; refuse (`UsageError`) what is no recipe for its method and for this layout.

    Unknown methods, parameters and options (the nearest known is named), missing and out-of-bounds values, too few or
    too many experts, tensors that no group holds, groups that overlap.
    """
    method = get(recipe.method)
    where = f"recipe: method {method.name}: "
    options = (*method.options, PASSTHROUGH)
    refuse_unknown(recipe.parameters, [p.name for p in method.parameters], where + "parameters")
    refuse_unknown(recipe.options, [p.name for p in options], where + "options")
    fewest, most = method.experts
    if not fewest <= len(recipe.experts) <= most:
        count = f"{fewest}" if fewest == most else f"at least {fewest}" if most == math.inf else f"{fewest} to {most}"
        raise UsageError(f"{where}merges {count} expert{'' if count == '1' else 's'}, not {len(recipe.experts)}")
    for parameter in method.parameters:
        for label, groups in recipe.parameters.get(parameter.name, {}).items():
            for group, value in groups.items():
                _refuse(parameter, value, f"{where}{parameter.name}.{label}.{group}")
    for option in options:
        for group, value in recipe.options.get(option.name, {}).items():
            _refuse(option, value, f"{where}{option.name}.{group}")
    for name, groups in _all_groups(recipe):
        for group in groups:
            last = parse_group(group).last
            if last is not None and last >= layout.layers:
                raise UsageError(f"{where}{name}: group {group!r}: the models have {layout.layers} layers, 0 the first")
    return {tensor: settings(recipe, method, tensor) for tensor in layout.tensors}


def _all_groups(recipe: Recipe) -> Iterator[tuple[str, GroupValues]]:
    for name, by_expert in recipe.parameters.items():
        for label, groups in by_expert.items():
            yield f"{name}.{label}", groups
    yield from recipe.options.items()


def clash(recipe: Recipe, values: Mapping[str, Settings]) -> str | None:
    """Return why the values of a recipe, each of them good, cannot be built together, or None if they can.

    In a search that is the bad luck of one candidate, not a mistake of the user's.
    """
    method = get(recipe.method)
    for tensor, at in values.items():
        reason = None if at.options[PASSTHROUGH.name] else method.refusal(at)
        if reason:
            return f"recipe: method {method.name}: tensor {tensor!r}: {reason}"
    return None


def settings(recipe: Recipe, method: Method, tensor: str) -> Settings:
    """Return the values of a recipe at a tensor, with the method's defaults; `UsageError` where one is missing."""
    parameters = tuple(
        {
            p.name: _value(p, recipe.parameters.get(p.name, {}).get(label), tensor, f"{p.name}.{label}")
            for p in method.parameters
        }
        for label in recipe.experts
    )
    options = {p.name: _value(p, recipe.options.get(p.name), tensor, p.name) for p in (*method.options, PASSTHROUGH)}
    return Settings(parameters, options)


def _value(parameter: Parameter, groups: GroupValues | None, tensor: str, where: str) -> Value:
    if groups is None:
        if parameter.default is None:
            raise UsageError(f"recipe: parameter {where} has no value; give it one ({parameter.meaning})")
        return parameter.default
    if parameter is PASSTHROUGH:  # it names the tensors it is about, the others are merged
        groups = {ALL: "", **groups}
    try:
        return value_at(groups, tensor)
    except UsageError as error:
        raise UsageError(f"recipe: {where}: {error}") from None


def _refuse(parameter: Parameter, value: Value, where: str) -> None:
    reason = parameter.refusal(value)
    if reason:
        raise UsageError(f"{where}: {reason}")
