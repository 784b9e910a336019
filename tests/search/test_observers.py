"""Several observers as one: what fails is said once, and the others go on."""

import pytest

from evomerge.search.observers import Observers
from evomerge.search.record import Record


class Notes:
    """Keeps what it was shown, and fails where it is told to."""

    def __init__(self, *failing):
        self.seen, self.closed, self.failing = [], [], list(failing)

    def __call__(self, record):
        self.seen.append(record)
        if len(self.seen) in self.failing:
            raise ValueError(f"call {len(self.seen)}\nwent wrong")

    def close(self, record):
        self.closed.append(record)
        if "close" in self.failing:
            raise OSError("no space")


def test_all_are_shown_every_record_and_the_end():
    terminal, other = Notes(), Notes()
    observers = Observers(terminal, [other], say=pytest.fail)
    first, last = Record(), Record()
    observers(first)
    observers.close(last)
    for notes in (terminal, other):
        assert [id(record) for record in (*notes.seen, *notes.closed)] == [id(first), id(last)]


def test_a_failing_observer_is_named_once_and_still_shown_what_comes():
    terminal, broken, sound, said = Notes(), Notes(1, 2, "close"), Notes(), []
    observers = Observers(terminal, [broken, sound], say=said.append)
    for _ in range(3):
        observers(Record())
    observers.close(Record())
    assert said == ["Notes: call 1 went wrong (the search goes on without it)"]
    assert len(broken.seen) == len(sound.seen) == len(terminal.seen) == 3
    assert len(broken.closed) == len(sound.closed) == len(terminal.closed) == 1


def test_two_of_one_class_that_fail_are_both_said():
    said = []
    observers = Observers(Notes(), [Notes(1), Notes(1)], say=said.append)
    observers(Record())
    assert len(said) == 2


def test_the_terminals_own_failure_ends_the_search():
    with pytest.raises(ValueError, match="call 1"):
        Observers(Notes(1), [], say=pytest.fail)(Record())


def test_an_interrupt_is_not_swallowed():
    def interrupt(record):
        raise KeyboardInterrupt

    other = Notes()
    other.close = interrupt
    with pytest.raises(KeyboardInterrupt):
        Observers(Notes(), [other], say=pytest.fail).close(Record())
