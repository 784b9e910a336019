import pytest

from evomerge.cli.plan import _bytes
from evomerge.config import compose
from evomerge.errors import UsageError
from tests.search.runs import SMALL, here


def test_the_configuration_is_that_of_a_search():
    data, directory = compose(["experiment=quickstart", "seed=3", "budget.candidates=9"])
    assert data["budget"]["candidates"] == 9
    assert str(directory) == "runs/quickstart-map-seed3"
    assert "hydra" not in data


def test_an_unknown_override_is_refused_as_a_search_refuses_it():
    with pytest.raises(UsageError, match="did you mean 'budget.candidates'"):
        compose(["budget.candidate=9"])


@pytest.mark.parametrize(("text", "count"), [("16GB", 16 * 10**9), ("1.5 gb", 1_500_000_000), ("300MB", 3 * 10**8)])
def test_sizes_are_read(text, count):
    assert _bytes(text, "--memory") == count


@pytest.mark.parametrize("text", ["16", "GB", "-3GB", "0GB", "16GiB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="--memory"):
        _bytes(text, "--memory")


def test_a_plan_without_measuring_says_go_and_what_to_do_next():
    done = here("plan", *SMALL, "--no-measure")
    assert done.returncode == 0, done.stderr
    assert "weights resident" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("next: evomerge search space=global")


def test_what_does_not_fit_is_status_1():
    done = here("plan", *SMALL, "--memory", "10MB")
    assert done.returncode == 1
    assert done.stdout.rstrip().endswith("no go")


def test_models_that_are_not_here_are_one_line_and_status_2():
    done = here("plan", *SMALL, "models.base=no-such-org/base")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no-such-org/base is not on this machine" in done.stderr
