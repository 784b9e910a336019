import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import UsageError
from evomerge.merging.methods import parameter_defaults
from evomerge.recipes import Recipe, SearchSpace, Stage, stages
from evomerge.recipes.recipe import PASSTHROUGH
from tests.recipes.test_groups import LLAMA
from tests.recipes.test_space import space, spaces
from tests.search.test_config import composed

EXPERTS = ("code", "math")
RANGE = {"low": 0.0, "high": 1.5}


def built(config: dict[str, Any]) -> list[SearchSpace]:
    return [space(**stage.config) for stage in stages(config)]


def values(recipe: Recipe) -> list[Any]:
    """What a method is given at every tensor, its defaults where the recipe says nothing."""
    found = []
    for name, default in parameter_defaults(recipe.method).items():
        for tensor, expert in itertools.product(LLAMA, EXPERTS):
            if name in recipe.parameters:
                found.append(recipe.parameter(name, expert, tensor))
            elif name == PASSTHROUGH and name in recipe.options:
                groups = {"all": "", **recipe.options[name]}
                found.append(recipe.with_(options={name: groups}).option(name, tensor))
            else:
                found.append(recipe.option(name, tensor) if name in recipe.options else default)
    return found


def same(one: Recipe, two: Recipe) -> bool:
    if one.method != two.method:
        return False
    return all(
        type(a) is type(b) and (abs(a - b) <= 1e-8 if isinstance(a, float) else a == b)
        for a, b in zip(values(one), values(two), strict=True)
    )


@settings(deadline=None, max_examples=60)
@given(spaces(), spaces(), st.data())
def test_a_point_that_is_found_in_another_space_is_the_same_merge(coarse, fine, data):
    coordinates = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)
    vector = data.draw(st.lists(coordinates, min_size=len(coarse), max_size=len(coarse)))
    recipe = coarse.recipe(vector)
    found = fine.vector(recipe)
    if found is not None:
        assert all(0.0 <= u <= 1.0 for u in found)
        assert fine.recipe(found).method != recipe.method or same(fine.recipe(found), recipe)


WEIGHTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({**RANGE, "granularity": "global", "own": []}, {**RANGE, "granularity": "layer", "split": True}),
    ({**RANGE, "granularity": "global"}, {**RANGE, "granularity": 4}),
    ({**RANGE, "granularity": 4, "own": ["head"]}, {**RANGE, "granularity": 2, "own": ["head", "norms"]}),
    ({**RANGE, "granularity": 2, "split": True}, {**RANGE, "granularity": "layer", "split": True}),
    ({**RANGE, "granularity": 2}, {"low": -0.1, "high": 1.7, "granularity": 1}),
    ({"shape": "lines", "low": 0.1, "high": 0.7}, {"low": 0.1, "high": 1.4, "granularity": "layer", "own": []}),
    ({"shape": "lines", "alpha": 0.3, **RANGE}, {"shape": "lines", **RANGE}),
    ({"shape": "lines", "alpha": 0.3, "beta": 0.5}, {**RANGE, "granularity": "layer", "own": ["head"]}),
    ({"shape": "gradient", "anchors": 2, **RANGE}, {"shape": "gradient", "anchors": 3, **RANGE}),
    ({"shape": "gradient", "anchors": 3, **RANGE}, {"shape": "gradient", "anchors": 5, **RANGE}),
    (
        {"shape": "gradient", "anchors": 4, "low": 0.1, "high": 0.7},
        {"low": 0.1, "high": 0.7, "granularity": "layer", "own": ["norms", "head"]},
    ),
    ({**RANGE, "granularity": "global", "own": []}, {"shape": "lines", "alpha": RANGE, "beta": RANGE}),
    ({**RANGE, "granularity": "global", "own": []}, {"shape": "gradient", "anchors": 4, **RANGE}),
    ({"choices": [0.0, 0.5, 1.0], "granularity": 2}, {**RANGE, "granularity": "layer"}),
    ({"choices": [0.0, 1.0], "granularity": 2}, {"choices": [1.0, 0.5, 0.0], "granularity": 1}),
    ({"layers.0-2": 0.5, "all": 1.0}, {**RANGE, "granularity": 3, "own": []}),  # type: ignore[dict-item]
    (0.7, {**RANGE, "granularity": "layer", "own": []}),  # type: ignore[list-item]
    (0.7, 0.7),  # type: ignore[list-item]
]
OPTIONS: list[tuple[Any, Any]] = [
    ({"lambda": {"low": 0.5, "high": 2.0}}, {"lambda": {"low": 0.5, "high": 2.0, "granularity": "layer", "own": []}}),
    ({"lambda": 1.5}, {"lambda": {"low": 0.5, "high": 2.0}}),
    ({}, {"lambda": {"shape": "lines", "low": 0.0, "high": 1.0}, "normalize": {"choices": [True, False]}}),
    ({"rescale": {"choices": ["inv_keep", "l1"]}}, {"rescale": {"choices": ["l1", "inv_keep"], "granularity": 2}}),
    (
        {"passthrough": {"choices": ["", "base"], "granularity": "global"}},
        {"passthrough": {"choices": ["math", "base", ""], "granularity": "layer"}},
    ),
    ({"passthrough": {"head": "base"}}, {"passthrough": {"choices": ["", "base"], "granularity": "layer"}}),
]


