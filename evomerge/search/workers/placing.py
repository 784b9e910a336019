"""Which devices a search uses, and what the process of a worker has to be told so that it sees its own only.

This file knows nothing about models.
"""

import os
from collections.abc import Mapping, Sequence

import torch

from evomerge.checks import whole
from evomerge.errors import UsageError
from evomerge.memory import SHARING, sharing
from evomerge.search.config import Evaluation
from evomerge.search.scorer import pick_device


def gpus_each(evaluation: Evaluation) -> int | None:
    """Return over how many GPUs a worker spreads its model; None: over all that it has, as accelerate does it."""
    if evaluation.backend == "vllm":
        return whole(evaluation.vllm.get("tensor_parallel", 1), "evaluation.vllm.tensor_parallel", least=1)
    return 1 if evaluation.device_map is None else None


def devices_of(wanted: str | int | Sequence[str], evaluation: Evaluation) -> list[str]:
    """Return a device for each worker, such as cpu, cuda:1, or cuda:0+1 for one that has two GPUs.

    Args:
        wanted: `workers.devices`. "auto": all GPUs, or one worker on the CPU; a number of workers; or the devices.
        evaluation: how a worker scores: on which device, over how many GPUs.

    Raises `UsageError` where there are too few.
    """
    each = gpus_each(evaluation)
    if not isinstance(wanted, str | int) and wanted:
        devices = [str(device) for device in wanted]
        for device in devices:
            named = device.count("+") + 1
            if device.startswith("cuda:") and each not in (named, None):
                raise UsageError(f"workers.devices: {device!r} names {named} GPUs, a worker has a model over {each}")
        return devices
    if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted >= 1:
        number: int | None = wanted
    elif wanted == "auto":
        number = None
    else:
        raise UsageError(f"workers.devices: {wanted!r}: write auto, a number, or a list such as [cuda:0, cuda:1]")
    device = pick_device(evaluation.device)
    gpus = torch.cuda.device_count() if device == "cuda" else 0
    if not gpus:
        return [device] * (number or 1)
    if each is None:  # one worker has all, several share them evenly
        each = max(1, gpus // (number or 1))
    count = number or max(1, gpus // each)
    if count * each > gpus:
        raise UsageError(f"workers.devices: {count} x {each} GPUs are wanted, {gpus} are here")
    if count == 1:
        return [device]
    groups = [range(first, first + each) for first in range(0, count * each, each)]
    return ["cuda:" + "+".join(map(str, group)) for group in groups]


def apart(device: str, evaluation: Evaluation) -> bool:
    """Say whether a worker on a device needs a process of its own: vLLM and accelerate use the GPUs that they see."""
    return "+" in device or (
        device.startswith("cuda:") and (evaluation.backend == "vllm" or evaluation.device_map is not None)
    )


def names_of(devices: Sequence[str]) -> list[str]:
    """Return a name for each worker: its device, numbered where several are on one."""
    return [
        device if devices.count(device) == 1 else f"{device}/{devices[:place].count(device)}"
        for place, device in enumerate(devices)
    ]


def placed(device: str, devices: Sequence[str], environment: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the device as the worker's process has to name it, and the environment of that process.

    A GPU worker sees its GPUs only, and so calls the first of them `cuda`. All share main memory, and the processors
    unless the environment says how many threads one may have.
    """
    kind, _, numbers = device.partition(":")
    threads = max(1, len(os.sched_getaffinity(0)) // len(devices))
    shared = {"OMP_NUM_THREADS": str(threads), **environment, SHARING: str(sharing() * len(devices))}
    if kind == "cuda" and numbers:
        visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        try:
            own = [visible[int(number)] if visible else str(int(number)) for number in numbers.split("+")]
        except (ValueError, IndexError):
            raise UsageError(f"workers.devices: there is no {device!r}") from None
        return "cuda", {**shared, "CUDA_VISIBLE_DEVICES": ",".join(own)}
    return device, shared
