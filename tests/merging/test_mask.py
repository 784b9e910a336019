import json
import math
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evomerge.merging import mask
from evomerge.merging.mask import RememberedUniforms, dropped, key_of, rescale, threshold

CASES = json.loads((Path(__file__).parent / "mask_vectors.json").read_text())["cases"]
RATES = st.floats(0.0, 1.0)


def uniforms(seed: int, expert: str, tensor: str, first: int, count: int) -> torch.Tensor:
    return mask.uniforms(mask.key_of(seed, expert, tensor), first, first + count)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['seed']}/{case['expert']}/{case['tensor']}")
def test_the_published_vectors(case: dict) -> None:
    first, halves = case["first_element"], case["halves"]
    numbers = uniforms(case["seed"], case["expert"], case["tensor"], first, len(halves))
    assert numbers.tolist() == halves
    for rate, kept in case["kept"].items():
        t = threshold(float(rate))
        assert [first + i for i, half in enumerate(numbers.tolist()) if half >= t] == kept


@pytest.mark.parametrize(
    ("rate", "t"),
    [(0.0, 0), (1.0, 65536), (0.5, 32768), (0.1, 6554), (0.99, 64881), (0.5 / 65536, 0), (0.6 / 65536, 1)],
)
def test_threshold(rate: float, t: int) -> None:
    assert threshold(rate) == t == math.ceil(65536 * rate - 0.5)


@pytest.mark.parametrize("rate", [-0.01, 1.01, float("nan")])
def test_threshold_refuses_what_is_no_rate(rate: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        threshold(rate)


def test_rescale_is_the_inverse_of_the_share_of_numbers_kept() -> None:
    everything = np.arange(65536)
    for t in (0, 1, 6554, 32768, 65535):
        assert rescale(t) == 65536 / int((everything >= t).sum())
    assert rescale(65536) == 0.0


@given(st.integers(0, 2**40), st.integers(1, 200), st.lists(st.integers(0, 200), max_size=4))
def test_pieces_are_the_whole(first: int, count: int, cuts: list[int]) -> None:
    whole = uniforms(3, "math", "t", first, count).tolist()
    edges = [0, *sorted(min(cut, count) for cut in cuts), count]
    pieces = [uniforms(3, "math", "t", first + a, b - a).tolist() for a, b in pairwise(edges)]
    assert list(chain(*pieces)) == whole


def test_chunks_do_not_show() -> None:
    numbers = uniforms(0, "math", "t", 5, 100_000)
    assert numbers[40_000:40_100].tolist() == uniforms(0, "math", "t", 40_005, 100).tolist()


@given(RATES, RATES)
def test_what_a_higher_rate_keeps_a_lower_one_keeps(a: float, b: float) -> None:
    numbers = uniforms(0, "math", "nested", 0, 4096).numpy().astype(int)
    low, high = numbers >= threshold(min(a, b)), numbers >= threshold(max(a, b))
    assert not (high & ~low).any()


def test_seed_expert_and_tensor_each_matter() -> None:
    masks = {
        tuple(uniforms(*key, 0, 64).tolist())
        for key in ((0, "math", "a"), (1, "math", "a"), (0, "code", "a"), (0, "math", "b"))
    }
    assert len(masks) == 4


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_kept_and_its_expectation(rate: float) -> None:
    n, t = 1_000_000, threshold(rate)
    kept = n - int(dropped(uniforms(7, "math", "share", 0, n), t).sum())
    assert abs(kept / n - (1 - rate)) < 4 * math.sqrt(rate * (1 - rate) / n) + 1e-5
    assert abs(kept * rescale(t) / n - 1) < 5 * math.sqrt(rate / (1 - rate) / n) + 1e-4


def test_neighbours_are_independent() -> None:
    numbers = uniforms(0, "math", "pairs", 0, 400_000).numpy().astype(float)
    for lag in (1, 2, 4, 8):
        assert abs(np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]) < 0.01


def test_remembered_numbers_are_the_same_keep_within_their_memory_and_forget_other_seeds() -> None:
    remembered = RememberedUniforms(max_bytes=300)
    for seed in (0, 0, 1, 0):
        for tensor in ("a", "b"):  # the second does not fit in
            numbers = remembered.whole(seed, "math", tensor, 100)
            if tensor == "b":
                assert numbers is None
            else:
                assert numbers is not None
                assert numbers.tolist() == uniforms(seed, "math", tensor, 0, 100).tolist()
    assert remembered.whole(0, "math", "a", 100) is remembered.whole(0, "math", "a", 100)
    assert mask.uniforms(key_of(0, "math", "a"), 3, 7).tolist() == uniforms(0, "math", "a", 3, 4).tolist()
