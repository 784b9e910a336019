"""evomerge: find the best way to merge fine-tuned language models.

The rooms of the house, from the ground up: `checkpoints` reads models, `recipes` says how to merge them, `merging`
does it, `evaluation` scores the result, `optimizers` propose, `search` runs the loop, `reporting` says what was found.

For notebooks and scripts there are `evomerge.search(...)` and `evomerge.Run` (docs/api.md); they are imported when they
are first asked for, so that `import evomerge` is quick.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evomerge.api import Run, search

__version__ = "0.1.0"

__all__ = ["Run", "__version__", "search"]


def __getattr__(name: str) -> Any:
    if name == "search":  # a package that can be called
        import importlib

        return importlib.import_module("evomerge.search")
    if name == "Run":
        from evomerge.api import Run

        return Run
    raise AttributeError(f"module 'evomerge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
