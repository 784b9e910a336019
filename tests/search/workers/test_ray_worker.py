"""The worker that is a Ray actor, without Ray: what it has to say is said once, whoever asks first."""

import pickle
from pathlib import Path
from types import SimpleNamespace

from evomerge.search.workers.ray_worker import RayWorker

_signs = []


def talking(device, say):
    """A factory that is asked for signs of life while it builds."""
    say("first")
    _signs.append(_worker.sign())
    say("second")
    _signs.append(_worker.sign())
    say("third")
    return SimpleNamespace(settings={"batching": None})


_worker = RayWorker(str(Path.cwd()), {})


def test_nothing_that_is_said_between_two_signs_is_lost():
    answers = _worker.build(pickle.dumps(talking), "cpu")
    assert [sign.lines for sign in _signs] == [("first",), ("second",)]
    assert answers == [("say", "third"), ("ready", {"batching": None})]
    assert _worker.sign().lines == ()
