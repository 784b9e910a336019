"""Call libraries without being disturbed by them: no bars, no warnings, and global random states as they were.

lm-eval and datasets seed or draw from the generators of Python, NumPy and torch in places, and log on their own; an
optimizer that draws from a global generator would repeat itself, and a progress line would be torn. This file knows
nothing about tasks.
"""

import logging
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import numpy as np
import torch
from transformers.utils import logging as transformers_logging

_LOUD = ("lm_eval", "transformers", "datasets", "huggingface_hub", "accelerate")


class _Inside(threading.local):
    """Whether this thread is undisturbed already."""

    now = False


_inside = _Inside()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Silence the libraries and put all global random states back at the end; within itself it costs nothing.

    A level of a logger is told to all below it, which takes a millisecond: who calls libraries many times a second
    wraps them all.
    """
    if _inside.now:
        yield
        return
    _inside.now = True
    try:
        with _undisturbed():
            yield
    finally:
        _inside.now = False


@contextmanager
def _undisturbed() -> Iterator[None]:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled(), not transformers_logging.is_progress_bar_enabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        datasets.disable_progress_bars()
        transformers_logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars[0]:
            datasets.enable_progress_bars()
        if not bars[1]:
            transformers_logging.enable_progress_bar()
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)
