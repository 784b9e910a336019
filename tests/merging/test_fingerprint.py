import hashlib
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evomerge.merging.fingerprint import combine, fingerprint, to_text

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def _random(n: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _mix(key: int, index: int, bits: int) -> int:
    """The definition, one word at a time, in plain integers."""
    mask = (1 << 64) - 1
    z = bits ^ ((key + index * 0x9E3779B97F4A7C15) & mask)
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def test_the_definition() -> None:
    key = int.from_bytes(hashlib.sha256(b"a.weight").digest()[:8], "little")
    # two float32 numbers to a word, four 16-bit ones; what is missing is 0
    values = torch.tensor([1.0, -2.5, 0.5], dtype=torch.float32)
    words = [0xC0200000_3F800000, 0x3F000000]
    expected = sum(_mix(key, (1 << 39) + i, word) for i, word in enumerate(words)) % (1 << 64)
    assert fingerprint("a.weight", values, first=1 << 40) == expected
    values = torch.tensor([1.0, -2.5, 0.5, 0.0, -0.0], dtype=torch.bfloat16)
    words = [0x0000_3F00_C020_3F80, 0x8000]
    expected = sum(_mix(key, 2 + i, word) for i, word in enumerate(words)) % (1 << 64)
    assert fingerprint("a.weight", values, first=8) == expected
    assert to_text(255) == "00000000000000ff"


@pytest.mark.parametrize("dtype", DTYPES)
@given(cuts=st.lists(st.integers(0, 8_750).map(lambda n: 8 * n), max_size=5))
def test_pieces_in_any_order_are_the_whole(dtype: torch.dtype, cuts: list[int]) -> None:
    tensor = _random(70_000, dtype)
    edges = [0, *sorted(cuts), 70_000]
    pieces = [fingerprint("t", tensor[a:b], first=a) for a, b in pairwise(edges)]
    assert combine(*reversed(pieces)) == fingerprint("t", tensor)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_bit_matters(dtype: torch.dtype) -> None:
    tensor = _random(100, dtype)
    words = tensor.view(torch.int32 if dtype == torch.float32 else torch.int16)
    seen = {fingerprint("t", tensor)}
    for index in (0, 37, 99):
        for bit in range(words.element_size() * 8 - 1):
            changed = words.clone()
            changed[index] ^= 1 << bit
            seen.add(fingerprint("t", changed.view(dtype)))
    assert len(seen) == 1 + 3 * (words.element_size() * 8 - 1)


def test_order_name_and_sign_of_zero_matter_and_shape_does_not() -> None:
    tensor = _random(64)
    whole = fingerprint("t", tensor)
    assert fingerprint("t", tensor.flip(0)) != whole
    assert fingerprint("u", tensor) != whole
    assert fingerprint("t", tensor) != fingerprint("t", torch.cat([tensor[1:2], tensor[:1], tensor[2:]]))
    assert fingerprint("t", torch.tensor([0.0])) != fingerprint("t", torch.tensor([-0.0]))
    assert fingerprint("t", tensor.view(8, 8)) == whole
    assert fingerprint("t", tensor.view(8, 8).t()) == fingerprint("t", tensor.view(8, 8).t().contiguous())
    # two tensors that swap their values
    a, b = _random(64, seed=1), _random(64, seed=2)
    assert combine(fingerprint("a", a), fingerprint("b", b)) != combine(fingerprint("a", b), fingerprint("b", a))
