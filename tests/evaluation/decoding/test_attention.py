import pytest
import torch

from evomerge.evaluation.decoding.attention import attend, attend_shared, join

D, SCALE = 8, 0.3


def plain(query, key, value, mask=None):
    """Attention written out, in float64; key and value with one head for each of the query's."""
    scores = query.double() @ key.double().transpose(-1, -2) * SCALE
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1) @ value.double(), scores.logsumexp(-1)


def parts(rows, heads, groups, queries, keys, seed=0):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(rows, heads, queries, D, generator=generator)
    pair = torch.randn(2, rows, groups, keys, D, generator=generator)
    return query, pair[0], pair[1]


def spread(part, heads):
    return part.repeat_interleave(heads // part.shape[1], dim=1)


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("queries", [1, 5])
def test_attend(heads, groups, queries):
    query, key, value = parts(3, heads, groups, queries, 7)
    output, weight = attend(query, key, value, scale=SCALE)
    expected, log = plain(query, spread(key, heads), spread(value, heads))
    torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(weight.double(), log, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2)])
def test_attend_causal(heads, groups):
    query, key, value = parts(2, heads, groups, 6, 6)
    output, weight = attend(query, key, value, scale=SCALE, causal=True)
    ahead = torch.full((6, 6), float("-inf")).triu(1)
    expected, log = plain(query, spread(key, heads), spread(value, heads), ahead)
    torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(weight.double(), log, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2)])
def test_attend_masked(heads, groups):
    """A step's mask: one query a row, each row with its own first key."""
    query, key, value = parts(3, heads, groups, 1, 7)
    mask = torch.where(torch.arange(7) < torch.tensor([0, 2, 6])[:, None], float("-inf"), 0.0)[:, None, None]
    output, _ = attend(query, key, value, scale=SCALE, mask=mask)
    expected, _ = plain(query, spread(key, heads), spread(value, heads), mask)
    torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2)])
@pytest.mark.parametrize("queries", [1, 3])
def test_two_parts_are_the_whole(heads, groups, queries):
    query, key, value = parts(3, heads, groups, queries, 9)
    shared = key[:1, :, :5], value[:1, :, :5]
    whole = [
        torch.cat([one.expand(3, -1, -1, -1), own[:, :, 5:]], dim=2)
        for one, own in zip(shared, (key, value), strict=True)
    ]
    found = join(attend_shared(query, *shared, scale=SCALE), attend(query, key[:, :, 5:], value[:, :, 5:], scale=SCALE))
    expected, _ = plain(query, *(spread(part, heads) for part in whole))
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_join_where_one_part_has_all_the_weight():
    output = torch.ones(1, 1, 1, D), torch.zeros(1, 1, 1, D)
    far = torch.full((1, 1, 1), 300.0)
    assert torch.equal(join((output[0], far), (output[1], -far)), output[0])
    assert torch.equal(join((output[0], -far), (output[1], far)), output[1])
