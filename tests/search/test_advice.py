"""Each line of advice for a search that deserves it, none for one that just does not, and what it says works."""

import math
import re
from typing import Any

import numpy as np
import pytest

from evomerge.checkpoints import ModelPool
from evomerge.doctor import Sizes, measure_sizes
from evomerge.merging import METHODS, parameter_defaults
from evomerge.recipes import Layout, SearchSpace, stages
from evomerge.recipes.groups import finest_group
from evomerge.search.advice import POPULATIONS, advise, largest_of
from tests.search.test_config import composed, options

KNOWS = {name: parameter_defaults(name) for name in METHODS}
EXPERTS = {"code": "c", "math": "m", "translate": "t"}
WEIGHT = {"low": 0.0, "high": 1.5}
DROP_RATE = {"low": 0.0, "high": 0.9}


def names(layers: int) -> list[str]:
    inside = ("self_attn.q_proj", "mlp.up_proj", "input_layernorm")
    blocks = [f"model.layers.{i}.{name}.weight" for i in range(layers) for name in inside]
    return ["model.embed_tokens.weight", *blocks, "model.norm.weight", "lm_head.weight"]


def spaces(layers: int = 32, norms: Any = None, **config: Any) -> list[SearchSpace]:
    given = {
        "methods": ["dare_linear"],
        "granularity": "layer",
        "own": ["embeddings", "norms", "head"],
        "parameters": {"weight": WEIGHT, "drop_rate": DROP_RATE},
        **config,
    }
    return [
        SearchSpace(
            base="b",
            experts=EXPERTS,
            layout=Layout.of(names(layers)),
            config=stage.config,
            method_parameters=KNOWS,
            squared_norms=norms,
        )
        for stage in stages(given)
    ]


def advice(made: list[SearchSpace] | None = None, **given: Any) -> list[str]:
    made = made or spaces(granularity="global")
    shares = (1 / len(made),) * len(made)
    return advise(made, **{"optimizer": "cmaes", "candidates": 200, "shares": shares, **given})


@pytest.fixture(scope="module")
def zoo() -> tuple[ModelPool, Sizes]:
    experts = composed()["models"]["experts"]
    pool = ModelPool.open("zoo:base", experts, check_weights=False)
    return pool, measure_sizes(pool)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["experiment=quickstart"],
        ["experiment=zoo120"],
        ["space=refine", "budget.candidates=300"],
        *([f"space={name}", "budget.candidates=200"] for name in ("global", "blocks", "layers", "lines")),
        *([f"method={name}"] for name in options("method")),
    ],
    ids=" ".join,
)
def test_ready_made_searches_need_no_advice(overrides: list[str], zoo: tuple[ModelPool, Sizes]) -> None:
    pool, sizes = zoo
    config = composed(*overrides)
    found = stages(config["space"])
    made = [
        SearchSpace(
            base="b",
            experts=config["models"]["experts"],
            layout=pool.layout,
            config=stage.config,
            method_parameters=KNOWS,
            squared_norms=sizes.squared_norms,
        )
        for stage in found
    ]
    assert not advise(
        made,
        optimizer=config["optimizer"]["name"],
        options=config["optimizer"]["options"],
        candidates=config["budget"]["candidates"],
        shares=[stage.share for stage in found],
        items=dict.fromkeys(config["tasks"], config["items"]["search"]),
        drop_rate_limits=sizes.drop_rate_limits,
    )


def test_too_many_dimensions_get_a_space_that_fits() -> None:
    made = spaces(split=True, layers=30)
    assert len(made[0]) == 558
    (line,) = advice(made)
    assert line.startswith("space: 558 dimensions are too many for 200 candidates, fewer than 2 for each; write ")
    assert line.endswith("write granularity: global (36 dimensions), or space=lines (9), or budget.candidates: 1116")
    assert len(spaces(split=True, layers=30, granularity="global")[0]) == 36
    assert advice(spaces(granularity="global")) == []
    assert advice(made, candidates=1116) == []
    (line,) = advice(spaces(layers=32))
    assert "write granularity: 12 (36 dimensions), or" in line
    assert len(spaces(layers=32, granularity=12)[0]) == 36
    assert advice(spaces(layers=32, granularity=12)) == []
    (line,) = advice(spaces(layers=32), candidates=60)
    assert "write granularity: global, own: [] (6 dimensions), or space=lines (9), or budget.candidates: 420" in line


