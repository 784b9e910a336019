"""Optimizers by name."""

from pathlib import Path

import pytest
import yaml

from evomerge.errors import UsageError
from evomerge.optimizers import (
    OPTIMIZERS,
    CmaEs,
    Gp,
    NamedSampler,
    Nsga2,
    Nsga3,
    Problem,
    RandomSearch,
    SobolSearch,
    Tpe,
    create,
    maximin,
)
from tests.optimizers.landscapes import box, goals

KINDS = {
    "random": RandomSearch,
    "sobol": SobolSearch,
    "cmaes": CmaEs,
    "tpe": Tpe,
    "gp": Gp,
    "nsga2": Nsga2,
    "nsga3": Nsga3,
    "optuna": NamedSampler,
}
CONF = Path(__file__).parents[2] / "conf" / "optimizer"


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_names(name, kind):
    optimizer = create(name, Problem(box(2), goals(2), seed=0, first_number=4), scalarization="maximin")
    assert type(optimizer) is kind
    assert optimizer.ask(1)[0].number == 4


def test_options_reach_the_optimizer():
    assert create("cmaes", Problem(box(2), goals(), seed=0), population=12)._population == 12
    assert create("cmaes", Problem(box(2), goals(), seed=0), scalarization="maximin")._scalarize is maximin


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimizer_has_a_file_in_conf_that_builds_it(name):
    data = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert set(data) == {"name", "scalarization", "options"}
    assert data["name"] == name
    create(name, Problem(box(12), goals(2), seed=0), scalarization=data["scalarization"], **data["options"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cma-es", {}, "unknown optimizer 'cma-es'; did you mean 'cmaes'"),
        ("cmaes", {"popsize": 3}, "optimizer cmaes: unknown key 'popsize'"),
        ("cmaes", {"sigma": 0.2}, "did you mean 'sigma0'"),
        ("tpe", {"start": 3}, "did you mean 'startup'"),
        ("random", {"population": 3}, "optimizer random has no options; remove 'population'"),
        ("optuna", {"sampler": "TPESampel"}, "did you mean 'TPESampler'"),
        ("tpe", {"scalarization": "sum"}, "unknown scalarization 'sum'"),
    ],
)
def test_what_is_unknown_is_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        create(name, Problem(box(2), goals(), seed=0), **options)
