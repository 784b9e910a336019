from pathlib import Path

import pytest
import torch

from evomerge.checkpoints.rows import MemorySource
from evomerge.errors import UsageError
from evomerge.merging import residence
from evomerge.merging.residence import Residence, Residences, pool_bytes
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
    size = pool_bytes(pool, pool.layout.tensors)
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


def test_a_device_keeps_only_what_it_merges(family: Family) -> None:
    pool = pool_of(family)
    names = pool.layout.tensors
    part = Residence(pool, CPU, names=names[:3])
    assert f"{pool_bytes(pool, names[:3]) / 1e9:.2f} GB" in part.reason
    for label in ("", "math"):
        assert isinstance(part.source(label, names[0]), MemorySource)
        assert not isinstance(part.source(label, names[3]), MemorySource)


def test_a_part_for_each_device_and_one_view_of_all(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(family)
    names = pool.layout.tensors
    other = torch.device("cpu", 0)  # stands for a second device
    free = iter([10 * pool_bytes(pool, names), 0])  # the first takes all there is
    monkeypatch.setattr(residence, "available_memory", lambda: next(free))
    whole = Residences(pool, {name: other if i % 2 else CPU for i, name in enumerate(names)})
    assert [whole.parts[device].memory for device in (CPU, other)] == ["resident", "files"]
    assert whole.reason == f"{whole.parts[CPU].reason}; {whole.parts[other].reason}"
    assert whole.room == 0
    for i, name in enumerate(names):
        assert whole.shape(name) == pool.shape(name)
        assert torch.equal(whole.source("code", name).read(0, 8), pool.tensor("code", name).flatten()[:8])
        assert isinstance(whole.source("code", name), MemorySource) == (i % 2 == 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_and_the_cpu(family: Family) -> None:
    pool = pool_of(family)
    names, gpu = pool.layout.tensors, torch.device("cuda", 0)
    devices = {name: gpu if i % 2 else CPU for i, name in enumerate(names)}
    for memory, of_gpu, of_cpu in (
        ("resident", "resident", "resident"), ("pinned", "pinned", "resident"), ("files", "files", "files"),
        (None, "resident", "resident"),
    ):  # fmt: skip
        whole = Residences(pool, devices, memory)
        assert (whole.parts[gpu].memory, whole.parts[CPU].memory) == (of_gpu, of_cpu)
        assert all(whole.source("math", name).read(0, 8).device == CPU for name in names)
