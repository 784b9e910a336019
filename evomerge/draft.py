"""A hidden directory beside a target, in which something is made ready before it gets the target's name.

It is gone however the work ends; only a kill leaves it behind, and the next draft for the same target removes it. A
draft that a living process writes is locked, and is left alone. This file knows nothing about what is written.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_draft(target: Path) -> Iterator[Path]:
    """Give an empty directory `.NAME.xxxxxxxx.part` beside `target`, after removing those that nobody writes any more.

    To keep what is in it, rename it before leaving; else it is removed. Raises `OSError` if the disk refuses.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    with _locked(target.parent):  # nobody may take a draft for abandoned between its making and its locking
        for abandoned in _drafts_of(target):
            _remove_abandoned(abandoned)
        draft.mkdir()
        handle = os.open(draft, os.O_RDONLY)
        _lock(handle, wait=False)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(handle)


def _drafts_of(target: Path) -> list[Path]:
    mine = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{8}\.part")
    return [path for path in target.parent.iterdir() if mine.fullmatch(path.name) and not path.is_symlink()]


def _remove_abandoned(draft: Path) -> None:
    try:
        handle = os.open(draft, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # gone meanwhile, or not ours to open
    try:
        if _lock(handle, wait=False):
            shutil.rmtree(draft, ignore_errors=True)
    finally:
        os.close(handle)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    handle = os.open(directory, os.O_RDONLY)
    try:
        _lock(handle, wait=True)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool:
    """Lock an open directory until it is closed or the process dies; False if another has it or there are no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
