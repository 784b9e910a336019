"""Small models on a CPU: every thread decodes rows of its own, instead of all threads sharing each tiny operation.

This file knows nothing about models.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def side_by_side(works: Sequence[Callable[[], Iterator[list[T]]]]) -> Iterator[list[T]]:
    """Run iterators in threads of one processor each, and yield their lists as they come, but for empty ones.

    An iterator may yield empty lists, at which it can be stopped: once this one is closed, or one of them fails. All
    have ended by then.
    """
    found: queue.SimpleQueue[list[T] | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()
    before = torch.get_num_threads()

    def run(work: Callable[[], Iterator[list[T]]]) -> None:
        torch.set_num_threads(1)
        try:
            for part in work():
                if part:
                    found.put(part)
                if stop.is_set():
                    break
        except BaseException as error:
            found.put(error)
        else:
            found.put(None)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            part = found.get()
            if isinstance(part, BaseException):
                raise part
            if part is None:
                running -= 1
            else:
                yield part
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        torch.set_num_threads(before)  # what a thread sets is also the number for threads to come
