"""The state of a pycma object as plain data: what an equal object needs to draw and to learn the same bits from there.

The object that goes on is built first, by the same arguments; here only numbers, texts and arrays are put into it, each
under a name that pycma gave it. Nothing in the data says of what kind anything is, and nothing in it is executed.
Which names there are is pycma's own affair: data that do not fit the object are refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

#: The parts of the object that learn; all others are made by its arguments.
PARTS = ("sm", "adapt_sigma", "sigma_vec", "fit", "best", "_stoptolxstagnation")
#: What says how the object was built, and what its last calls were given.
_NOT_STATE = ("inputargs", "inopts", "opts", "_tell2_args", "_es_opts", "pop_sorted", "ary")
_FLOAT = "float64"


def save(es: Any) -> dict[str, Any]:
    """Return the state of a `CMAEvolutionStrategy`, as plain data and arrays."""
    sent = es.sent_solutions
    entries = list(sent.data.values())
    return {
        "self": dict(_leaves(es)),
        "parts": {part: dict(_leaves(getattr(es, part))) for part in PARTS},
        "sent": {
            "drawn": np.array([entry["pheno"] for entry in entries]),
            "inner": np.array([entry["geno"] for entry in entries]),
            "iterations": [int(entry["iteration"]) for entry in entries],
            "last": [int(sent.last_solution_index), int(sent.last_iteration)],
        },
    }


def load(es: Any, state: Mapping[str, Any]) -> None:
    """Put a state that `save` returned into an object that was built by the same arguments."""
    for owner, values in ((es, state["self"]), *((getattr(es, part), state["parts"][part]) for part in PARTS)):
        for name, value in values.items():
            if name.startswith("__") or name in _NOT_STATE:
                raise ValueError(f"{name!r} is no state of pycma's")
            setattr(owner, name, _value(value))
    sent, kept = es.sent_solutions, state["sent"]
    sent.clear()
    for drawn, inner, iteration in zip(kept["drawn"], kept["inner"], kept["iterations"], strict=True):
        point = np.array(drawn)
        sent[point] = {"pheno": point, "geno": np.array(inner), "iteration": iteration}
    sent.last_solution_index, sent.last_iteration = kept["last"]


def _leaves(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that are plain values, as data."""
    for name, value in vars(owner).items():
        if name not in _NOT_STATE and _is_plain(value):
            yield name, _data(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    if type(value) in (list, tuple):
        return all(_is_plain(item) for item in value)
    if type(value) is dict:
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str | np.number | np.bool_)


def _data(value: Any) -> Any:
    """Return a value as data; NumPy's numbers stay apart from Python's, whose arithmetic differs in the last bit."""
    if isinstance(value, np.float64):
        return {_FLOAT: float(value)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.copy(order="K")  # products of another layout have other last bits
    if isinstance(value, tuple):
        return {"tuple": [_data(item) for item in value]}
    if isinstance(value, list):
        return [_data(item) for item in value]
    if isinstance(value, dict):
        return {"dict": {key: _data(item) for key, item in value.items()}}
    return value


def _value(data: Any) -> Any:
    """Return what `_data` was given."""
    if isinstance(data, np.ndarray):
        return data.copy(order="K")
    if isinstance(data, list):
        return [_value(item) for item in data]
    if isinstance(data, Mapping):
        ((kind, value),) = data.items()
        if kind == _FLOAT:
            return np.float64(value)
        if kind == "tuple":
            return tuple(_value(item) for item in value)
        return {key: _value(item) for key, item in value.items()}
    return data
