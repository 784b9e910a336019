import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.recipes.space import SearchSpace
from evomerge.search.alternatives import changed, coarser, nested, on_lines, undropped, wider, word, written
from tests.search.test_advice import DROP_RATE, WEIGHT, spaces


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["layer", 1, 2, 5, "global"]),
    st.booleans(),
    st.sampled_from([[], ["head"], ["embeddings", "norms", "head"]]),
    st.sampled_from([{}, {"granularity": "layer"}, {"granularity": 3}]),
    st.integers(1, 60),
)
def test_the_finest_division_that_fits_is_written_as_it_is(granularity, split, own, dividing, most):
    parameters = {"weight": WEIGHT, "drop_rate": {**DROP_RATE, **dividing}}
    (space,) = spaces(layers=6, granularity=granularity, split=split, own=own, parameters=parameters)

    def fits(other: SearchSpace) -> bool:
        return len(other) <= most

    found = coarser(space, fits)
    if found is None:
        assert most < 6 or len(space) <= 6, "one value an expert and parameter is the coarsest"
        return
    changes, made = found
    assert len(made) <= most
    assert len(made) < len(space)
    assert changed(space, changes).dimensions == made.dimensions
    for path in changes:
        assert changed(space, {key: value for key, value in changes.items() if key != path}).dimensions != (
            made.dimensions
        ), "nothing is written that changes nothing"
    assert all(f"{'.'.join(path)}: " in written(changes) for path in changes)


def test_larger_blocks_come_before_fewer_groups():
    (space,) = spaces(layers=12, split=True)
    sizes, words = [], []
    while found := coarser(space, lambda other, before=space: len(other) < len(before)):
        words.append(written(found[0]))
        space = found[1]
        sizes.append(len(space))
    assert words[0] == "granularity: 2"
    assert words[-1] == "own: []"
    assert "split: false" in words
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 6


def test_lines_keep_the_bounds_of_the_weights():
    (space,) = spaces(split=True, options={"lambda": {"low": 0.5, "high": 2.0}})
    made = on_lines(space)
    assert made is not None
    assert len(made) == 3 * 2 + 3 + 1
    weights = [dimension for dimension in made.dimensions if dimension.parameter == "weight"]
    assert all((dimension.low, dimension.high) == (0.0, 1.5) for dimension in weights)
    for parameters in ({"weight": 1.0, "drop_rate": DROP_RATE}, {"weight": {"shape": "lines", **WEIGHT}}):
        assert on_lines(spaces(parameters=parameters)[0]) is None
    assert on_lines(spaces(layers=1)[0]) is None


def test_nested_is_about_most_points():
    lines, high, low = (
        spaces(layers=4, parameters={"weight": weight})[0]
        for weight in ({"shape": "lines", "low": 0.0, "high": 1.0}, WEIGHT, {"low": 0.0, "high": 0.7})
    )
    assert nested(lines, high), "a few steep lines leave it"
    assert not nested(lines, low)
    assert nested(low, high)
    assert not nested(high, low)


def test_bounds_that_are_wide_enough_stay():
    assert wider(spaces()[0]) == undropped(spaces()[0]) == {}
    narrow = {"weight": {"low": 0.2, "high": 0.5}, "drop_rate": {"low": 0.1, "high": 0.2}}
    (space,) = spaces(parameters=narrow)
    assert wider(space) == {("parameters", "weight", "low"): 0.0, ("parameters", "weight", "high"): 1.0}
    assert undropped(space) == {("parameters", "drop_rate", "low"): 0.0}
    wide = changed(space, wider(space) | undropped(space))
    assert {(dimension.low, dimension.high) for dimension in wide.dimensions} == {(0.0, 1.0), (0.0, 0.2)}
    assert space.config["parameters"] == narrow, "the configuration is left as it is"


@pytest.mark.parametrize(
    ("value", "text"), [([], "[]"), (["norms", "head"], "[norms, head]"), (False, "false"), (0.0, "0"), (4, "4")]
)
def test_words(value, text):
    assert word(value) == text
