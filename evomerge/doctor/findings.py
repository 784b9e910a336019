"""A finding: one thing that the doctor noticed, how bad it is, and what to do about it.

This file knows nothing about how things are noticed.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["stop", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("stop", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor noticed.

    Attributes:
        severity: "stop": these models cannot be merged as they are, or the result would mean nothing; "warning": they
            merge, and something will probably go wrong; "note": good to know.
        code: what kind of finding it is, for programs.
        models: the labels of the models that it is about.
        text: what was noticed, with its evidence, in one line.
        hint: what to do; may be empty.
        details: the evidence as data; may be empty.
    """

    severity: Severity
    code: str
    models: tuple[str, ...]
    text: str
    hint: str = ""
    details: Any = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; `details` only where there are any."""
        data = {**asdict(self), "models": list(self.models)}
        return {key: value for key, value in data.items() if key != "details" or value is not None}


def some(names: list[str] | tuple[str, ...], limit: int = 3) -> str:
    """Write a list of names, cut after a few.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
