"""Putting a model directory on the Hugging Face hub, in one commit: all of it or nothing.

Everything goes through huggingface_hub's own client, with its own token. A repository that holds files is refused:
shards of one model among another's make a model that nobody built. This file knows nothing about what is in the
directory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evomerge.errors import UsageError, WorkError

# What the hub itself puts into a new repository.
_EMPTY = {".gitattributes"}


def check_repository(repository: str, *, private: bool) -> None:
    """Refuse early what an upload would fail at: `UsageError` for a bad name, no token, or a repository with files.

    Args:
        repository: `org/name` of a repository that does not exist or is empty.
        private: whether it is to be private; an empty one that is public is refused.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    if repository.count("/") != 1:
        raise UsageError(f"hub repository {repository!r}: write it as org/name")
    try:
        validate_repo_id(repository)
    except ValueError as error:
        raise UsageError(f"hub repository {repository!r}: {_one_line(error)}") from None
    if constants.HF_HUB_OFFLINE:
        raise UsageError("the hub is switched off here (HF_HUB_OFFLINE); unset it, or leave out --push-to-hub")
    if not get_token():
        raise UsageError("no token for the hub here; run `hf auth login`, or set HF_TOKEN")
    api = HfApi()
    with _hub_errors(repository, UsageError):
        api.whoami()  # a token that is no longer valid looks like a repository that is not there
        try:
            info = api.model_info(repository)
        except RepositoryNotFoundError:
            return
        files = {file.rfilename for file in info.siblings or []} - _EMPTY
    if files:
        raise UsageError(
            f"hub repository {repository} holds files ({sorted(files)[0]}, ...); give one that is new or empty"
        )
    if private and not info.private:
        raise UsageError(
            f"hub repository {repository} is there and public; make it private first, or leave out --private"
        )


def upload(directory: Path, repository: str, *, private: bool) -> str:
    """Make the repository if need be, and put all files of a directory there in one commit; return its address.

    Raises `WorkError` if the hub refuses or cannot be reached; the directory stays as it is.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    api = HfApi()
    with _hub_errors(repository, WorkError):
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        # Not upload_folder: it may take several commits, and a kill between two would leave half a model.
        api.create_commit(
            repository,
            [CommitOperationAdd(path.relative_to(directory).as_posix(), path) for path in files],
            commit_message="Merged model, written by evomerge",
        )
    return str(url)


@contextmanager
def _hub_errors(repository: str, kind: type[UsageError] | type[WorkError]) -> Iterator[None]:
    """Turn what the client raises into one line."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.HTTPError, OSError, ValueError, RuntimeError) as error:  # HTTPError: of the client's HTTP library
        raise kind(f"hub repository {repository}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
