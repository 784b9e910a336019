"""Which GPUs each worker has: counted on a machine whose number of GPUs the tests say."""

import re
from dataclasses import replace

import pytest
import torch

from evomerge.errors import UsageError
from evomerge.memory import SHARING
from evomerge.search.config import Evaluation
from evomerge.search.workers.placing import apart, devices_of, placed

ONE = Evaluation("transformers", 16, "float32", "auto", None, None, {}, 0, False, "auto", None)
SPREAD = replace(ONE, device_map="auto")
TWO = replace(ONE, backend="vllm", vllm={"tensor_parallel": 2})
PAIRS = ["cuda:0+1", "cuda:2+3"]


@pytest.fixture(autouse=True)
def four_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.parametrize(
    ("wanted", "evaluation", "devices"),
    [
        ("auto", ONE, ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
        ("auto", SPREAD, ["cuda"]),
        ("auto", TWO, PAIRS),
        ("auto", replace(ONE, vllm={"tensor_parallel": 2}), ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
        (2, ONE, ["cuda:0", "cuda:1"]),
        (2, SPREAD, PAIRS),
        (3, SPREAD, ["cuda:0", "cuda:1", "cuda:2"]),
        (1, TWO, ["cuda"]),
        (["cuda:1+3", "cuda:0+2"], TWO, ["cuda:1+3", "cuda:0+2"]),
        (["cuda:0", "cuda:1+2"], SPREAD, ["cuda:0", "cuda:1+2"]),
        (["cpu", "cpu"], TWO, ["cpu", "cpu"]),
        (3, replace(SPREAD, device="cpu"), ["cpu", "cpu", "cpu"]),
    ],
)
def test_each_worker_has_gpus_of_its_own(wanted, evaluation, devices):
    assert devices_of(wanted, evaluation) == devices


@pytest.mark.parametrize(
    ("wanted", "evaluation", "message"),
    [
        (3, TWO, "3 x 2 GPUs are wanted, 4 are here"),
        (5, SPREAD, "5 x 1 GPUs are wanted, 4 are here"),
        ("auto", replace(TWO, vllm={"tensor_parallel": 8}), "1 x 8 GPUs are wanted, 4 are here"),
        (["cuda:0", "cuda:1"], TWO, "'cuda:0' names 1 GPUs, a worker has a model over 2"),
        (["cuda:0+1"], ONE, "'cuda:0+1' names 2 GPUs, a worker has a model over 1"),
        (0, ONE, "write auto, a number, or a list"),
        (True, ONE, "write auto, a number, or a list"),
        ("auto", replace(TWO, vllm={"tensor_parallel": "two"}), "evaluation.vllm.tensor_parallel: 'two'"),
    ],
)
def test_what_cannot_be(wanted, evaluation, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        devices_of(wanted, evaluation)


def test_who_needs_a_process_to_see_no_other_gpus():
    assert [apart(device, ONE) for device in ("cpu", "cuda", "cuda:1")] == [False, False, False]
    assert [apart(device, TWO) for device in ("cpu", "cuda", "cuda:1", "cuda:0+1")] == [False, False, True, True]
    assert [apart(device, SPREAD) for device in ("cuda", "cuda:1")] == [False, True]


def test_gpus_are_named_as_the_environment_has_them():
    seen = {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b,GPU-c,GPU-d", "OMP_NUM_THREADS": "3"}
    device, environment = placed("cuda:1+3", ["cuda:1+3"], seen)
    assert (device, environment["CUDA_VISIBLE_DEVICES"]) == ("cuda", "GPU-b,GPU-d")
    assert (environment["OMP_NUM_THREADS"], environment[SHARING]) == ("3", "1")
    assert placed("cuda:0+1", PAIRS, {})[1][SHARING] == "2"
    assert placed("cuda:1+3", PAIRS, {})[1]["CUDA_VISIBLE_DEVICES"] == "1,3"
    with pytest.raises(UsageError, match="there is no 'cuda:9'"):
        placed("cuda:9", PAIRS, seen)
