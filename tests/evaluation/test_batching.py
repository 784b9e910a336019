import pytest

from evomerge.evaluation import load_model
from evomerge.evaluation.batching import Batching, cut


def test_cut():
    assert cut([], [], Batching(4, 100, 1)) == []
    assert cut([7, 8, 9], [30, 20, 10], Batching(2, 1000, 1)) == [[7, 8], [9]]
    assert cut([7, 8, 9], [30, 20, 10], Batching(64, 60, 1)) == [[7, 8], [9]]
    assert cut([7, 8], [300, 200], Batching(64, 60, 1)) == [[7], [8]]


@pytest.mark.parametrize("rows", [1, 8])
def test_no_batch_is_larger_than_its_shape_allows(rows):
    sizes = sorted((3 * n % 50 + 1 for n in range(200)), reverse=True)
    batches = cut(range(200), sizes, Batching(rows, 100, 1))
    assert [index for batch in batches for index in batch] == list(range(200))
    assert all(len(batch) <= rows for batch in batches)
    assert all(sizes[batch[0]] * len(batch) <= 100 for batch in batches)


def test_found_from_memory(model_dir):
    model, _ = load_model(model_dir)
    found = Batching.of(model)
    assert found.rows == 256
    assert found.tokens & (found.tokens - 1) == 0
    each = 2 * 2 * 2 * 12 * 4  # keys and values, layers, heads, size, bytes
    assert 10**6 < found.tokens * each < 10**11
    assert Batching.of(model, 5).rows == 5
    assert Batching.from_dict(found.to_dict()) == found
