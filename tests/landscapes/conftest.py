"""One recording for all tests of this folder."""

import pytest

from tests.landscapes.recordings import record


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    return record(tmp_path_factory.mktemp("recording") / "merge.npz")
