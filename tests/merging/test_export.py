import errno
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.checkpoints import Checkpoint, file_sha256
from evomerge.errors import CandidateError, UsageError, WorkError
from evomerge.merging import METHODS, ExportReport, MergeEngine, export, stream
from evomerge.merging.export import RECIPE_KEY
from evomerge.recipes import Recipe
from tests.checkpoints.adapters import write_adapter
from tests.checkpoints.models import copy_of, edit_json, tokenizer
from tests.merging.recipes import pool_of, recipe_of

Family = dict[str, Path]


def a_card(report: ExportReport) -> dict[str, str]:
    return {"README.md": "# A card\n"}


def _nothing_left(out: Path) -> bool:
    return not out.exists() and not list(out.parent.glob(f".{out.name}.*"))


@pytest.mark.parametrize("method", METHODS)
def test_exported_equals_applied(family: Family, tmp_path: Path, method: str) -> None:
    pool, recipe = pool_of(family), recipe_of(family, method)
    live = AutoModelForCausalLM.from_pretrained(family["base"], dtype=torch.float32)
    applied = MergeEngine(pool, live).apply(recipe)
    report = export(recipe, tmp_path / "out", expected_fingerprint=applied.fingerprint)
    assert report.fingerprint == applied.fingerprint
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.dtype == torch.bfloat16
    state = live.state_dict()
    assert all(torch.equal(tensor.float(), state[name]) for name, tensor in loaded.state_dict().items())
    assert report.parameters == sum(parameter.numel() for parameter in loaded.parameters())


@pytest.mark.parametrize("shard_bytes", [5 * 1024**3, 20_000, 1])
def test_the_bytes_do_not_depend_on_threads_or_place(
    family: Family, sharded: Family, tmp_path: Path, shard_bytes: int
) -> None:
    recipe = recipe_of(family)
    reports = [
        export(recipe, tmp_path / str(threads), threads=threads, max_shard_bytes=shard_bytes, describe=a_card)
        for threads in (1, 2, 3)
    ]
    assert reports[0].files == reports[1].files == reports[2].files
    for name, digest in reports[0].files.items():
        assert file_sha256(tmp_path / "1" / name) == digest
    assert sorted(reports[0].files) == sorted(file.name for file in (tmp_path / "1").iterdir())
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "2").state_dict()
    for name, tensor in stream(recipe, pool_of(family)):
        assert torch.equal(loaded[name], tensor)


def test_shards_are_named_and_indexed_as_transformers_does(family: Family, tmp_path: Path) -> None:
    export(recipe_of(family), tmp_path / "out", max_shard_bytes=20_000)
    ours = Checkpoint.open(tmp_path / "out")
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    n = len(ours.files)
    assert n > 2
    assert ours.files == tuple(f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1))
    assert index["metadata"]["total_size"] == 2 * ours.parameters
    assert all((tmp_path / "out" / file).stat().st_size < 20_000 + 4000 for file in ours.files)


def test_what_lies_beside_the_weights(family: Family, tmp_path: Path) -> None:
    recipe = recipe_of(family, dtype="float32")
    export(recipe, tmp_path / "out", describe=a_card)
    assert Recipe.load(tmp_path / "out" / "recipe.yaml") == recipe
    assert (tmp_path / "out" / "README.md").read_text() == "# A card\n"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.float32
    theirs, ours = (AutoTokenizer.from_pretrained(path) for path in (family["base"], tmp_path / "out"))
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.chat_template == theirs.chat_template
    assert (tmp_path / "out" / "generation_config.json").is_file()
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert Recipe.from_dict(json.loads(metadata["evomerge_recipe"])) == recipe


def test_the_tokenizer_may_come_from_an_expert(family: Family, tmp_path: Path) -> None:
    chat = tokenizer()
    chat.chat_template = "another"
    expert = copy_of(family["math"], tmp_path / "expert")
    chat.save_pretrained(expert)
    recipe = recipe_of({**family, "math": expert})
    export(recipe, tmp_path / "out", tokenizer_from="math")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == "another"
    with pytest.raises(UsageError, match="'law': no such expert; there are code, math, prose"):
        export(recipe, tmp_path / "other", tokenizer_from="law")