def test_a_parameter_s_own_granularity_is_advised_on_too() -> None:
    t = {"low": 0.0, "high": 1.0, "granularity": "layer"}
    (line,) = advice(spaces(methods=["slerp"], parameters={}, options={"t": t}), candidates=40)
    assert "write options.t.granularity: 8 (7 dimensions), or budget.candidates: 70" in line


@pytest.mark.parametrize("optimizer", ["random", "sobol", "qmc"])
def test_optimizers_that_learn_nothing_need_no_candidates(optimizer: str) -> None:
    assert advice(spaces(), optimizer=optimizer) == []


def test_an_optimizer_for_sparse_spaces_needs_fewer_candidates() -> None:
    made = spaces(layers=20)  # 138 dimensions
    assert advice(made, optimizer="saasgp") == []
    assert "fewer than 1 for each" in advice(made, optimizer="saasgp", candidates=100)[0]
    assert "fewer than 2 for each" in advice(made, optimizer="tpe")[0]


def test_the_coefficients_of_map() -> None:
    made = spaces(layers=8, granularity=2)  # 42 dimensions, 21 of them weights
    (line,) = advice(made, optimizer="map", options={"form": "full"})
    assert "a full quadratic has 295 coefficients" in line
    assert 1 + 42 + 42 + math.comb(21, 2) == 295
    assert line.endswith("budget.candidates: 443")
    assert advice(made, optimizer="map", options={"form": "full"}, candidates=443) == []
    (line,) = advice(made, optimizer="map", options={"form": "full", "coefficients": "all"})
    assert f"has {1 + 84 + math.comb(42, 2)} coefficients" in line
    assert advice(made, optimizer="map", options={"form": "auto"}) == []


def test_gp_and_m2n2_are_made_for_some_spaces_only() -> None:
    (line,) = advice(optimizer="gp")
    assert "24 dimensions are many for optimizer=gp" in line
    assert advice(spaces(granularity="global", own=[]), optimizer="gp") == []
    (line,) = advice(optimizer="m2n2")
    assert "here no layers have values of their own; write granularity: layer" in line
    assert advice(spaces(granularity=16), optimizer="m2n2") == []


@pytest.mark.parametrize("optimizer", ["cmaes", "nsga2", "nsga3", "m2n2"])
def test_a_population_needs_generations(optimizer: str) -> None:
    made = spaces(granularity=16, own=[], parameters={"weight": WEIGHT})  # 9 dimensions
    size = POPULATIONS[optimizer](9)
    assert advice(made, optimizer=optimizer, candidates=3 * size) == []
    (line,) = advice(made, optimizer=optimizer, candidates=3 * size - 1)
    assert f"candidates are {(3 * size - 1) / size:.1f} generations of {size}" in line
    assert f"write optimizer.options.population: {size - 1}, or budget.candidates: {3 * size}" in line
    own = {"population": size - 1}
    assert advice(made, optimizer=optimizer, candidates=3 * size - 1, options=own) == []
    few = spaces(granularity="global", own=[], parameters={"weight": WEIGHT})
    line = advice(few, optimizer=optimizer, candidates=13)[-1]
    assert "; write budget.candidates: " in line, "populations of four are none"
    assert advice(few, optimizer="tpe", candidates=13) == []


def test_populations_are_those_of_the_optimizers() -> None:
    import inspect

    from evomerge.optimizers.factory import OPTIMIZERS

    for name, size in POPULATIONS.items():
        default = inspect.signature(OPTIMIZERS[name]).parameters["population"].default
        assert default in (None, size(9)), name


def test_stages_are_advised_by_what_is_known_at_their_end() -> None:
    refined = spaces(granularity="global", own=[], refine=[{"granularity": 16}, {"granularity": "layer"}])
    assert [len(space) for space in refined] == [6, 18, 198]
    assert advice(refined, candidates=400) == []
    (line,) = advice(refined, candidates=300)
    assert line.startswith("space.refine.1: 198 dimensions are too many for 300 candidates")
    assert line.endswith("leave this stage out, or write granularity: 4 (54 dimensions), or budget.candidates: 396")
    (line,) = advice(refined[:2], candidates=40, shares=(0.8, 0.2))
    assert line.startswith("space.refine.0: 8 candidates are 0.7 generations of 12")
    assert line.endswith("write budget.candidates: 180")


