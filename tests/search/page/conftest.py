import pytest

from evomerge.search.page.view import View
from tests.search.page.ledgers import GLOBAL, Ledger


@pytest.fixture(scope="package")
def made():
    """The ledger of a search with sixty candidates in six dimensions."""
    return Ledger(config=GLOBAL).start().search(60)


@pytest.fixture(scope="package")
def path(made, tmp_path_factory):
    return made.write(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="package")
def view(path):
    return View.open(path)
