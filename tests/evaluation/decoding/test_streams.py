import threading
import time
from itertools import chain, repeat

import pytest
import torch

from evomerge.evaluation.decoding.streams import side_by_side


def counting(numbers, seen=None):
    def work():
        for number in numbers:
            yield [] if number is None else [number]
            if seen is not None:
                seen.append(number)

    return work


def test_all_is_yielded_and_nothing_empty():
    parts = list(side_by_side([counting([1, None, 2]), counting([]), counting([3])]))
    assert sorted(number for part in parts for number in part) == [1, 2, 3]
    assert all(parts)


def test_they_run_at_once():
    meeting = threading.Barrier(2, timeout=20)

    def work():
        meeting.wait()
        yield [1]

    assert list(side_by_side([work, work])) == [[1], [1]]


def test_threads_have_one_processor_each_and_it_is_undone():
    before = torch.get_num_threads()
    assert list(side_by_side([lambda: iter([[torch.get_num_threads()]])] * 2)) == [[1], [1]]
    assert torch.get_num_threads() == before


def test_an_error_ends_all():
    seen = []

    def fails():
        yield [1]
        raise ValueError("no")

    def endless():
        while True:
            time.sleep(0.001)
            seen.append(1)
            yield []

    with pytest.raises(ValueError, match="no"):
        list(side_by_side([fails, endless]))
    count = len(seen)
    time.sleep(0.02)
    assert len(seen) == count


def test_closing_ends_all():
    seen = []
    parts = side_by_side([counting(chain([1], repeat(None)), seen)])
    assert next(parts) == [1]
    parts.close()
    count = len(seen)
    time.sleep(0.02)
    assert len(seen) == count
