from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from evomerge.merging.safetensors_file import write_safetensors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_safetensors_reads_what_was_written(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {name: torch.randn(shape).to(dtype) for name, shape in (("b", (3, 5)), ("a", (7,)), ("z", (2, 0)))}
    path = tmp_path / "x.safetensors"
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    write_safetensors(path, shapes, dtype, iter(tensors.values()), metadata={"format": "pt", "recipe": "ü"})
    read = load_file(path)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == dtype for name, tensor in tensors.items())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "recipe": "ü"}


def test_the_header_is_aligned_and_an_existing_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": (1,)}, torch.float32, [torch.ones(1)], metadata={})
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0
    with pytest.raises(FileExistsError):
        write_safetensors(path, {"a": (1,)}, torch.float32, [torch.ones(1)], metadata={})
