from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evomerge.checkpoints import ModelPool
from evomerge.merging.statistics import MagnitudeTable, PoolStatistics, row_ranks
from tests.merging.recipes import pool_of

Family = dict[str, Path]
LABELS = ("code", "math", "prose")
NAME = "model.layers.0.mlp.up_proj.weight"


def _deltas(pool: ModelPool, name: str = NAME) -> list[np.ndarray]:
    base = pool.base.tensor(name).float()
    return [(pool.experts[label].tensor(name).float() - base).double().numpy().ravel() for label in LABELS]


def _statistics(pool: ModelPool, cache_bytes: int = 0) -> PoolStatistics:
    return PoolStatistics(pool, pool.layout.tensors, cache_bytes=cache_bytes)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0**-140]), min_size=1, max_size=60))
def test_a_compressed_table_finds_what_sorting_finds(values: list[float]) -> None:
    magnitudes = np.array(values, np.float32)
    table = MagnitudeTable.of(magnitudes)
    assert [table.kth_largest(k) for k in range(1, len(values) + 1)] == sorted(magnitudes.tolist(), reverse=True)


def test_tables_are_compressed_where_that_saves_memory() -> None:
    repeated = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).bfloat16().float().abs().numpy()
    assert MagnitudeTable.of(repeated).counts is not None
    assert MagnitudeTable.of(repeated).bytes < repeated.nbytes / 2
    distinct = np.random.default_rng(0).random(1000, np.float32)
    table = MagnitudeTable.of(distinct)
    assert table.counts is None
    assert [table.kth_largest(k) for k in (1, 500, 1000)] == np.sort(distinct)[::-1][[0, 499, 999]].tolist()


def test_sums_and_products_are_those_of_float64(family: Family) -> None:
    pool = pool_of(family)
    statistics = _statistics(pool).of(NAME, LABELS)
    deltas = _deltas(pool)
    models = [pool.tensor(label, NAME).double().numpy().ravel() for label in ("", *LABELS)]
    assert [statistics.l1(e) for e in range(3)] == pytest.approx([np.abs(d).sum() for d in deltas], rel=1e-12)
    assert np.allclose(statistics.gram(), np.array([[a @ b for b in models] for a in models]), rtol=0, atol=1e-12)
    expected = np.array([[a @ b for b in deltas] for a in deltas])
    assert np.allclose(statistics.gram_of_task_vectors(), expected, rtol=0, atol=1e-15)
    # fewer experts see the same numbers
    fewer = _statistics(pool).of(NAME, ("code", "prose")).gram_of_task_vectors()
    assert (fewer == statistics.gram_of_task_vectors()[np.ix_([0, 2], [0, 2])]).all()


def test_blocks_do_not_show(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(family)
    whole = _statistics(pool).of(NAME, LABELS)
    expected = whole.gram(), [whole.l1(e) for e in range(3)], [whole.kth_largest(e, 100) for e in range(3)]
    monkeypatch.setattr("evomerge.merging.methods.reductions.spans.__defaults__", (17,))
    small = _statistics(pool).of(NAME, LABELS)
    assert (small.gram() == expected[0]).all()
    assert [small.l1(e) for e in range(3)] == expected[1]
    assert [small.kth_largest(e, 100) for e in range(3)] == expected[2]


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_thresholds_with_and_without_tables(family: Family, cache_bytes: int) -> None:
    pool = pool_of(family)
    statistics = _statistics(pool, cache_bytes).of(NAME, LABELS)
    for expert, delta in enumerate(_deltas(pool)):
        ordered = np.sort(np.abs(delta))[::-1]
        for k in (1, 2, 77, len(ordered) // 2, len(ordered)):
            assert statistics.kth_largest(expert, k) == ordered[k - 1]


def test_the_threshold_of_the_whole_model(family: Family) -> None:
    pool = pool_of(family)
    everything = np.concatenate([np.abs(_deltas(pool, name)[1]) for name in pool.layout.tensors])
    ordered = np.sort(everything)[::-1]
    for density in (0.0, 0.1, 0.5, 1.0):
        found = _statistics(pool).kth_largest_of_model("math", density)
        assert found == ordered[max(1, int(density * ordered.size)) - 1]


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
@pytest.mark.parametrize("name", [NAME, "model.norm.weight"])
def test_ranks(family: Family, cache_bytes: int, name: str) -> None:
    pool = pool_of(family)
    columns = pool.shape(name)[-1]
    statistics = _statistics(pool, cache_bytes).of(name, LABELS)
    rows = np.abs(_deltas(pool, name)[2]).reshape(-1, columns)
    expected = np.argsort(np.argsort(rows, axis=1, kind="stable"), axis=1).ravel()
    size = expected.size
    for first, last in ((0, size), (0, 0), (3, size - 5), (columns - 1, min(size, columns + 1))):
        assert statistics.ranks(2, first, last).tolist() == expected[first:last].tolist()


def test_long_rows_have_wide_ranks() -> None:
    assert row_ranks(torch.zeros(1, 65_536)).dtype == torch.uint16
    assert row_ranks(torch.zeros(1, 65_537)).dtype == torch.int32
    assert row_ranks(torch.zeros(1, 65_537))[0, -1] == 65_536
    assert row_ranks(torch.tensor([[-3.0, 1.0, 2.0], [0.0, 0.0, -0.0]])).tolist() == [[2, 0, 1], [0, 1, 2]]


def test_tables_keep_within_their_memory(family: Family) -> None:
    pool = pool_of(family)
    size = np.prod(pool.shape(NAME))
    statistics = _statistics(pool, cache_bytes=int(5 * size))
    of = statistics.of(NAME, LABELS)
    for expert in range(3):
        of.kth_largest(expert, 5)
        of.ranks(expert, 0, 8)
    held = [value for value in statistics._known.values() if isinstance(value, MagnitudeTable | torch.Tensor)]
    assert held
    assert sum(table.bytes if isinstance(table, MagnitudeTable) else table.nbytes for table in held) <= 5 * size
