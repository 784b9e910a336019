"""Where a model is: a local directory, a model of the hub at a revision, or one of the shipped zoo.

    /data/my-expert, ./my-expert     a directory (also `my-expert`, if it exists)
    org/name, org/name@revision      a model of the Hugging Face hub; a revision is a branch, a tag or a commit
    zoo:math                         a model that ships with evomerge

Any of them may be a LoRA adapter. Hub models are fetched by huggingface_hub itself into its cache, safetensors and text
files only, and with HF_HUB_OFFLINE=1 only looked up there. This file knows nothing about what is inside the files.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evomerge.errors import UsageError

_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
_FETCH = (
    "*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "*.tiktoken", "merges.txt", "vocab.txt", "README.md",
    "LICENSE*",
)  # fmt: skip
# Folders and consolidated files repeat the weights in other formats.
_LEAVE = ("*/*", "consolidated*", "*.bin", "*.pt", "*.pth", "*.pkl", "*.py")


@dataclass(frozen=True)
class ModelReference:
    """A parsed reference. `name` is the directory, the hub id or the zoo name; only hub models have a revision."""

    kind: Literal["directory", "hub", "zoo"]
    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelReference":
        """Parse a reference; an existing directory wins over a hub id. `UsageError` if it can be neither."""
        if not text.strip():
            raise UsageError("model reference is empty; write a directory, org/name@revision or zoo:name")
        if text.startswith("zoo:"):
            return cls("zoo", text.removeprefix("zoo:"))
        path = Path(text).expanduser()
        if os.path.isdir(path):  # unlike Path.is_dir, False for names that no file can have
            return cls("directory", str(path))
        match = _HUB_ID.fullmatch(text)
        if match and not text.startswith((".", "~")):
            return cls("hub", match.group(1), match.group(2))
        what = "is a file, not a model directory" if os.path.isfile(path) else "no such directory"
        raise UsageError(f"model {text!r}: {what}; write a directory, a hub id org/name@revision, or zoo:name")

    def __str__(self) -> str:
        """Return the text form; `parse` gives the same reference back."""
        if self.kind == "zoo":
            return f"zoo:{self.name}"
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


def resolve(reference: str | ModelReference, *, cache_dir: Path | None = None) -> Path:
    """Return the local directory of a model, fetching a hub model that is not in the cache.

    Args:
        reference: the reference or its text form.
        cache_dir: the hub cache; None for huggingface_hub's own (HF_HUB_CACHE).

    Raises `UsageError` if there is no such model or it cannot be fetched.
    """
    parsed = ModelReference.parse(reference) if isinstance(reference, str) else reference
    if parsed.kind == "zoo":
        from evomerge.zoo import model_path

        return model_path(parsed.name)
    if parsed.kind == "directory":
        return Path(parsed.name)
    return _fetch(parsed, cache_dir)


def _fetch(reference: ModelReference, cache_dir: Path | None) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(
            snapshot_download(
                reference.name,
                revision=reference.revision,
                cache_dir=cache_dir,
                allow_patterns=list(_FETCH),
                ignore_patterns=list(_LEAVE),
            )
        )
    except errors.RevisionNotFoundError:
        raise UsageError(f"model {reference}: the hub has no revision {reference.revision!r} of it") from None
    except errors.GatedRepoError:
        raise UsageError(
            f"model {reference}: access is restricted; accept its terms on the hub and run `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UsageError(
            f"model {reference}: no such directory, and no such model on the hub "
            "(if it is private, run `hf auth login`)"
        ) from None
    except errors.LocalEntryNotFoundError:
        raise UsageError(
            f"model {reference}: no such directory, and not (whole) in the hub cache; "
            "the hub is offline or out of reach (HF_HUB_OFFLINE, network): fetch it first or give a local directory"
        ) from None
    except (errors.HTTPError, OSError, ValueError) as error:  # HTTPError: of the HTTP library that the hub uses
        raise UsageError(f"model {reference}: cannot be fetched: {' '.join(str(error).split())}") from None
