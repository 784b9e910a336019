"""TIES: trimming, electing, averaging, on numbers that can be followed by hand."""

import pytest
import torch

from evomerge.merging.methods import density
from tests.merging.methods.support import run


def _ties(deltas: dict[str, list[float]], parameters: dict, **options: object) -> list[float]:
    experts = {label: torch.tensor(values) for label, values in deltas.items()}
    base = torch.zeros_like(next(iter(experts.values())))
    return run("ties", base, experts, parameters, options).tolist()


def test_keeps_all_that_tie() -> None:
    delta = {"math": [4.0, -3.0, 3.0, 3.0, 1.0, 0.0]}
    assert _ties(delta, {"weight": 1.0, "drop_rate": 0.5}) == [4.0, -3.0, 3.0, 3.0, 0.0, 0.0]


@pytest.mark.parametrize(("drop_rate", "kept"), [(0.9, 100), (0.7, 300), (0.9999, 1), (0.333, 667), (1.0, 0)])
def test_keeps_as_many_as_the_density_says(drop_rate: float, kept: int) -> None:
    merged = _ties({"math": torch.arange(1.0, 1001.0).tolist()}, {"weight": 1.0, "drop_rate": drop_rate})
    assert sum(x != 0 for x in merged) == kept


def test_elects_signs_by_weighted_sums_with_ties_to_plus() -> None:
    # weighted: [1, 1, 2, 0] and [-3, -1, 1, -1]: minus, a tie, both, the only one
    deltas = {"a": [1.0, 1.0, 2.0, 0.0], "b": [-3.0, -1.0, 1.0, -1.0]}
    assert _ties(deltas, {"weight": 1.0}) == [-3.0, 1.0, 1.5, -1.0]
    # the weights turn the first election: 4 against -3; the divisor is the weight of those that were kept
    assert _ties(deltas, {"weight": {"a": 4.0, "b": 1.0}}) == pytest.approx([1.0, 1.0, 1.8, -1.0])
    assert _ties(deltas, {"weight": 1.0}, normalize=False) == [-3.0, 1.0, 3.0, -1.0]


def test_the_papers_election_knows_no_weights() -> None:
    deltas = {"a": [1.0, 1.0, 2.0], "b": [-3.0, -1.0, 1.0]}
    weights = {"weight": {"a": 4.0, "b": 1.0}}
    assert _ties(deltas, weights, elect="unweighted") == pytest.approx([-3.0, 1.0, 1.8])


def test_the_papers_trimming_is_over_the_whole_model() -> None:
    base, expert = torch.zeros(4), torch.tensor([1.0, -2.0, 3.0, 4.0])
    others = {"big": {"": torch.zeros(6), "math": torch.full((6,), 10.0)}}
    parameters = {"weight": 1.0, "drop_rate": 0.3}

    def trimmed(trim: str) -> list[float]:
        return run("ties", base, {"math": expert}, parameters, {"trim": trim}, others=others).tolist()

    assert trimmed("tensor") == [0.0, 0.0, 3.0, 4.0]  # 2 of 4
    assert trimmed("model") == [0.0, 0.0, 0.0, 4.0]  # 7 of 10, of which the other tensor has 6


def test_density_has_no_noise() -> None:
    assert [density(rate) for rate in (0.9, 0.0, 1.0, 0.7)] == [0.1, 1.0, 0.0, 0.3]
