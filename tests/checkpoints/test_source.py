import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from evomerge.checkpoints import Checkpoint, ModelPool
from evomerge.checkpoints.header import Entry, read_header
from evomerge.checkpoints.lora import DoraSource, LoraSource
from evomerge.checkpoints.rows import MemorySource, RowSource
from evomerge.checkpoints.source import FileSource, TensorSource, WeightFile, read_all
from evomerge.errors import WorkError
from tests.checkpoints.models import copy_of

Family = dict[str, Path]


def _random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_a_source_reads_what_the_file_holds(family: Family, sharded: Family) -> None:
    for checkpoint in (Checkpoint.open(family["math"]), Checkpoint.open(sharded["math"])):
        for name in checkpoint.names:
            source = checkpoint.source(name)
            assert (source.shape, source.dtype) == (checkpoint.shape(name), torch.bfloat16)
            assert torch.equal(read_all(source), checkpoint.tensor(name))
            assert torch.equal(source.read(5, 19), checkpoint.tensor(name).reshape(-1)[5:19])


def _sources(tmp_path: Path) -> dict[str, TensorSource]:
    whole = _random(7, 11, dtype=torch.bfloat16)
    save_file({"a": torch.ones(3), "t": whole}, tmp_path / "x.safetensors")
    file = WeightFile(tmp_path / "x.safetensors")
    stored = FileSource(file, read_header(tmp_path / "x.safetensors")["t"])
    lora = LoraSource(stored, _random(7, 3, seed=1), _random(3, 11, seed=2), 0.3)
    order = np.array([3, 4, 5, 0, 6, 6, 1, 2, 0])
    origins = np.array([0, 0, 0, 1, 0, 0, 1, 1, 0])
    return {
        "file": stored,
        "memory": MemorySource(whole),
        "lora": lora,
        "lora on the left": LoraSource(stored, _random(7, 1, seed=3), _random(1, 11, seed=4), 2.0),
        "dora": DoraSource(lora, _random(7, seed=5).abs(), columns=False),
        "dora of columns": DoraSource(lora, _random(11, seed=5).abs(), columns=True),
        "rows": RowSource([stored, MemorySource(_random(3, 11, seed=6))], origins, order),
        "rows of one part": RowSource([stored], np.zeros(9, dtype=np.int64), order),
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TensorSource]:
    return _sources(tmp_path_factory.mktemp("sources"))


KINDS = ("file", "memory", "lora", "lora on the left", "dora", "dora of columns", "rows", "rows of one part")


@pytest.mark.parametrize("kind", KINDS)
def test_every_span_has_the_bits_of_the_whole(sources: dict[str, TensorSource], kind: str) -> None:
    source = sources[kind]
    whole = read_all(source)
    assert tuple(whole.shape) == source.shape
    assert whole.dtype == source.dtype
    size = whole.numel()

    @settings(max_examples=60, deadline=None)
    @given(st.tuples(st.integers(0, size), st.integers(0, size)).map(sorted))
    def spans(ends: list[int]) -> None:
        part = source.read(*ends)
        assert part.is_contiguous()
        assert torch.equal(part, whole.view(-1)[ends[0] : ends[1]])

    spans()
    for ends in ((-1, 3), (3, 2), (0, size + 1)):
        with pytest.raises(IndexError):
            source.read(*ends)


def test_a_product_is_summed_in_order_and_rounded_at_every_step() -> None:
    base, left, right, scale = _random(5, 1500, dtype=torch.bfloat16), _random(5, 9), _random(9, 1500, seed=3), 0.7
    total = np.zeros((5, 1500), dtype=np.float32)
    for k in range(9):
        total = total + left.numpy()[:, k : k + 1] * right.numpy()[k : k + 1]
    expected = base.float().numpy() + np.float32(scale) * total
    assert np.array_equal(read_all(LoraSource(MemorySource(base), left, right, scale)).numpy(), expected)


def test_dora_scales_rows_to_their_lengths() -> None:
    lengths = _random(6, seed=1).abs()
    source = DoraSource(MemorySource(_random(6, 50)), lengths, columns=False)
    assert torch.allclose(read_all(source).norm(dim=1), lengths)
    turned = DoraSource(MemorySource(_random(50, 6)), lengths, columns=True)
    assert torch.allclose(read_all(turned).norm(dim=0), lengths)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_rows_come_from_where_they_are_said_to(data: st.DataObject) -> None:
    parts = [
        _random(4, 3, dtype=torch.bfloat16),
        _random(6, 3, seed=1, dtype=data.draw(st.sampled_from([torch.bfloat16, torch.float16]))),
    ]
    picks = data.draw(
        st.lists(st.integers(0, 1).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, 3 + 2 * p))), min_size=1)
    )
    origins, rows = (np.array(numbers) for numbers in zip(*picks, strict=True))
    source = RowSource([MemorySource(part) for part in parts], origins, rows)
    expected = torch.stack([parts[part][row].float() for part, row in picks])
    assert torch.equal(read_all(source).float(), expected)
    same = len({parts[part].dtype for part, _ in picks}) == 1
    assert source.dtype == (parts[picks[0][0]].dtype if same else torch.float32)


def test_rows_that_are_not_there_are_refused() -> None:
    part = MemorySource(_random(4, 3))
    with pytest.raises(ValueError, match="no such row"):
        RowSource([part], np.zeros(1, dtype=np.int64), np.array([4]))
    with pytest.raises(ValueError, match="different shapes"):
        RowSource([part, MemorySource(_random(4, 2))], np.array([0, 1]), np.array([0, 0]))


def test_many_threads_share_a_file(family: Family) -> None:
    checkpoint = Checkpoint.open(family["math"])
    start = threading.Barrier(8)

    def read(number: int) -> bool:
        start.wait()
        return all(
            torch.equal(checkpoint.source(name).read(number, 30), checkpoint.tensor(name).reshape(-1)[number:30])
            for name in checkpoint.names
        )

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(read, range(8)))


def test_a_file_that_shrinks_or_goes_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"t": _random(100)}, path)
    entry = Entry(torch.float32, (100,), path.stat().st_size - 400)
    source = FileSource(WeightFile(path), entry)
    assert torch.equal(source.read(90, 100), _random(100)[90:])
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4)
    with pytest.raises(WorkError, match="x.safetensors: ends too early") as error:
        source.read(0, 100)
    assert "\n" not in str(error.value)
    with pytest.raises(WorkError, match="cannot be read: No such file"):
        FileSource(WeightFile(tmp_path / "gone"), entry).read(0, 1)


def test_files_are_closed_with_the_checkpoint(family: Family) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        checkpoint = Checkpoint.open(family["math"])
        checkpoint.source(checkpoint.names[0]).read(0, 1)
    del checkpoint
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_checking_weights_takes_no_memory_for_whole_tensors(family: Family, tmp_path: Path) -> None:
    size = 1 << 29
    paths = {}
    for name in ("base", "math"):
        paths[name] = copy_of(family[name], tmp_path / name)
        fields = {"dtype": "BF16", "shape": [size >> 13, 1 << 12], "data_offsets": [0, size]}
        header = json.dumps({"model.embed_tokens.weight": fields}).encode()
        with (paths[name] / "model.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + size)  # sparse: zeros that take no room
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _peak_bytes()
    ModelPool.open(str(paths["base"]), {"math": str(paths["math"])})
    assert _peak_bytes() - before < size // 8


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
