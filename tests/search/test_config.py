import copy

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from evomerge.config import conf_dir
from evomerge.errors import UsageError
from evomerge.search.config import SearchConfig, differing_key


def composed(*overrides: str) -> dict:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        data = OmegaConf.to_container(compose("config", list(overrides)), resolve=True)
    assert isinstance(data, dict)
    return data


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


@pytest.mark.parametrize(
    "override",
    [f"{g}={o}" for g in ("method", "space", "optimizer", "tasks", "models", "experiment") for o in options(g)],
)
def test_every_file_in_conf_composes_to_a_valid_configuration(override):
    SearchConfig.from_dict(composed(override))


def test_every_file_in_conf_says_what_it_is():
    for path in conf_dir().rglob("*.yaml"):
        assert path.read_text().startswith("#"), f"{path} has no head comment"
        yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bugdet": {}}, "unknown key 'bugdet'; did you mean 'budget'"),
        ({"budget": {"candidates": 0, "items": None, "seconds": None}}, "budget.candidates: 0 must be above zero"),
        ({"budget": {"candidates": None, "items": None, "seconds": None}}, "no limit is set"),
        ({"budget": {"candidates": 5, "items": -1, "seconds": None}}, "budget.items"),
        ({"budget": {"candidates": 5, "items": None}}, "key 'seconds' is missing"),
        ({"tasks": {}}, "nothing to score"),
        ({"items": {"search": 0, "selection": 1, "report": 1}}, "items.search"),
        ({"workers": {"name": "rya"}}, "workers.name"),
        ({"seed": -1}, "seed"),
        ({"baselines": {"grid": ["x"], "untuned": [], "random": 0}}, "baselines.grid"),
        ({"baselines": {"grid": [1.0], "untuned": [], "random": "all"}}, "baselines.random"),
        ({"racing": {"enabled": True, "alhpa": 0.1}}, "alpha"),
        ({"racing": {"enabled": True, "alpha": 2}}, "racing.alpha"),
        ({"racing": {"alpha": 0.1}}, "racing.enabled"),
        ({"objectives": {"zoo_maths": {"weight": 2.0}}}, "zoo_math"),
        ({"objectives": {"zoo_math": {"weight": -2.0}}}, "objectives.zoo_math.weight"),
        ({"objectives": {"zoo_math": {"floor": "high"}}}, "objectives.zoo_math.floor"),
        ({"models": "zoo"}, "expected a mapping"),
    ],
)
def test_bad_configurations_get_one_clear_line(change, message):
    with pytest.raises(UsageError, match=message):
        SearchConfig.from_dict({**composed(), **change})


def test_what_may_change_between_two_starts_of_a_run():
    old = composed()
    for key, value in (("budget", {"candidates": 7, "items": None, "seconds": None}), ("name", "other")):
        assert differing_key(old, {**old, key: value}) is None
    new = copy.deepcopy(old)
    new["optimizer"]["name"] = "tpe"
    assert differing_key(old, new) == "optimizer.name"
    new = copy.deepcopy(old)
    new["space"]["parameters"]["weight"]["high"] = 2.0
    assert differing_key(old, new) == "space.parameters.weight.high"
    new = copy.deepcopy(old)
    del new["models"]["experts"]["math"]
    assert differing_key(old, new) == "models.experts.math"
