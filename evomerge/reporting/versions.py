"""The versions of what a score or a model depends on, as they are installed here."""

import platform
from importlib.metadata import PackageNotFoundError, version

from evomerge import __version__

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "lm-eval", "datasets", "vllm")


def versions() -> dict[str, str]:
    """Return name -> version of evomerge, Python and of the packages that are installed."""
    found = {"evomerge": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