@settings(deadline=None, max_examples=20)
@given(st.data())
@pytest.mark.parametrize(
    ("coarse", "fine", "section"),
    [(*pair, "weight") for pair in WEIGHTS] + [(*pair, "options") for pair in OPTIONS],
    ids=str,
)
def test_every_point_of_a_coarser_space_lies_in_a_finer_one(coarse, fine, section, data):
    def made(own: Any) -> SearchSpace:
        drop_rate = {"low": 0.0, "high": 0.9, "granularity": "global"}
        if section == "weight":
            return space(parameters={"weight": own, "drop_rate": drop_rate})
        return space(methods=["dare_linear", "della_linear"], options=own)

    before, after = made(coarse), made(fine)
    coordinates = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)  # corners: rounding must not lose them
    vector = data.draw(st.lists(coordinates, min_size=len(before), max_size=len(before)))
    recipe = before.recipe(vector)
    found = after.vector(recipe)
    assert found is not None
    assert same(after.recipe(found), recipe)


@pytest.mark.parametrize(
    ("coarse", "fine"),
    [
        ({**RANGE, "granularity": 2}, {**RANGE, "granularity": 3}),  # blocks that cross
        ({**RANGE, "granularity": 2, "own": ["head"]}, {**RANGE, "granularity": 1, "own": []}),  # the head is no group
        ({**RANGE, "granularity": 2, "split": True}, {**RANGE, "granularity": 1}),  # parts that are joined again
        ({"low": 0.0, "high": 2.0}, {"low": 0.0, "high": 1.0, "granularity": 1}),  # other bounds
        ({"shape": "lines", **RANGE}, {**RANGE, "granularity": 2}),  # a slope inside a block
        ({"shape": "lines", **RANGE}, {"shape": "gradient", "anchors": 2, **RANGE}),  # norms and head: first or last?
        ({"shape": "gradient", "anchors": 2, **RANGE}, {**RANGE, "granularity": 1, "own": []}),  # likewise
        ({"shape": "gradient", "anchors": 3, **RANGE}, {"shape": "gradient", "anchors": 4, **RANGE}),  # a corner moves
        (RANGE, 0.7),
        (RANGE, {"choices": [0.0, 1.0]}),
    ],
)
def test_a_point_that_another_space_does_not_have_is_not_found(coarse, fine):
    before, after = (space(parameters={"weight": own, "drop_rate": RANGE}) for own in (coarse, fine))
    vector = [0.61 + 0.39 * (i * i % 7) / 7 for i in range(len(before))]
    assert after.vector(before.recipe(vector)) is None


def test_without_refinement_there_is_one_stage():
    config = {"granularity": 2, "parameters": {"weight": RANGE}}
    assert stages(config) == stages({**config, "refine": []}) == stages({**config, "refine": None})
    assert stages(config) == [Stage(config, 1.0)]


