"""An optimizer that goes on from a snapshot proposes what it would have proposed: the same bits, at any moment."""

import random
from typing import Any

import numpy as np
import pytest

from evomerge.optimizers import OPTIMIZERS, Failure, Proposal
from evomerge.optimizers.cmaes_state import load, save
from evomerge.search.snapshot import packed, unpacked
from tests.optimizers.landscapes import box, make, quadratic, result, two_peaks

WITHOUT = {"tpe", "gp", "nsga2", "nsga3", "optuna", "nested_map"}


def through_a_file(state: Any, path) -> Any:
    """Return plain data as they come back from a snapshot."""
    arrays: list[np.ndarray] = []
    data = packed(state, arrays)
    np.savez(path, **{f"array{i}": array for i, array in enumerate(arrays)})
    with np.load(path, allow_pickle=False) as archive:
        return unpacked(data, archive)


def played(optimizer, turns, *, workers, objectives, moments, path):
    """Ask and tell with results that come late and out of order; return all events and snapshots by their place."""
    order, events, flying, taken = random.Random(1), [], [], {}
    for turn in range(turns):
        if turn in moments:
            taken[len(events)] = through_a_file(optimizer.snapshot(), path)
        (proposal,) = optimizer.ask(1)
        events.append(proposal)
        flying.append(proposal)
        if len(flying) < workers:
            continue
        told = flying.pop(order.randrange(len(flying)))
        values = two_peaks(told.vector) if objectives == 2 else quadratic(told.vector)
        luck = order.random()
        outcome = Failure("nan", "") if luck < 0.05 else result(*values, cut_short=luck < 0.2)
        optimizer.tell(told, outcome)
        events.append((told, outcome))
    return events, taken


@pytest.mark.parametrize(
    ("name", "space", "turns", "options"),
    [
        ("random", box(4), 60, {}),
        ("sobol", box(4), 60, {}),
        ("cmaes", box(1), 150, {}),
        ("cmaes", box(5), 150, {}),
        ("cmaes", box(4, ("a", "b")), 150, {}),
        ("cmaes", box(30), 150, {}),
        ("cmaes", box(12), 150, {"covariance": "low_memory"}),
        ("cmaes", box(12), 150, {"covariance": "full", "population": 6}),
        ("m2n2", box(4, ("a", "b")), 80, {}),
        ("map", box(3, ("a", "b")), 30, {}),
        pytest.param("bayesian_map", box(6), 30, {}, marks=pytest.mark.slow),
        pytest.param("saasgp", box(3), 30, {}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("workers", [1, 12])
def test_what_comes_after_a_snapshot_is_the_same(name, space, turns, options, workers, tmp_path):
    objectives = 2 if name in ("map", "bayesian_map") else 1
    foreign = [(Proposal(i, (0.1 + 0.2 * i,) * len(space)), result(*[0.1 * i] * objectives)) for i in range(3)]

    def fresh():
        optimizer = make(name, space, objectives, first_number=3, **options)
        for proposal, outcome in foreign:
            optimizer.tell(proposal, outcome)
        return optimizer

    moments = [0, 1, 5, *range(turns // 6, turns, turns // 6)]
    path = tmp_path / "state.npz"
    events, taken = played(fresh(), turns, workers=workers, objectives=objectives, moments=moments, path=path)
    for place, state in taken.items():
        again = fresh()
        again.restore(state, iter(events[:place]))
        for event in events[place:]:
            if isinstance(event, Proposal):
                assert again.ask(1) == [event], f"after {place} of {len(events)} events"
            else:
                again.tell(*event)


def test_with_hundreds_in_flight_map_chooses_several_at_a_time_and_goes_on_with_them(tmp_path):
    space = box(6)
    path = tmp_path / "state.npz"
    events, taken = played(
        make("map", space, 2), 330, workers=120, objectives=2, moments=range(215, 330, 27), path=path
    )
    assert any(len(state["state"]["queue"]) > 0 for state in taken.values())
    for place, state in taken.items():
        again = make("map", space, 2)
        again.restore(state, events[:place])
        asked = [event for event in events[place:] if isinstance(event, Proposal)][:12]
        for event in events[place : events.index(asked[-1]) + 1]:
            assert again.ask(1) == [event] if isinstance(event, Proposal) else not again.tell(*event)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_those_that_cannot_say_so(name):
    assert (make(name, box(3)).snapshot() is None) == (name in WITHOUT)


def test_a_snapshot_of_another_past_is_refused():
    optimizer = make("random", box(3))
    events = optimizer.ask(3)
    state = optimizer.snapshot()
    with pytest.raises(ValueError, match="3 asks and tells, not of 2"):
        make("random", box(3)).restore(state, events[:2])
    with pytest.raises(ValueError, match="the snapshot has optimizer 'RandomSearch'"):
        make("sobol", box(3)).restore(state, events)
    with pytest.raises(ValueError, match="the snapshot has dimensions"):
        make("random", box(4)).restore(state, events)
    with pytest.raises(ValueError, match="fresh"):
        optimizer.restore(state, events)


def test_a_snapshot_is_small_however_much_went_before(tmp_path):
    sizes = []
    for turns in (200, 800):
        optimizer = make("cmaes", box(30))
        played(optimizer, turns, workers=1, objectives=1, moments=(), path=None)
        through_a_file(optimizer.snapshot(), tmp_path / "state.npz")
        sizes.append((tmp_path / "state.npz").stat().st_size)
    assert sizes[1] < 1.5 * sizes[0]


def test_nothing_but_values_gets_into_pycma():
    optimizer = make("cmaes", box(5))
    optimizer.ask(1)
    state = save(optimizer._es)
    for name in ("__class__", "opts"):
        with pytest.raises(ValueError, match=f"'{name}' is no state"):
            load(optimizer._es, {**state, "self": {name: 1.0}})
