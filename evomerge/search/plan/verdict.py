"""Go or no-go: what a search needs against what there is. This file knows nothing about how the numbers came about."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `fits` is None where it could not be judged: that stops nobody."""

    what: str
    fits: bool | None
    text: str


def compare(what: str, need: int, there_is: int | None, *, hint: str) -> Finding:
    """Hold a need in bytes against what there is; `hint` says what to do if that is less."""
    if there_is is None:
        return Finding(what, None, f"needs {gigabytes(need)}; what there is is not known")
    if need > there_is:
        return Finding(what, False, f"needs {gigabytes(need)}, there are {gigabytes(there_is)}; {hint}")
    return Finding(what, True, f"needs {gigabytes(need)}, there are {gigabytes(there_is)}")


def gigabytes(count: float) -> str:
    """Write bytes as `1.23 GB`, small ones as `4.5 MB`."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
