from pathlib import Path

import pytest
import torch

from evomerge.errors import UsageError
from evomerge.merging import residence
from evomerge.merging.residence import Held, Residence, available_memory, pool_bytes
from tests.merging.recipes import pool_of

Family = dict[str, Path]
CPU = torch.device("cpu")


def test_every_kind_of_memory_gives_the_same_elements(family: Family) -> None:
    pool = pool_of(family)
    resident, files = Residence(pool, CPU), Residence(pool, CPU, "files")
    assert resident.memory == "resident"
    assert "resident in memory" in resident.reason
    assert "as told" in files.reason
    for label in ("", *pool.experts):
        for name in pool.layout.tensors:
            whole = pool.tensor(label, name)
            for kept in (resident, files):
                assert kept.shape(name) == tuple(whole.shape)
                assert kept.source(label, name).shape == tuple(whole.shape)
                assert torch.equal(kept.source(label, name).read(8, 20), whole.flatten()[8:20])


def test_what_is_resident_no_longer_hangs_on_the_files(family: Family) -> None:
    pool = pool_of(family)
    kept = Residence(pool, CPU)
    name = pool.layout.tensors[0]
    one = kept.source("math", name).read(0, 8)
    assert one.data_ptr() == kept.source("math", name).read(0, 8).data_ptr()  # no copy
    assert one.data_ptr() != pool.tensor("math", name).data_ptr()


def test_too_little_memory_leaves_the_weights_in_their_files(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(family)
    size = pool_bytes(pool)
    assert size == sum(2 * pool.tensor("", n).numel() for n in pool.layout.tensors) * (1 + len(pool.experts))
    monkeypatch.setattr(residence, "available_memory", lambda: 2 * size)
    enough = Residence(pool, CPU)
    assert (enough.memory, enough.room) == ("resident", int(0.7 * 2 * size) - size)
    monkeypatch.setattr(residence, "available_memory", lambda: size)
    short = Residence(pool, CPU)
    assert (short.memory, short.room) == ("files", int(0.7 * size))
    assert "read from their files for every candidate" in short.reason


def test_wrong_choices(family: Family) -> None:
    pool = pool_of(family)
    with pytest.raises(UsageError, match="memory 'pinned' is for a GPU"):
        Residence(pool, CPU, "pinned")
    with pytest.raises(UsageError, match="memory 'disk' is none of resident, pinned, files"):
        Residence(pool, CPU, "disk")  # type: ignore[arg-type]


def test_the_memory_of_this_machine_is_known() -> None:
    assert 1 << 20 < available_memory() < 1 << 50


def test_a_held_tensor_is_read_without_a_copy() -> None:
    tensor = torch.arange(12.0).view(3, 4)
    held = Held(tensor)
    assert (held.shape, held.dtype) == ((3, 4), torch.float32)
    part = held.read(4, 8)
    assert part.tolist() == [4, 5, 6, 7]
    assert part.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
