"""Families of tiny checkpoints, written once a session; tests that spoil one copy it first."""

from pathlib import Path

import pytest
import torch

from tests.checkpoints.models import write_family

Family = dict[str, Path]


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return write_family(tmp_path_factory.mktemp("bf16"))


@pytest.fixture(scope="session")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return write_family(tmp_path_factory.mktemp("sharded"), shard_bytes=20_000)


@pytest.fixture(scope="session")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return write_family(tmp_path_factory.mktemp("f32"), dtype=torch.float32)


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return write_family(tmp_path_factory.mktemp("tied"), tied=True)
