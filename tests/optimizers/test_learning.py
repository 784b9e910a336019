"""Those that learn do: on a smooth landscape they come far nearer to the peak than random search."""

import numpy as np
import pytest

from evomerge.optimizers import Proposal
from tests.optimizers.landscapes import box, drive, make, quadratic, result


def median_regret(name):
    """How far the best of 150 points stays below the peak of a quadratic in 6 dimensions, median of 5 seeds."""
    runs = (drive(make(name, box(6), seed=seed), 150) for seed in range(5))
    return np.median([min(1 - quadratic(p.vector)[0] for p in run) for run in runs])


@pytest.mark.parametrize("name", ["cmaes", pytest.param("tpe", marks=pytest.mark.slow)])
def test_it_beats_random_search(name):
    assert median_regret(name) < 0.2 * median_regret("random")


@pytest.mark.parametrize("name", ["cmaes", pytest.param("tpe", marks=pytest.mark.slow)])
def test_it_improves_on_its_starting_point_under_noise(name):
    """Scores of 64 items in 12 dimensions: the last points proposed are better than the start."""

    rng = np.random.default_rng(0)
    start, gains = (0.5,) * 12, []
    for seed in range(3):
        optimizer = make(name, box(12), seed=seed, first_number=1)

        def score(vector):
            return [rng.binomial(64, np.clip(quadratic(vector)[0] - 0.2, 0, 1)) / 64]

        optimizer.tell(Proposal(0, start), result(*score(start)))
        last = drive(optimizer, 150, score)[-20:]
        gains.append(np.mean([quadratic(p.vector)[0] for p in last]) - quadratic(start)[0])
    assert np.median(gains) > 0.1
