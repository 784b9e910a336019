"""The search space: named, bounded parameters, and the map between a vector in the unit cube and a recipe.

    methods: [dare_linear]
    granularity: 2            # global | layer | k layers a block
    split: false              # attention / mlp / rest apart
    own: [embeddings, norms, head]
    parameters:               # searched for each expert
      weight: {low: 0.0, high: 1.5}
      drop_rate: {low: 0.0, high: 0.9, granularity: global}
    options:                  # searched for all experts together: one value for the whole model, unless
      lambda: {low: 0.5, high: 2.0}
      t: {low: 0.0, high: 1.0, granularity: layer}    # granularity, split or own is given here
      rescale: {choices: [inv_keep, l1]}

A plain value, or a value for each of some groups (`passthrough: {head: base}`), is fixed: the same in every candidate.
A shape (`shapes.py`) is searched by its few numbers instead of a value for each group; a number of lines may be fixed,
or have bounds of its own instead of the shape's `low` and `high`:

      weight: {shape: lines, alpha: {low: 0.0, high: 1.0}, beta: {low: 0.0, high: 1.0}}
      weight: {shape: gradient, anchors: 4, low: 0.0, high: 1.5}

A parameter that a chosen method does not know is left out of the recipe. With `importance: false` the dimensions do not
say how large the task vectors are where they act; `refine` is the business of `stages.py`. This file knows nothing
about optimizers or scores, and about methods only the names and defaults of their parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.checks import number, whole
from evomerge.errors import UsageError, nearest, refuse_unknown
from evomerge.recipes import shapes
from evomerge.recipes.dimension import Dimension
from evomerge.recipes.groups import ALL, OUTSIDE, Layout, parse_group, value_at
from evomerge.recipes.importance import SquaredNorms, importances
from evomerge.recipes.profiles import At, ByGroup, ByShape, Curve, Fixed, Profile
from evomerge.recipes.recipe import PASSTHROUGH, GroupValues, Recipe, Value

_KEYS = ("methods", "granularity", "split", "own", "importance", "refine", "parameters", "options")
#: The keys that say which tensors share one value.
DIVIDING = ("granularity", "split", "own")
_RANGE_KEYS = ("low", "high", *DIVIDING)
_CHOICE_KEYS = ("choices", *DIVIDING)

# A method that, with its extra parameters at `NEUTRAL`, builds the same bits as others: with nothing dropped, neither
# how survivors are rescaled nor which elements would go first (epsilon, gamma) plays a part.
SPECIAL_CASE_OF: Mapping[str, tuple[str, ...]] = {"task_arithmetic": ("dare_linear", "breadcrumbs", "della_linear")}
NEUTRAL: Mapping[str, float] = {"drop_rate": 0.0}


@dataclass(frozen=True)
class _Entry:
    """A parameter of one expert, or an option (expert None)."""

    name: str
    expert: str | None
    profile: Profile


class SearchSpace:
    """The recipes that a search may propose, as a box of dimensions.

    The arguments are attributes too.

    Args:
        base: reference of the base model, as it goes into every recipe.
        experts: label -> reference.
        layout: the tensors of the models.
        config: plain data with the keys shown at the head of this file; unknown keys are a `UsageError`.
        method_parameters: method -> per-expert parameter or option -> its default, None if a recipe must set it.
        seed: mask seed of every recipe of the search.
        dtype: dtype of every recipe.
        vocabulary: whose tokens every recipe's model has.
        squared_norms: of the experts' task vectors, from which the dimensions have their importance; None: unknown.
    """

    def __init__(
        self,
        *,
        base: str,
        experts: Mapping[str, str],
        layout: Layout,
        config: Mapping[str, Any],
        method_parameters: Mapping[str, Mapping[str, Value | None]],
        seed: int = 0,
        dtype: str = "bfloat16",
        vocabulary: str = "same",
        squared_norms: SquaredNorms | None = None,
    ) -> None:
        refuse_unknown(config, _KEYS, "space")
        if not isinstance(config.get("importance", True), bool):
            raise UsageError(f"space.importance: write true or false, not {config['importance']!r}")
        if config.get("refine"):
            raise ValueError("a space is one stage of a search: build one for each of recipes.stages(config)")
        self.config, self.squared_norms = config, squared_norms
        self.base, self.experts, self.layout = base, dict(sorted(experts.items())), layout
        self._outline = layout.outline  # no group is finer: what holds for its few tensors holds for all
        self.seed, self.dtype, self.vocabulary = seed, dtype, vocabulary
        methods = config.get("methods", ["dare_linear"])
        if isinstance(methods, str):
            raise UsageError(f"space.methods: write a list, [{methods}]")
        self.methods = tuple(methods)
        if not self.methods:
            raise UsageError("space: methods is empty; name at least one")
        refuse_unknown(self.methods, method_parameters, "space.methods")
        self.method_parameters = method_parameters
        parameters, options = config.get("parameters") or {}, config.get("options") or {}
        known = {name for method in self.methods for name in method_parameters[method]}
        refuse_unknown([*parameters, *options], known, "space: " + "/".join(self.methods))
        self._choice = Dimension("method", "method", choices=self.methods) if len(self.methods) > 1 else None
        self._entries = [
            _Entry(name, expert, self._profile(name, expert, data, config))
            for name, data in parameters.items()
            for expert in self.experts
        ]
        self._entries += [_Entry(name, None, self._profile(name, None, data, config)) for name, data in options.items()]
        found = [dimension for entry in self._entries for dimension in self._described(entry)]
        self.dimensions: tuple[Dimension, ...] = (*([self._choice] if self._choice else []), *found)
        if not self.dimensions:
            raise UsageError("space: nothing to search; give at least one parameter a {low, high}")

    def __len__(self) -> int:
        """The number of dimensions."""
        return len(self.dimensions)

    def with_config(self, config: Mapping[str, Any]) -> "SearchSpace":
        """Return the space of the same models with another configuration."""
        return SearchSpace(
            base=self.base,
            experts=self.experts,
            layout=self.layout,
            config=config,
            method_parameters=self.method_parameters,
            seed=self.seed,
            dtype=self.dtype,
            vocabulary=self.vocabulary,
            squared_norms=self.squared_norms,
        )

    def recipe(self, vector: Sequence[float]) -> Recipe:
        """Return the recipe at a point of the unit cube (len(self) coordinates)."""
        if len(vector) != len(self):
            raise ValueError(f"expected {len(self)} coordinates, got {len(vector)}")
        values = [dimension.value(u) for dimension, u in zip(self.dimensions, vector, strict=True)]
        method = str(values.pop(0)) if self._choice else self.methods[0]
        parameters: dict[str, dict[str, GroupValues]] = {}
        options: dict[str, GroupValues] = {}
        for entry in self._entries:
            count = len(entry.profile.dimensions)
            own, values = values[:count], values[count:]
            if entry.name not in self.method_parameters[method]:
                continue
            groups = entry.profile.groups(own)
            if entry.expert is None:
                options[entry.name] = groups
            else:
                parameters.setdefault(entry.name, {})[entry.expert] = groups
        return self._made(method, parameters, options)

    def uniform(self, method: str, weights: Mapping[str, float]) -> Recipe:
        """Return the recipe that gives each expert one weight everywhere (label -> weight).

        A method without weights gets none.
        """
        weighted = "weight" in self.method_parameters.get(method, {"weight": None})
        by_expert = {expert: {ALL: weights[expert]} for expert in self.experts}
        return self._made(method, {"weight": by_expert} if weighted else {}, {})

    def probes(self) -> list[Recipe]:
        """Return recipes in which every method, every choice and both bounds of every dimension occur.

        If these have only values that their methods take, so has every recipe of the space.
        """
        most = max(2, *(len(dimension.choices) for dimension in self.dimensions))
        made = []
        for method in range(len(self.methods)):
            for turn in range(most):
                vector = [
                    (turn % len(d.choices) + 0.5) / len(d.choices) if d.choices else float(turn > 0)
                    for d in self.dimensions
                ]
                if self._choice:
                    vector[0] = (method + 0.5) / len(self.methods)
                made.append(self.recipe(vector))
        return made

    def vector(self, recipe: Recipe) -> tuple[float, ...] | None:
        """Return the point of the unit cube where `recipe` lies, or None if it lies outside this space.

        The inverse of `recipe`, up to rounding; also finds recipes written with other groups or with a special case of
        the method (task arithmetic is DARE with nothing dropped), so that baselines can be told to an optimizer.
        Dimensions that the recipe's method does not know are in the middle, or where they are neutral.
        """
        candidates = (recipe.method, *SPECIAL_CASE_OF.get(recipe.method, ()))
        method = next((name for name in candidates if name in self.methods), None)
        same = (self.base, self.experts, self.seed, self.dtype, self.vocabulary)
        if method is None or (recipe.base, recipe.experts, recipe.seed, recipe.dtype, recipe.vocabulary) != same:
            return None
        units = [] if self._choice is None else [self._choice.unit(method)]
        try:
            if not self._rest_is_default(recipe, method):
                return None
            for entry in self._entries:
                found = self._units(recipe, entry, method)
                if found is None:
                    return None
                units += found
        except UsageError:  # a tensor in no group, or in two
            return None
        return tuple(unit for unit in units if unit is not None)

    # ---- from configuration to profiles --------------------------------------------------------------------------

    def _profile(self, name: str, expert: str | None, data: Any, config: Mapping[str, Any]) -> Profile:
        where = f"space.{'options' if expert is None else 'parameters'}.{name}"
        stem = name if expert is None else f"{name}.{expert}"
        if not isinstance(data, Mapping):
            return Fixed({ALL: _value(data, where, text=expert is None)}, self._outline)
        if data and all(_is_group(key) for key in data):
            values = {group: _value(value, f"{where}.{group}", text=expert is None) for group, value in data.items()}
            return Fixed(values, self._outline, elsewhere="" if name == PASSTHROUGH else None)
        if shapes.SHAPE in data:
            return self._shape(name, expert, stem, data, where)
        low, high = 0.0, 1.0
        choices: tuple[Value, ...] = ()
        if "choices" in data:
            choices = _choices(data, where, text=expert is None)
        else:
            refuse_unknown(data, _RANGE_KEYS, where)
            low, high = _bounds(data, where)
        if expert is None and not any(key in data for key in DIVIDING):
            groups: list[str | None] = [None]
        else:
            groups = [
                *self._outline.divide(
                    data.get("granularity", "global" if expert is None else config.get("granularity", "global")),
                    split=bool(data.get("split", config.get("split", False))),
                    own=tuple(data.get("own", config.get("own", OUTSIDE))),
                )
            ]
        return ByGroup(
            tuple(
                Dimension(stem if group is None else f"{stem}.{group}", name, expert, group, low, high, choices)
                for group in groups
            ),
            self._outline,
        )

    def _shape(self, name: str, expert: str | None, stem: str, data: Mapping[str, Any], where: str) -> ByShape:
        shape, layers = str(data[shapes.SHAPE]), self._outline.layers
        if shape not in _SHAPE_KEYS:
            hint = "search each value instead (granularity: layer)" if shape == "swap" else nearest(shape, _SHAPE_KEYS)
            raise UsageError(f"{where}: shape {shape!r} cannot be searched; {hint}")
        where = f"{where}: shape {shape}"
        refuse_unknown(data, (shapes.SHAPE, *_SHAPE_KEYS[shape], "low", "high"), where)
        if layers < 2:
            raise UsageError(f"{where}: needs two layers, and the models have {layers}")
        bounds = {key: data[key] for key in ("low", "high") if key in data}
        if shape == "lines":
            curve, numbers = _lines(layers), {key: data.get(key, bounds) for key in _SHAPE_KEYS[shape]}
        else:
            anchors = whole(data.get("anchors"), f"{where}: anchors", least=2)
            if anchors > layers:
                raise UsageError(f"{where}: {anchors} anchors are more than the models' {layers} layers")
            curve, numbers = _gradient(layers), {f"anchors.{anchor}": bounds for anchor in range(anchors)}
        made: list[Dimension | float] = []
        for key, given in numbers.items():
            if isinstance(given, Mapping):
                refuse_unknown(given, ("low", "high"), f"{where}: {key}")
                low, high = _bounds(given, f"{where}: {key}")
                made.append(Dimension(f"{stem}.{key}", name, expert, None, low, high))
            else:
                made.append(number(given, f"{where}: {key}"))
        return ByShape(tuple(made), curve, self._outline)

    def _described(self, entry: _Entry) -> list[Dimension]:
        """The dimensions of an entry, with the methods that know them and their importance."""
        knowing = tuple(method for method in self.methods if entry.name in self.method_parameters[method])
        methods = () if len(knowing) == len(self.methods) else knowing
        known = self.squared_norms if self.config.get("importance", True) else None
        sizes = importances(entry.profile, self._outline, known, entry.expert)
        return [
            replace(dimension, methods=methods, importance=size)
            for dimension, size in zip(entry.profile.dimensions, sizes, strict=True)
        ]

    # ---- from recipes to vectors ---------------------------------------------------------------------------------

    def _made(
        self, method: str, parameters: Mapping[str, Mapping[str, GroupValues]], options: Mapping[str, GroupValues]
    ) -> Recipe:
        return Recipe(
            method=method,
            base=self.base,
            experts=self.experts,
            parameters=parameters,
            options=options,
            dtype=self.dtype,
            vocabulary=self.vocabulary,
            seed=self.seed,
        )

    def _units(self, recipe: Recipe, entry: _Entry, method: str) -> list[float | None] | None:
        """The coordinates of an entry's dimensions; None if the recipe has values that the entry cannot have."""
        middle: list[float | None] = [0.5] * len(entry.profile.dimensions)
        by_expert = recipe.options if entry.expert is None else recipe.parameters
        if entry.name in by_expert:
            at = _at(recipe, entry.name, entry.expert)
        else:
            known = self.method_parameters.get(recipe.method, {})
            default = known[entry.name] if entry.name in known else NEUTRAL.get(entry.name)
            if default is None:
                return None if entry.name in known else middle
            at = _constant(default)
        units = entry.profile.units(at)
        if units is None and entry.name not in self.method_parameters[method]:
            return middle
        return None if units is None else list(units)

    def _rest_is_default(self, recipe: Recipe, method: str) -> bool:
        """Whether all that the recipe sets and this space never does is as it would be where it is not set."""
        entries = {entry.name for entry in self._entries}
        settings: list[tuple[str, str | None]] = [
            (name, expert) for name, by_expert in recipe.parameters.items() for expert in by_expert
        ]
        settings += [(name, None) for name in recipe.options]
        return all(
            _at(recipe, name, expert)(tensor) == self.method_parameters[method].get(name)
            for name, expert in settings
            if name not in entries
            for tensor in self._outline.tensors
        )


