"""The search: the loop, the ledger, baselines, workers, and what a run directory shows.

The package itself can be called: `evomerge.search(...)` runs a search (`evomerge.api.search`).
"""

import inspect
import sys
from types import ModuleType
from typing import Any


class _Search(ModuleType):
    """A package that is a function too.

    `evomerge.search` is the natural name of both, and `import evomerge.search.start`, wherever it happens, binds that
    name to this package: so it is the package that has to be callable.
    """

    def __call__(self, *overrides: str, **options: Any) -> Any:
        """Run or resume a search; see `evomerge.api.search`."""
        from evomerge.api import search

        return search(*overrides, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        """The function's own, for `help` and notebooks."""
        from evomerge.api import search

        return inspect.signature(search)


sys.modules[__name__].__class__ = _Search
