"""Optimizers by name."""

import pytest

from evomerge.errors import UsageError
from evomerge.optimizers import CmaEs, RandomSearch, SobolSearch, Tpe, create, maximin
from tests.optimizers.landscapes import box, goals

KINDS = {"random": RandomSearch, "sobol": SobolSearch, "cmaes": CmaEs, "tpe": Tpe}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_names(name, kind):
    optimizer = create(name, box(2), goals(2), seed=0, first_number=4, scalarization="maximin")
    assert type(optimizer) is kind
    assert optimizer.ask(1)[0].number == 4


def test_options_reach_the_optimizer():
    assert len(create("cmaes", box(2), goals(), seed=0, population=12).ask(100)) == 12
    assert create("cmaes", box(2), goals(), seed=0, scalarization="maximin")._scalarize is maximin


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cma-es", {}, "unknown optimizer 'cma-es'; did you mean 'cmaes'"),
        ("cmaes", {"popsize": 3}, "optimizer cmaes: unknown key 'popsize'"),
        ("cmaes", {"sigma": 0.2}, "did you mean 'sigma0'"),
        ("tpe", {"start": 3}, "did you mean 'startup'"),
        ("random", {"population": 3}, "optimizer random has no options; remove 'population'"),
        ("tpe", {"scalarization": "sum"}, "unknown scalarization 'sum'"),
    ],
)
def test_what_is_unknown_is_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        create(name, box(2), goals(), seed=0, **options)
