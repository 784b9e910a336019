"""mergekit's merge methods: what each takes, per model and for all models together, with mergekit's defaults (0.1.5).

This file knows nothing about recipes; the names are mergekit's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Setting = float | bool | None

Kind = Literal["number", "whole", "flag"]

#: What the value of a parameter is; those not named are numbers.
KINDS: Mapping[str, Kind] = {
    "filter_wise": "flag",
    "int8_mask": "flag",
    "max_iter": "whole",
    "normalize": "flag",
    "normalize_weights": "flag",
    "nuslerp_flatten": "flag",
    "nuslerp_row_wise": "flag",
    "rescale": "flag",
}


@dataclass(frozen=True)
class MergekitMethod:
    """One of mergekit's methods.

    Attributes:
        base: whether it needs the base model, may do without one, or treats it as one input among the others.
        models: the fewest and the most inputs besides the base.
        per_model: parameter -> default; None: it must be set. (passthrough's `scale` has a default of its own: 1.)
        shared: the same for parameters that hold for all models.
    """

    base: Literal["required", "optional", "ignored"]
    models: tuple[int, float] = (1, float("inf"))
    per_model: Mapping[str, Setting] = field(default_factory=dict)
    shared: Mapping[str, Setting] = field(default_factory=dict)


def _task_arithmetic(*, normalize: bool = False, rescale: bool = False, **per_model: Setting) -> MergekitMethod:
    shared: dict[str, Setting] = {"normalize": normalize, "rescale": rescale, "lambda": 1.0, "int8_mask": False}
    return MergekitMethod("required", per_model={"weight": None, "density": 1.0, **per_model}, shared=shared)


METHODS: Mapping[str, MergekitMethod] = {
    "breadcrumbs": _task_arithmetic(gamma=0.01),
    "breadcrumbs_ties": _task_arithmetic(gamma=0.01),
    "dare_linear": _task_arithmetic(rescale=True),
    "dare_ties": _task_arithmetic(rescale=True),
    "della": _task_arithmetic(normalize=True, rescale=True, epsilon=0.15),
    "della_linear": _task_arithmetic(rescale=True, epsilon=0.15),
    "karcher": MergekitMethod("ignored", shared={"max_iter": 10.0, "tol": 1e-5}),
    "linear": MergekitMethod("ignored", per_model={"weight": None}, shared={"normalize": True}),
    "model_stock": MergekitMethod("required", (2, float("inf")), shared={"filter_wise": False}),
    "multislerp": MergekitMethod(
        "optional", per_model={"weight": None}, shared={"normalize_weights": True, "eps": 1e-8}
    ),
    "nuslerp": MergekitMethod(
        "optional", (2, 2), {"weight": None}, {"nuslerp_row_wise": False, "nuslerp_flatten": True}
    ),
    "passthrough": MergekitMethod("ignored", (1, 1), per_model={"scale": 1.0}),
    "ram": MergekitMethod("required", shared={"epsilon": 1e-5}),
    "ramplus_tl": MergekitMethod("required", shared={"r": 0.1, "alpha": 0.2, "epsilon": 1e-5}),
    "sce": MergekitMethod("required", shared={"select_topk": 1.0, "int8_mask": False}),
    "slerp": MergekitMethod("required", (1, 1), shared={"t": None}),
    "task_arithmetic": _task_arithmetic(),
    "ties": _task_arithmetic(normalize=True),
}

#: Methods of mergekit's that have no counterpart here.
WITHOUT_COUNTERPART = ("arcee_fusion", "nearswap")

#: Methods that draw random masks where something is dropped.
STOCHASTIC = ("dare_linear", "dare_ties", "della", "della_linear")

#: Every parameter that some method knows, and those that steer the merging of tokenizers or belong to older versions.
KNOWN_PARAMETERS = frozenset(
    {name for method in METHODS.values() for name in (*method.per_model, *method.shared)} | {"embed_slerp", "t"}
)