def test_stages_whose_points_are_lost() -> None:
    crossing = spaces(layers=12, granularity=4, refine=[{"granularity": 3}])
    (line,) = advice(crossing, candidates=400)
    assert line.startswith("space.refine.0: most points of the stage before do not lie in this one")
    assert advice(spaces(layers=12, granularity=4, refine=[{"granularity": 2}]), candidates=400) == []
    fewer = spaces(layers=12, granularity=4, refine=[{"granularity": 2, "own": []}])
    assert "keep its own groups" in advice(fewer, candidates=400)[0]
    lines = {"weight": {"shape": "lines", "low": 0.0, "high": 1.0}, "drop_rate": DROP_RATE}
    change = {"granularity": "layer", "parameters": {"weight": WEIGHT}}
    shaped = spaces(layers=4, granularity="global", own=[], parameters=lines, refine=[change])
    assert advice(shaped, candidates=400) == [], "a few steep lines are lost, most are not"


def test_groups_that_no_expert_changes() -> None:
    layers = {finest_group(name): 1.0 for name in names(8) if "layers" in name}
    adapters = dict.fromkeys(EXPERTS, layers)
    (line,) = advice(spaces(layers=8, norms=adapters, granularity="global"))
    assert line == (
        "space: no expert changes embeddings, norms, head: 18 of 24 dimensions for nothing; write own: [] (6)"
    )
    one_does = {**adapters, "math": {**layers, "norms": 1e-9}}
    (line,) = advice(spaces(layers=8, norms=one_does, granularity="global"))
    assert "no expert changes embeddings, head: 6 of 24" in line
    assert line.endswith("write own: [norms] (18)")
    assert advice(spaces(layers=8, norms=adapters, granularity="global", own=[])) == []
    assert advice(spaces(layers=8, norms=adapters, granularity="global", importance=False)) == [], "nothing is known"


@pytest.mark.parametrize(
    ("config", "end"),
    [
        ({"weight": {"low": 0.1, "high": 1.5}}, "the base and the experts cannot {}; write parameters.weight.low: 0"),
        ({"weight": {"low": -0.5, "high": 0.8}}, "the experts cannot {}; write parameters.weight.high: 1"),
        (
            {"weight": WEIGHT, "drop_rate": {"low": 0.1, "high": 0.8}},
            "the base and the experts cannot {}; write parameters.drop_rate.low: 0",
        ),
        (
            {"weight": {"shape": "lines", "alpha": {"low": 0.2, "high": 1.0}, "beta": {"low": 0.1, "high": 0.3}}},
            "the base and the experts cannot {}; write parameters.weight.alpha.low: 0, parameters.weight.beta.low: 0",
        ),
        ({"weight": WEIGHT}, None),
        ({"weight": {"low": 0.0, "high": 1.0}, "drop_rate": 0.5}, None),  # it is meant so
        ({"weight": {"choices": [0.5, 1.0]}}, None),
        ({"weight": 1.0, "drop_rate": DROP_RATE}, None),
    ],
)
def test_a_box_without_base_and_experts(config: dict[str, Any], end: str | None) -> None:
    (made,) = spaces(granularity="global", own=[], parameters=config)
    found = advice([made])
    if end is None:
        assert found == []
        return
    assert found == [f"space: {end.format('be proposed, nor be starting points')}"]
    parameters = {name: dict(entry) for name, entry in config.items()}
    for path, value in re.findall(r"parameters\.(\S+): ([-\d.]+)", found[0]):
        *outer, key = path.split(".")
        node = parameters
        for word in outer:
            node = node[word]
        node[key] = float(value)
    assert advice(spaces(granularity="global", own=[], parameters=parameters)) == [], "what it says works"


def test_methods_that_are_no_task_arithmetic_have_boxes_of_their_own() -> None:
    weight = {"low": 0.01, "high": 1.0}
    assert advice(spaces(granularity="global", methods=["linear"], parameters={"weight": weight})) == []


