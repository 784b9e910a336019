"""A base and two fine-tunes of which there is nothing to report; tests that spoil one copy it first."""

from pathlib import Path

import pytest

from tests.checkpoints.models import write_family
from tests.doctor.models import write_expert

CARD = "---\nlicense: apache-2.0\n---\n# A model\n"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("family")
    path = write_family(root)["base"]
    (path / "README.md").write_text(CARD)
    return path


@pytest.fixture(scope="session")
def math(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_expert(base, tmp_path_factory.mktemp("experts") / "math", seed=1)


@pytest.fixture(scope="session")
def code(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_expert(base, tmp_path_factory.mktemp("experts") / "code", seed=2)
