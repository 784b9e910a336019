"""Recorded landscapes: exact where something was recorded, near the truth elsewhere."""

import numpy as np
import pytest

from evomerge.errors import UsageError
from evomerge.landscapes import RECORDED, FittedLandscape, GridLandscape, landscape
from evomerge.landscapes.solve import undominated
from evomerge.reporting.front import hypervolume, non_dominated
from tests.landscapes.recordings import TRUTH


@pytest.fixture(scope="module")
def grid(recording):
    return GridLandscape("zoo-grid", recording)


@pytest.fixture(scope="module")
def layers(recording):
    return FittedLandscape("zoo-layers", recording, coarse=False)


@pytest.fixture(scope="module")
def weights(recording):
    return FittedLandscape("zoo-weights", recording, coarse=True)


@pytest.fixture(scope="module")
def recorded(recording):
    with np.load(recording) as file:
        return dict(file)


def outcomes(recorded, part, task):
    return np.unpackbits(recorded[f"{part}_{task}"], axis=1, count=96)


def test_dimensions_and_baselines_are_those_of_the_recording(grid, layers):
    truth = landscape(TRUTH)
    assert [d.name for d in grid.dimensions] == [f"weight.{expert}.all" for expert in truth.experts]
    assert [(d.name, d.parameter, d.expert, d.group, d.high) for d in layers.dimensions] == [
        (d.name, d.parameter, d.expert, d.group, d.high) for d in truth.dimensions
    ]
    assert list(layers.baselines) == list(truth.baselines)
    assert list(layers.baselines.values()) == pytest.approx(np.array(list(truth.baselines.values())))
    assert grid.baselines["expert1"] == pytest.approx((0, 1 / 1.5, 0))


def test_the_grid_is_exact_at_its_points(grid, recorded):
    means = grid.means(recorded["grid"])
    for t, task in enumerate(grid.tasks):
        assert means[:, t] == pytest.approx(outcomes(recorded, "grid", task).mean(axis=1))


def test_items_of_the_grid_are_recorded_items(grid, recorded):
    sample = grid.sample(64, seed=0)
    scores = np.array([sample.outcomes(point)[0] for point in recorded["grid"]])
    known = {row.tobytes() for row in outcomes(recorded, "grid", grid.tasks[0]).T.astype(np.float64).copy()}
    assert all(row.tobytes() in known for row in scores.T.copy())


def test_between_the_points_the_grid_is_linear_along_each_axis(grid):
    ends = grid.means([[1 / 3, 1 / 3, 0.2], [2 / 3, 1 / 3, 0.2]])
    assert grid.means([[0.4, 1 / 3, 0.2]])[0] == pytest.approx(0.8 * ends[0] + 0.2 * ends[1], abs=1e-6)


def test_many_items_of_the_grid_have_the_true_mean(grid):
    point = (0.37, 0.41, 0.55)
    found = [scores.mean() for scores in grid.sample(20_000, seed=1).outcomes(point)]
    assert found == pytest.approx(grid.means([point])[0], abs=4 * 0.5 / np.sqrt(20_000))


def test_nothing_beats_the_optimum_and_front_of_the_grid(grid):
    points = np.random.default_rng(0).random((10_000, 3))
    gains = grid.gains(points)
    assert gains.mean(axis=1).max() <= grid.optimum.gains.mean() + 1e-12
    front = grid.front.gains
    assert non_dominated(front).all()
    assert max((values[:, None] - front).min(axis=2).max() for values in np.array_split(gains, 100)) < 0.01
    assert 0.8 < hypervolume(gains[undominated(gains)], np.zeros(3)) / grid.front.volume < 1


def test_the_response_is_near_the_truth(layers):
    truth = landscape(TRUTH)
    points = np.random.default_rng(1).random((500, 18))
    found, true = layers.means(points), truth.means(points)
    starts, true_starts = (problem.means(list(truth.baselines.values())) for problem in (layers, truth))
    for t in range(3):
        assert np.corrcoef(found[:, t], true[:, t])[0, 1] > 0.85
    assert np.abs(starts - true_starts).max() < 0.2


def test_over_weights_the_response_is_near_the_truth_too(weights):
    truth = landscape(TRUTH)
    points = np.random.default_rng(2).random((500, 3))
    experts = {expert: place for place, expert in enumerate(truth.experts)}
    whole = [points[:, experts[d.expert]] if d.parameter == "weight" else np.zeros(500) for d in truth.dimensions]
    found, true = weights.means(points), truth.means(np.stack(whole, axis=1))
    for t in range(3):
        assert np.corrcoef(found[:, t], true[:, t])[0, 1] > 0.97


def test_many_items_of_the_response_have_the_true_mean(layers):
    point = np.full(18, 0.4)
    found = [scores.mean() for scores in layers.sample(20_000, seed=1).outcomes(point)]
    assert found == pytest.approx(layers.means([point])[0], abs=4 * 0.5 / np.sqrt(20_000))


def test_the_same_file_and_seed_give_the_same_bits(layers, grid, recording):
    for problem, again in (
        (layers, FittedLandscape("again", recording, coarse=False)),
        (grid, GridLandscape("again", recording)),
    ):
        point = np.full(len(problem.dimensions), 0.3)
        assert (problem.means([point]) == again.means([point])).all()
        first, second, other = (p.sample(64, s).outcomes(point) for p, s in ((problem, 2), (again, 2), (problem, 3)))
        assert all((a == b).all() for a, b in zip(first, second, strict=True))
        assert any((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.slow
def test_cross_validation_tells_how_good_the_response_is(layers):
    for fit in layers.cross_validated():
        assert fit.error < 0.6 * fit.spread
        assert fit.item_loss < 0.95 * fit.item_spread


def test_a_file_that_is_no_recording_is_refused(tmp_path, recording):
    with np.load(recording) as file:
        data = dict(file)
    np.savez(tmp_path / "short.npz", **{key: value for key, value in data.items() if key != "tasks"})
    with pytest.raises(UsageError, match="no recording of a landscape"):
        GridLandscape("zoo-grid", tmp_path / "short.npz")
    for key in [key for key in data if key.startswith("grid")]:
        data[key] = data[key][:-1]
    np.savez(tmp_path / "holes.npz", **data)
    with pytest.raises(UsageError, match="63 points are no full grid"):
        GridLandscape("zoo-grid", tmp_path / "holes.npz")


@pytest.mark.parametrize("name", RECORDED)
def test_a_missing_recording_is_named(name, tmp_path):
    with pytest.raises(UsageError, match=f"landscape {name}: no recording"):
        landscape(name, tmp_path / "nothing.npz")


def test_landscapes_are_known_by_name(recording):
    assert landscape("zoo-grid", recording) is landscape("zoo-grid", recording)
    with pytest.raises(UsageError, match="did you mean 'merge-12d-1'"):
        landscape("merge-12-1")