def test_weights_that_are_normalised_needlessly() -> None:
    (line,) = [line for line in advice(spaces(granularity="global", options={"normalize": True})) if "ratio" in line]
    assert line.endswith("write options.normalize: false, or search options.lambda")
    ties = {"granularity": "global", "methods": ["ties"]}
    assert "ratio" in advice(spaces(**ties))[0], "it is the method's default"
    assert advice(spaces(**ties, options={"normalize": False})) == []
    assert advice(spaces(**ties, options={"lambda": {"low": 0.5, "high": 2.0}})) == []
    assert advice(spaces(**{**ties, "methods": ["ties", "dare_ties"]})) == []
    assert advice(spaces(**ties, parameters={"weight": 1.0, "drop_rate": DROP_RATE})) == []


def test_drop_rates_beyond_the_guard_of_dare() -> None:
    (line,) = advice(drop_rate_limits={"math": 0.31, "code": 0.44, "translate": 0.46})
    assert "a tenth of the base's weights at 0.31 of math and 0.44 of code; " in line
    assert "write parameters.drop_rate.high: 0.31, or methods" in line
    assert advice(drop_rate_limits={"math": 0.46}) == [], "less than half of the box is beyond it"
    made = spaces(granularity="global", parameters={"weight": WEIGHT, "drop_rate": {"low": 0.0, "high": 0.31}})
    assert advice(made, drop_rate_limits={"math": 0.31}) == []
    trims = spaces(granularity="global", methods=["breadcrumbs"])
    assert advice(trims, drop_rate_limits={"math": 0.1}) == [], "it does not rescale"


def test_too_few_items() -> None:
    assert advice(items={"a": 100}) == []
    assert advice(items={"a": 64, "b": 64, "c": 64}) == []
    (line,) = advice(items={"a": 48})
    assert line.startswith("items.search: 48 items of 1 task tell a score to 7.2 points")
    assert line.endswith("write items.search: 209")
    assert advice(items={"a": 209}) == []
    assert "16 to 32 items of 2 tasks" in advice(items={"a": 16, "b": 32})[0]
    assert advice(items={"a": 48}, candidates=None) == []


def test_more_items_than_a_search_can_use() -> None:
    assert advice(items={"a": 5000, "b": 5000}) == []
    (line,) = advice(items={"a": 7000, "b": 300})
    assert "300 to 7000 items of 2 tasks are more than a search can use" in line
    assert line.endswith("write items.search: 2893")


def test_the_figures_of_the_winner_s_curse() -> None:
    """What the line says of 200 candidates at 48 items, against a simulation."""
    (line,) = advice(items={"a": 48})
    looks, gains = re.search(r"looks (\d+) points too good and gains (\d+) %", line).groups()  # type: ignore[union-attr]
    rng = np.random.default_rng(0)
    true = 0.5 + 0.02 * rng.standard_normal((4000, 200))
    seen = true + math.sqrt(0.25 / 48) * rng.standard_normal(true.shape)
    winner = seen.argmax(axis=1)
    rows = np.arange(len(true))
    assert int(looks) == pytest.approx(100 * (seen - true)[rows, winner].mean(), abs=0.6)
    share = (true[rows, winner] - 0.5).mean() / (true.max(axis=1) - 0.5).mean()
    assert int(gains) == pytest.approx(100 * share, abs=1.5)


@pytest.mark.parametrize("k", [5, 30, 200, 1000])
def test_the_largest_of_normal_numbers(k: int) -> None:
    largest = np.random.default_rng(k).standard_normal((8000, k)).max(axis=1).mean()
    assert largest_of(k) == pytest.approx(largest, rel=0.015)


def test_floors_in_percent() -> None:
    assert advice(floors={"a": 0.4, "b": 1.0}) == []
    assert advice(floors={"a": 40.0}) == [
        "objectives.a.floor: no score is above 1, so 40 leaves no candidate; write 0.4"
    ]


def test_without_a_number_of_candidates_only_the_space_is_judged() -> None:
    assert advice(spaces(), candidates=None) == []
    assert len(advice(spaces(options={"normalize": True}), candidates=None)) == 1