def test_each_stage_changes_the_one_before_it():
    config = {
        "granularity": "global",
        "own": ["head"],
        "parameters": {"weight": RANGE, "drop_rate": {"low": 0.0, "high": 0.9, "granularity": "global"}},
        "options": {"lambda": {"low": 0.5, "high": 2.0}},
        "refine": [
            {"granularity": 2},
            {"parameters": {"weight": {"shape": "lines", **RANGE}}, "share": 0.2},
            {"split": True, "parameters": {"drop_rate": {"granularity": "layer"}, "weight": 1.0}, "options": {"t": 0}},
        ],
    }
    found = stages(config)
    assert [stage.share for stage in found] == pytest.approx([0.8 / 3, 0.8 / 3, 0.2, 0.8 / 3])
    assert all("refine" not in stage.config for stage in found)
    assert [stage.config["granularity"] for stage in found] == ["global", 2, 2, 2]
    assert found[2].config["parameters"]["weight"] == {"shape": "lines", **RANGE}
    assert found[2].config["parameters"]["drop_rate"] == config["parameters"]["drop_rate"]
    last = found[3].config
    assert last["parameters"] == {"weight": 1.0, "drop_rate": {"low": 0.0, "high": 0.9, "granularity": "layer"}}
    assert last["options"] == {"lambda": {"low": 0.5, "high": 2.0}, "t": 0}
    assert last["split"] is True
    assert "split" not in config, "the configuration is left as it is"


def test_the_refinement_of_conf_is_nested():
    for method in ("dare_linear", "ties", "any"):
        found = built(composed("space=refine", f"method={method}")["space"])
        assert [len(one) < len(two) for one, two in itertools.pairwise(found)] == [True, True]
        for before, after in itertools.pairwise(found):
            for probe in [*before.probes(), before.recipe([0.3] * len(before))]:
                again = after.vector(probe)
                assert again is not None
                assert same(after.recipe(again), probe)


def test_a_space_is_one_stage():
    with pytest.raises(ValueError, match="one stage"):
        space(refine=[{"granularity": 1}])
    assert len(space(refine=[])) == len(space())


@pytest.mark.parametrize(
    ("refine", "message"),
    [
        ("layer", "write a list of what each later stage changes, not 'layer'"),
        ({"granularity": 2}, "write a list"),
        (["layer"], r"refine.0: write what the stage changes, as in {granularity: layer}, not 'layer'"),
        ([{"granularty": 2}], r"refine.0: unknown key 'granularty'; did you mean 'granularity'"),
        ([{"granularity": 2}, {"methods": ["ties"]}], r"refine.1: unknown key 'methods'"),
        ([{"share": 0.5}], "refine.0: changes nothing; give it one of granularity"),
        ([{}], "changes nothing"),
        ([{"granularity": 2, "share": 1.0}], "share: 1.0 must lie above 0 and below 1"),
        ([{"granularity": 2, "share": True}], "share: True must lie"),
        ([{"granularity": 2, "share": "half"}], "share: 'half' must lie"),
        ([{"granularity": 2, "share": 0.6}, {"granularity": 1, "share": 0.4}], "their sum must be below 1"),
        ([{"parameters": ["weight"]}], r"refine.0.parameters: expected a mapping, not \['weight'\]"),
    ],
)
def test_bad_stages_get_one_clear_line(refine, message):
    with pytest.raises(UsageError, match=message):
        stages({"granularity": "global", "parameters": {"weight": RANGE}, "refine": refine})


def test_what_a_stage_gets_wrong_in_its_space_is_said_by_the_space():
    with pytest.raises(UsageError, match="granularity 'layr'"):
        built({"refine": [{"granularity": "layr"}]})
    with pytest.raises(UsageError, match="unknown key 'granularity'"):
        built(
            {
                "parameters": {"weight": {"shape": "lines", **RANGE}},
                "refine": [{"parameters": {"weight": {"granularity": "layer"}}}],
            }
        )