def test_generation_and_end_of_text_are_those_of_the_tokenizer_s_source(family: Family, tmp_path: Path) -> None:
    """A chat expert ends its turn with another token: a model with its tokenizer has to end there too."""
    base, math = copy_of(family["base"], tmp_path / "base"), copy_of(family["math"], tmp_path / "math")
    edit_json(base / "config.json", eos_token_id=95, bos_token_id=1, pad_token_id=None)
    edit_json(base / "generation_config.json", eos_token_id=95, temperature=0.5, do_sample=True)
    edit_json(math / "config.json", eos_token_id=7, bos_token_id=2, pad_token_id=7)
    edit_json(math / "generation_config.json", eos_token_id=[7, 95])
    recipe = recipe_of({**family, "base": base, "math": math})

    def written(name: str, source: str | None) -> tuple[dict[str, Any], Path]:
        report = export(recipe, tmp_path / name, tokenizer_from=source)
        return json.loads((report.path / "config.json").read_text()), report.path / "generation_config.json"

    config, generation = written("base's", None)
    assert (config["eos_token_id"], config["bos_token_id"]) == (95, 1)
    assert json.loads(generation.read_text())["temperature"] == 0.5
    config, generation = written("math's", "math")
    assert (config["eos_token_id"], config["bos_token_id"], config["pad_token_id"]) == (7, 2, 7)
    assert json.loads(generation.read_text())["eos_token_id"] == [7, 95]
    (math / "generation_config.json").unlink()
    config, generation = written("math's, who has none", "math")
    assert not generation.exists(), "the base's would end where the base ends"
    assert AutoModelForCausalLM.from_pretrained(generation.parent).generation_config.eos_token_id == 7


def test_an_adapter_without_settings_has_the_base_s(family: Family, tmp_path: Path) -> None:
    write_adapter(family["base"], tmp_path / "lora")
    tokenizer().save_pretrained(tmp_path / "lora")
    recipe = Recipe("task_arithmetic", str(family["base"]), {"lora": str(tmp_path / "lora")}, {"weight": 1.0})
    export(recipe, tmp_path / "out", tokenizer_from="lora")
    assert (tmp_path / "out" / "generation_config.json").is_file()


def test_every_shard_has_the_recipe(family: Family, tmp_path: Path) -> None:
    recipe = recipe_of(family)
    export(recipe, tmp_path / "out", max_shard_bytes=20_000)
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 2
    for path in files:
        with safe_open(path, "pt") as file:
            assert Recipe.from_dict(json.loads(file.metadata()[RECIPE_KEY])) == recipe


def test_texts_are_told_what_was_written(family: Family, tmp_path: Path) -> None:
    told: list[ExportReport] = []

    def describe(report: ExportReport) -> dict[str, str]:
        told.append(report)
        return {"README.md": report.fingerprint, "more.txt": "x"}

    report = export(recipe_of(family), tmp_path / "out", describe=describe)
    assert told[0].path == tmp_path / "out"
    assert (report.path / "README.md").read_text() == report.fingerprint
    assert report.files == {**told[0].files, **{n: file_sha256(report.path / n) for n in ("README.md", "more.txt")}}
    assert {"model.safetensors", "config.json", "tokenizer.json", "recipe.yaml"} <= told[0].files.keys()


def test_texts_that_fail_leave_nothing(family: Family, tmp_path: Path) -> None:
    def describe(report: ExportReport) -> dict[str, str]:
        raise UsageError("no card")

    with pytest.raises(UsageError, match="no card"):
        export(recipe_of(family), tmp_path / "out", describe=describe)
    assert _nothing_left(tmp_path / "out")


