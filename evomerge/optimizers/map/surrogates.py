"""Saved surrogates: what any point of the space would score, from the scores of a search.

`fit_surrogates` takes the record of any optimizer; `Surrogates` is plain data (JSON) that answers what a point would
score, with intervals, and how far it may be believed: not outside the box of the points it was fitted to, nor where its
own error is larger than at any of them. Where the best points lie is the business of `amortised.py`. This file knows
nothing about runs or recipes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from evomerge.errors import UsageError, nearest
from evomerge.optimizers.base import Objective
from evomerge.optimizers.map import forms, warp
from evomerge.optimizers.map.surrogate import Diagnostics, Surrogate, as_plain, choose
from evomerge.recipes import Dimension

Array = npt.NDArray[np.float64]

SURROGATES_VERSION = 1
#: Fewer points than this say nothing about a quadratic.
MIN_POINTS = 4


class Surrogates:
    """One fitted quadratic an objective, over common points.

    Args:
        dimensions, objectives: as an optimizer has them.
        points: (n, d), of the unit cube.
        values, errors, items: (n, m).
        coefficients: `weights` or `all`; see `forms`.
        models: one surrogate an objective.
    """

    def __init__(
        self,
        dimensions: Sequence[Dimension],
        objectives: Sequence[Objective],
        *,
        points: Array,
        values: Array,
        errors: Array,
        items: Array,
        coefficients: str,
        models: Sequence[Surrogate],
    ) -> None:
        self.dimensions, self.objectives = tuple(dimensions), tuple(objectives)
        self.points, self.values, self.errors, self.items = points, values, errors, items
        self.coefficients, self.models = coefficients, tuple(models)
        coded = forms.code(self.dimensions, points)
        self._farthest = [float(model.reach(coded).max()) * (1.0 + 1e-9) for model in self.models]

    @property
    def diagnostics(self) -> dict[str, Diagnostics]:
        """Objective -> how well its surrogate predicts points left out, and so whether it is trusted."""
        return {o.name: model.diagnostics for o, model in zip(self.objectives, self.models, strict=True)}

    @property
    def trusted(self) -> bool:
        """Whether every objective's surrogate is trusted."""
        return all(model.diagnostics.trusted for model in self.models)

    def describe(self) -> list[str]:
        """Return a line an objective: the form, its number of coefficients, and whether it is trusted."""
        return [
            f"{o.name}: {model.form.name} quadratic ({model.kind}), {model.diagnostics}"
            for o, model in zip(self.objectives, self.models, strict=True)
        ]

    def predict(self, vectors: npt.ArrayLike, level: float = 0.95) -> tuple[Array, Array, Array]:
        """Return means and both ends of their intervals, each (n, m), at points of the unit cube (n, d)."""
        coded = forms.code(self.dimensions, np.asarray(vectors, dtype=float))
        found = [model.predict(coded, level) for model in self.models]
        mean, low, high = (np.stack(columns, axis=1) for columns in zip(*found, strict=True))
        return mean, low, high

    def means(self, vectors: Array) -> Array:
        """Return the predicted scores, (n, m)."""
        coded = forms.code(self.dimensions, vectors)
        return np.stack([warp.unbend(m.kind, m.bent(coded)[0]) for m in self.models], axis=1)

    def bounds(self, vectors: Array, width: float) -> Array:
        """Return the predicted scores plus `width` standard errors, (n, m)."""
        coded = forms.code(self.dimensions, vectors)
        columns = []
        for model in self.models:
            mean, error = model.bent(coded)
            columns.append(warp.unbend(model.kind, mean + width * error))
        return np.stack(columns, axis=1)

    def draws(self, vectors: Array, normals: Array) -> Array:
        """Return draws (s, n, m) of the scores at points (n, d), for standard normal numbers (s, m)."""
        coded = forms.code(self.dimensions, vectors)
        columns = []
        for model, own in zip(self.models, normals.T, strict=True):
            mean, error = model.bent(coded)
            columns.append(warp.unbend(model.kind, mean + own[:, None] * error))
        return np.stack(columns, axis=2)

    def observed(self) -> Array:
        """Return what the scores at the points themselves are believed to be without their luck, (n, m)."""
        return np.stack([model.observed for model in self.models], axis=1)

    def strain(self, vectors: Array) -> Array:
        """Return the largest reach over that of any fitted point, (n,): above 1 a point would be extrapolated."""
        coded = forms.code(self.dimensions, vectors)
        shares = [model.reach(coded) / far for model, far in zip(self.models, self._farthest, strict=True)]
        return np.asarray(np.max(shares, axis=0))

    def box(self) -> tuple[Array, Array]:
        """Return the corners of the sampled box, each (d,)."""
        return self.points.min(axis=0), self.points.max(axis=0)

    def to_dict(self) -> dict[str, Any]:
        """Return the surrogates as JSON data."""
        return {
            "version": SURROGATES_VERSION,
            "coefficients": self.coefficients,
            "dimensions": [
                {**asdict(d), "choices": list(d.choices), "methods": list(d.methods)} for d in self.dimensions
            ],
            "objectives": [
                {
                    **asdict(objective),
                    "form": model.form.name,
                    "warp": model.kind,
                    "ridge": model.fit.ridge,
                    "diagnostics": as_plain(model.diagnostics),
                }
                for objective, model in zip(self.objectives, self.models, strict=True)
            ],
            "points": self.points.tolist(),
            "values": self.values.tolist(),
            "errors": self.errors.tolist(),
            "items": self.items.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Surrogates":
        """Return the surrogates that `to_dict` gave; the fits are made anew, with the recorded forms and ridges.

        Raises `UsageError` where the data are of another version or no surrogates.
        """
        if data.get("version") != SURROGATES_VERSION:
            raise UsageError(
                f"surrogates: version {data.get('version')!r} is not {SURROGATES_VERSION}; write them anew with report"
            )
        try:
            dimensions = [
                Dimension(**{**d, "choices": tuple(d["choices"]), "methods": tuple(d["methods"])})
                for d in data["dimensions"]
            ]
            keys = Objective.__dataclass_fields__
            objectives = [Objective(**{key: o[key] for key in keys}) for o in data["objectives"]]
            arrays = [np.array(data[key], dtype=float) for key in ("points", "values", "errors", "items")]
            points, values, errors, items = (array.reshape(len(data["points"]), -1) for array in arrays)
            coded = forms.code(dimensions, points)
            models = [
                Surrogate(
                    coded,
                    values[:, j],
                    errors[:, j],
                    items[:, j],
                    form=forms.build(o["form"], dimensions, data["coefficients"]),
                    kind=o["warp"],
                    strength=float(o["ridge"]),
                )
                for j, o in enumerate(data["objectives"])
            ]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UsageError(f"surrogates: these are no surrogates ({error})") from None
        return cls(
            dimensions,
            objectives,
            points=points,
            values=values,
            errors=errors,
            items=items,
            coefficients=data["coefficients"],
            models=models,
        )


def fit_surrogates(
    dimensions: Sequence[Dimension],
    objectives: Sequence[Objective],
    points: npt.ArrayLike,
    values: npt.ArrayLike,
    items: npt.ArrayLike,
    *,
    errors: npt.ArrayLike | None = None,
    form: str = "auto",
    coefficients: str = "weights",
    warps: str = "auto",
) -> Surrogates:
    """Fit a quadratic to each objective's scores.

    Args:
        dimensions, objectives: as an optimizer has them.
        points: (n, d), of the unit cube; at least `MIN_POINTS`.
        values: (n, m) scores, larger is better.
        items: (n, m) numbers of items.
        errors: (n, m) standard errors; None: from the items alone.
        form: one of `forms.FORMS`; `auto`: of those with no more coefficients than points, the one that predicts
            left-out points best.
        coefficients: `weights`: products of merge weights only; `all`: of all numbers.
        warps: one of `warp.WARPS`; `auto`: by the scores of each objective.

    Raises `UsageError` for too few points and unknown names.
    """
    for name, value, known in (
        ("form", form, ("auto", *forms.FORMS)),
        ("coefficients", coefficients, forms.COEFFICIENTS),
        ("warp", warps, ("auto", *warp.WARPS)),
    ):
        if value not in known:
            raise UsageError(f"surrogates: unknown {name} {value!r}; {nearest(value, known)}")
    x, y, n = (np.asarray(array, dtype=float) for array in (points, values, items))
    e = np.zeros_like(y) if errors is None else np.asarray(errors, dtype=float)
    if len(x) < MIN_POINTS:
        raise UsageError(f"surrogates: {len(x)} scored points are too few to fit; {MIN_POINTS} are the least")
    if form == "auto":
        allowed = forms.build_all(dimensions, coefficients)
    else:
        allowed = [forms.build(form, dimensions, coefficients)]
    coded = forms.code(dimensions, x)
    models = [
        choose(
            coded,
            y[:, j],
            e[:, j],
            n[:, j],
            forms=allowed,
            kind=warp.choose(y[:, j]) if warps == "auto" else warps,
        )
        for j in range(len(objectives))
    ]
    return Surrogates(
        dimensions,
        objectives,
        points=x,
        values=y,
        errors=e,
        items=n,
        coefficients=coefficients,
        models=models,
    )
