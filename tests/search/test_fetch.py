"""`evomerge fetch` by the hub's own clients from a hub on this machine (`tests/fake_hub.py`), then opened without one.

Not seen here: the real hub, its Xet storage, gated models.
"""

import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from evomerge.zoo import MODELS, model_path
from tests.fake_hub import HEAD, TOKEN, Hub, Repository, fake_hub
from tests.search.runs import SMALL, command, here

OLD = "1" * 40
NEVER = {
    "pytorch_model.bin": b"pickle",
    "training_args.pkl": b"pickle",
    "modeling_evil.py": b"raise SystemExit",
    "onnx/model.onnx": b"x",
    "optimizer.pt": b"pickle",
}
MODEL_WORDS = ["models.base=org/base", f"models.experts={{math: org/math@{OLD}}}", "~tasks.zoo_code"]


def files_of(name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model_path(name).iterdir() if path.is_file()}


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Two models of the zoo, one of them at an older commit, beside files that nobody is to have."""
    assert {"base", "math", "code"} <= set(MODELS)
    with fake_hub() as running:
        running.repositories["org/base"] = Repository(False, {**files_of("base"), **NEVER})
        running.repositories["org/math"] = Repository(
            False, {**files_of("code"), **NEVER}, older={OLD: {**files_of("math"), **NEVER}}
        )
        yield running


def fetch(hub: Hub, home: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command with empty caches and this hub alone."""
    away = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE")
    kept = {key: value for key, value in os.environ.items() if key not in away}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    environment = {**kept, **own, "no_proxy": "127.0.0.1", "OMP_NUM_THREADS": "1", **more}
    return subprocess.run(
        command("fetch", *words), env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_models_at_their_revisions_and_nothing_that_could_run(hub: Hub, tmp_path: Path) -> None:
    done = fetch(hub, tmp_path, *MODEL_WORDS, "optimizer=random,sobol", "seed=1,2")
    assert done.returncode == 0, done.stderr
    assert f"main is {HEAD} today, write @{HEAD}" in done.stdout
    assert done.stdout.count("model base: org/base") == 1, "the sweep needs its models once"
    assert "all of it opens without a network too" in done.stdout
    snapshot = tmp_path / "hub" / "models--org--math" / "snapshots" / OLD
    assert (snapshot / "model.safetensors").read_bytes() == files_of("math")["model.safetensors"]
    assert not [name for name in hub.given if any(name.endswith(bad) for bad in NEVER)]
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= {path.name for path in snapshot.iterdir()}


@pytest.mark.slow
def test_what_nodes_must_set_is_enough_for_them(hub: Hub, tmp_path: Path) -> None:
    """A data set too; and where one of them is not set, it is said what is missing."""
    data: dict[str, bytes] = {}
    for split, first in (("train", 0), ("test", 100)):
        rows = [{"question": f"What is {i} + 1?", "answer": f"#### {i + 1}"} for i in range(first, first + 60)]
        sink = io.BytesIO()
        parquet.write_table(pa.Table.from_pylist(rows), sink)
        data[f"main/{split}-00000-of-00001.parquet"] = sink.getvalue()
    head = "---\nconfigs:\n- config_name: main\n  data_files:\n" + "".join(
        f"  - split: {split}\n    path: main/{split}-*\n" for split in ("train", "test")
    )
    hub.data_sets["openai/gsm8k"] = Repository(False, {"README.md": f"{head}---\n".encode(), **data})
    words = [*MODEL_WORDS, "tasks=gsm8k", "items={search: 2, selection: 2, report: 2}"]
    words.remove("~tasks.zoo_code")
    done = fetch(hub, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "task gsm8k: items: 2 search, 2 selection, 2 report" in done.stdout
    exports = dict(word.split("=", 1) for word in done.stdout.splitlines()[-1].split()[1:])
    assert exports["HF_HUB_OFFLINE"] == exports["HF_DATASETS_OFFLINE"] == "1"
    hub.repositories.clear()
    hub.data_sets.clear()
    given = len(hub.given)
    checked = fetch(hub, tmp_path / "elsewhere", "--check", *words, **exports)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.endswith("all is here, without a network\n")
    assert len(hub.given) == given
    missing = fetch(hub, tmp_path / "elsewhere", "--check", *words)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "not (whole) in the hub cache" in missing.stderr


def test_what_cannot_be_fetched_is_one_line(hub: Hub, tmp_path: Path) -> None:
    done = fetch(hub, tmp_path, *MODEL_WORDS, "models.experts.math=org/math@v9")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the hub has no revision 'v9'" in done.stderr


def test_a_hub_that_is_switched_off() -> None:
    done = here("fetch", *SMALL)
    assert (done.returncode, done.stderr) == (
        2,
        "evomerge: the hub is switched off here (HF_HUB_OFFLINE); unset it to fetch, or write --check\n",
    )
    done = here("fetch", "--check", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "model math: zoo:math" in done.stdout
