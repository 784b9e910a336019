import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from evomerge.merging.safetensors_file import SafetensorsWriter


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_safetensors_reads_what_was_written(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {name: torch.randn(shape).to(dtype) for name, shape in (("b", (3, 5)), ("a", (7,)), ("z", (2, 0)))}
    path = tmp_path / "x.safetensors"
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    with SafetensorsWriter(path, shapes, dtype, metadata={"format": "pt", "recipe": "ü"}) as file:
        for name, tensor in reversed(tensors.items()):
            file.write(name, 0, tensor.flatten())
    read = load_file(path)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == dtype for name, tensor in tensors.items())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "recipe": "ü"}


def test_pieces_from_many_threads_make_the_same_file(tmp_path: Path) -> None:
    values = torch.randn(1000)
    pieces = [(a, values[a : a + 8]) for a in range(0, 1000, 8)]
    for name, order in (("one", pieces), ("two", pieces[::-1])):
        with (
            SafetensorsWriter(tmp_path / name, {"t": (10, 100)}, torch.float32, metadata={}) as file,
            ThreadPoolExecutor(4) as executor,
        ):
            list(executor.map(lambda piece: file.write("t", *piece), order))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert torch.equal(load_file(tmp_path / "one")["t"], values.view(10, 100))


def test_the_header_is_aligned_and_an_existing_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with SafetensorsWriter(path, {"a": (1,)}, torch.float32, metadata={}) as file:
        file.write("a", 0, torch.ones(1))
    before = path.read_bytes()
    assert int.from_bytes(before[:8], "little") % 8 == 0
    open_files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileExistsError):
        SafetensorsWriter(path, {"a": (1,)}, torch.float32, metadata={})
    assert path.read_bytes() == before
    assert len(os.listdir("/proc/self/fd")) == open_files
