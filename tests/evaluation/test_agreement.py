"""`evomerge evaluate` against lm-eval's own command line on an exported merge of the zoo: the same prompts, answers and
scores, item by item, in float32 at the same batch size."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evomerge.evaluation.library import OWN_TASKS, STOCK_TASKS
from tests.search.runs import evomerge

BATCH = 16
RECIPE = """
method: dare_linear
base: zoo:base
experts: {code: zoo:code, math: zoo:math, translate: zoo:translate}
parameters: {weight: {code: 0.5, math: {layers.0-2: 0.8, all: 0.6}, translate: 0.4}, drop_rate: 0.2}
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A merge of the zoo, written to disk."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "recipe.yaml").write_text(RECIPE)
    done = evomerge("merge", str(folder / "recipe.yaml"), str(folder / "model"))
    assert done.returncode == 0, done.stderr
    return folder / "model"


def lm_eval(model: Path, tasks: str, folder: Path, include: Path, *options: str) -> dict[str, list[dict]]:
    """Run lm-eval in a process of its own and return its logged samples: task -> rows in document order."""
    command = [
        *(sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32"),
        *("--tasks", tasks, "--include_path", str(include), "--batch_size", str(BATCH), "--device", "cpu"),
        *("--log_samples", "--output_path", str(folder), *options),
    ]
    environment = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {}
    for task in tasks.split(","):
        (path,) = folder.glob(f"**/samples_{task}_*.jsonl")
        rows[task] = [json.loads(line) for line in path.read_text().splitlines()]
    return rows


def ours(model: Path, tasks: str, folder: Path, *options: str) -> dict[str, list[dict]]:
    """Run `evomerge evaluate` in a process of its own and return its outcomes by task."""
    arguments = ["--tasks", tasks, "--batch-size", str(BATCH), "--device", "cpu", "--out", str(folder / "ours.json")]
    done = evomerge("evaluate", str(model), *arguments, *options, timeout=900)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "ours.json").read_text())
    return {task: result["outcomes"] for task, result in report["tasks"].items()}


def assert_same(outcomes: list[dict], rows: list[dict], filter_name: str, metric: str) -> None:
    mine = {int(outcome["item"].rpartition(":")[2]): outcome for outcome in outcomes}
    theirs = {row["doc_id"]: row for row in rows if row["filter"] == filter_name}
    assert theirs.keys() == mine.keys()
    assert len({outcome["answer"] for outcome in outcomes}) > 10, "else there is little to agree on"
    for index, row in theirs.items():
        prompt = row["arguments"]["gen_args_0"]["arg_0"]
        assert hashlib.sha256(prompt.encode()).hexdigest()[:16] == mine[index]["prompt_hash"]
        assert mine[index]["answer"] == row["resps"][0][0]
        assert mine[index]["score"] == row[metric]


def test_zoo_tasks(exported, tmp_path):
    names = "zoo_math,zoo_translate,zoo_code"
    rows = lm_eval(exported, names, tmp_path, OWN_TASKS, "--confirm_run_unsafe_code")
    outcomes = ours(exported, names, tmp_path, "--allow-code-execution")
    for name, filter_name, metric in (
        ("zoo_math", "strict-match", "exact_match"),
        ("zoo_translate", "whole-line", "exact_match"),
        ("zoo_code", "sandbox", "pass_at_1"),
    ):
        assert_same(outcomes[name], rows[name], filter_name, metric)
        assert 0.05 < sum(outcome["score"] for outcome in outcomes[name]) / len(outcomes[name]) < 0.95


def test_first_fifty_of_gsm8k(exported, tmp_path, real_data):
    files = {split: str(real_data / "gsm8k" / f"{split}.jsonl") for split in ("train", "test")}
    include = tmp_path / "tasks"
    include.mkdir()
    stock = STOCK_TASKS / "gsm8k" / "gsm8k.yaml"
    (include / "local.yaml").write_text(
        f"include: {stock}\ntask: gsm8k_local\ntag: null\ndataset_path: json\ndataset_name: null\n"
        f"dataset_kwargs: {{data_files: {json.dumps(files)}}}\n"
    )
    rows = lm_eval(exported, "gsm8k_local", tmp_path, include, "--limit", "50")
    data = [option for split, path in files.items() for option in ("--data", f"gsm8k.{split}={path}")]
    outcomes = ours(exported, "gsm8k", tmp_path, "--limit", "50", *data)
    assert_same(outcomes["gsm8k"], rows["gsm8k_local"], "flexible-extract", "exact_match")