def test_a_disk_without_room_is_seen_before_anything_is_built(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(WorkError, match=r"weights take 0\.\d MB, and 0\.0 MB are free; nothing was left"):
        export(recipe_of(family), tmp_path / "out")
    assert _nothing_left(tmp_path / "out")


def test_tied_embeddings(tied: Family, tmp_path: Path) -> None:
    export(recipe_of(tied), tmp_path / "out")
    assert "lm_head.weight" not in Checkpoint.open(tmp_path / "out").names
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_another_fingerprint_than_expected(family: Family, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"has fingerprint \w{16}, but 0000000000000000 was expected"):
        export(recipe_of(family), tmp_path / "out", expected_fingerprint="0" * 16)
    assert _nothing_left(tmp_path / "out")


def test_infinite_weights(family: Family, tmp_path: Path) -> None:
    recipe = recipe_of(family, "task_arithmetic", parameters={"weight": 3e38}, options={"lambda": 1e38})
    with pytest.raises(CandidateError, match="holds NaN or infinity"):
        export(recipe, tmp_path / "out", threads=2)
    assert _nothing_left(tmp_path / "out")


def test_an_occupied_place_is_refused_and_kept(family: Family, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name, message in (("full", "is not empty"), ("file", "not a directory"), ("link", "not a directory")):
        with pytest.raises(UsageError, match=message):
            export(recipe_of(family), tmp_path / name)
    assert (tmp_path / "full" / "precious").read_text() == "x"


def test_an_empty_directory_and_missing_parents_are_fine(family: Family, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one = export(recipe_of(family), tmp_path / "empty")
    two = export(recipe_of(family), tmp_path / "a" / "b")
    assert one.files == two.files


def test_a_disk_that_refuses(family: Family, tmp_path: Path) -> None:
    (tmp_path / "parent").write_text("a file where a directory should be")
    with pytest.raises(WorkError, match=r"cannot write .*Not a directory; nothing was left there"):
        export(recipe_of(family), tmp_path / "parent" / "out")


def test_a_full_disk_leaves_nothing(family: Family, tmp_path: Path) -> None:
    """In a process that may write files of 30 kB at most."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from evomerge.errors import WorkError; from evomerge.merging import export\n"
        "from evomerge.recipes import Recipe\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "try: export(Recipe.load(sys.argv[1]), sys.argv[2])\n"
        "except WorkError as error: print(error)\n"
    )
    (tmp_path / "recipe.yaml").write_text(recipe_of(family).to_yaml())
    arguments = [sys.executable, "-c", code, str(tmp_path / "recipe.yaml"), str(tmp_path / "out")]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120)
    assert os.strerror(errno.EFBIG) in result.stdout
    assert len(result.stdout.splitlines()) == 1
    assert _nothing_left(tmp_path / "out")


def test_a_killed_export_leaves_no_model_under_the_final_name(family: Family, tmp_path: Path) -> None:
    code = (
        "import importlib, sys, time; from evomerge.merging import export; from evomerge.recipes import Recipe\n"
        "stream = importlib.import_module('evomerge.merging.stream')\n"
        "real = stream.merge_span\n"
        "def slow(*a): time.sleep(0.2); return real(*a)\n"
        "stream.merge_span = slow\n"
        "export(Recipe.load(sys.argv[1]), sys.argv[2], max_shard_bytes=20_000)\n"
    )
    (tmp_path / "recipe.yaml").write_text(recipe_of(family).to_yaml())
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "recipe.yaml"), str(tmp_path / "out")])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*/model-00002*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".out.*/model-00002*"))
    assert not (tmp_path / "out").exists()
    export(recipe_of(family), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "recipe.yaml"], "what the kill left is gone"


def test_what_reads_back_differently_is_not_published(family: Family, tmp_path: Path, monkeypatch: Any) -> None:
    """A disk that flips one bit."""
    module = importlib.import_module("evomerge.merging.export")

    class Faulty(module.SafetensorsWriter):  # type: ignore[misc, name-defined]
        def write(self, name: str, first: int, elements: torch.Tensor) -> None:
            spoilt = elements.clone()
            spoilt.view(torch.int16)[-1] ^= 1
            super().write(name, first, spoilt if name == "model.norm.weight" else elements)

    monkeypatch.setattr(module, "SafetensorsWriter", Faulty)
    with pytest.raises(WorkError, match="reads back differently"):
        export(recipe_of(family), tmp_path / "out")
    assert _nothing_left(tmp_path / "out")


def test_a_recipe_that_cannot_be_built_is_refused_before_anything_is_written(family: Family, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown merge method"):
        export(recipe_of(family, "magic"), tmp_path / "out")
    with pytest.raises(UsageError, match="sum to zero"):
        export(recipe_of(family, "linear", parameters={"weight": 0.0}), tmp_path / "out")
    assert _nothing_left(tmp_path / "out")