_SHAPE_KEYS: Mapping[str, tuple[str, ...]] = {"lines": ("alpha", "beta"), "gradient": ("anchors",)}


def _lines(layers: int) -> Curve:
    return lambda values: shapes.lines(layers, alpha=values[0], beta=values[1])


def _gradient(layers: int) -> Curve:
    return lambda values: shapes.gradient(layers, anchors=values)


def _at(recipe: Recipe, name: str, expert: str | None) -> At:
    groups = recipe.options[name] if expert is None else recipe.parameters[name][expert]
    if name == PASSTHROUGH:  # it names the tensors it is about, the others are merged
        groups = {ALL: "", **groups}
    return lambda tensor: value_at(groups, tensor)


def _constant(value: Value) -> At:
    return lambda tensor: value


def _is_group(name: Any) -> bool:
    try:
        parse_group(str(name))
    except UsageError:
        return False
    return True


def _bounds(data: Mapping[str, Any], where: str) -> tuple[float, float]:
    if "low" not in data or "high" not in data:
        raise UsageError(f"{where}: needs both low and high")
    low, high = number(data["low"], f"{where}.low"), number(data["high"], f"{where}.high")
    if not low < high:
        raise UsageError(f"{where}: low {low} must be below high {high}")
    return low, high


def _choices(data: Mapping[str, Any], where: str, *, text: bool) -> tuple[Value, ...]:
    refuse_unknown(data, _CHOICE_KEYS, where)
    found = data["choices"]
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) < 2:
        raise UsageError(f"{where}: choices must be a list of two values or more, not {found!r}")
    choices = tuple(_value(choice, f"{where}: choices", text=text) for choice in found)
    if len(set(choices)) < len(choices):
        raise UsageError(f"{where}: choices {found!r} has equal values")
    return choices


def _value(value: Any, where: str, *, text: bool) -> Value:
    """Return a value as a recipe has it; options may also be true, false or texts."""
    return value if text and isinstance(value, bool | str) else number(value, where)
