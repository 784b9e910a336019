"""What transformers raises for files of a model that it does not understand, and the line that says so.

This file knows nothing about what is loaded, and where from.
"""

from huggingface_hub.errors import StrictDataclassError

#: For a config or tokenizer that is none. Not `RuntimeError`, which a device may raise too.
REFUSALS = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, StrictDataclassError)


def reason(error: Exception) -> str:
    """Return what an exception says as one short line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
