"""Models larger than one device: how they are loaded spread over devices, and where they compute.

A device map of accelerate says which module lives on which GPU, in main memory ("cpu") or on disk ("disk"). What is in
main memory or on disk while the model has a GPU is brought there layer by layer at every call; with no GPU, all is
computed on the CPU. This file knows nothing about merging: its engine follows a model wherever `live_tensors` finds its
weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from evomerge.checkpoints.offloaded import hooks, offloaded_tensors
from evomerge.errors import UsageError, nearest

#: Module (or "" for all) -> GPU number, device name, "cpu" or "disk"; or how accelerate is to choose.
DeviceMap = str | Mapping[str, str | int]
CHOICES = ("auto", "balanced", "balanced_low_0", "sequential")


@dataclass(frozen=True)
class Placement:
    """Where a model computes.

    Attributes:
        entry: where its inputs should be; its logits come back to where the inputs were.
        devices: all devices it computes on.
        offloaded: whether weights are brought there anew at every call: then nothing that holds their addresses (a
            CUDA graph) may be kept from one call to the next.
    """

    entry: torch.device
    devices: tuple[torch.device, ...]
    offloaded: bool


def placement(model: torch.nn.Module) -> Placement:
    """Return where a model computes: one that is on a device, or one that accelerate has spread over several."""
    found = [hook for _, _, hook in hooks(model)]
    devices = [_device(at) for hook in found if (at := getattr(hook, "execution_device", None)) is not None]
    if not devices:
        devices = [tensor.device for tensor in model.parameters()]
    offloaded = any(getattr(hook, "offload", False) for hook in found)
    return Placement(devices[0], tuple(dict.fromkeys(devices)), offloaded)


def check_device_map(device_map: DeviceMap, offload_folder: str | Path | None) -> dict[str, str | int] | str:
    """Return a device map as transformers takes it, from a configuration.

    Raises `UsageError` if a word or a device is unknown or not there, or the disk is used without a folder.
    """
    if isinstance(device_map, str):
        if device_map not in CHOICES:
            raise UsageError(
                f"device_map {device_map!r} is unknown ({nearest(device_map, CHOICES)}); or name the device of "
                "every module, such as {model.embed_tokens: 0, ...}"
            )
        return device_map
    if not device_map:
        raise UsageError("device_map is empty; name the device of every module, or of '' for all")
    for module, place in device_map.items():
        if place == "disk":
            if offload_folder is None:
                raise UsageError(f"device_map puts {module!r} on disk; say where with offload_folder")
            continue
        try:
            device = _device(place)
        except RuntimeError:
            raise UsageError(
                f"device_map: {place!r} for {module!r} is no device; write a GPU's number, cpu or disk"
            ) from None
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise UsageError(f"device_map: {module!r} is to go to GPU {device.index or 0}, which is not there")
    return dict(device_map)


def spread(model: Any, device_map: DeviceMap, offload_folder: str | Path | None = None) -> None:
    """Spread a transformers model that is in main memory over devices, as loading it with a device map does.

    Args:
        model: whole, on the CPU.
        device_map: as `check_device_map` returns it.
        offload_folder: where the weights go that are on disk; their files are gone when the process ends.

    Raises `UsageError` if the map leaves a module out.
    """
    from accelerate import dispatch_model, infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    if isinstance(device_map, str):
        whole = list(model._no_split_modules or ())
        memory = None
        if device_map != "sequential":
            low = device_map == "balanced_low_0"
            memory = get_balanced_memory(model, no_split_module_classes=whole, low_zero=low)
        places = infer_auto_device_map(model, max_memory=memory, no_split_module_classes=whole)
    else:
        places = dict(device_map)
    if "disk" in places.values() and offload_folder is None:
        raise UsageError("device_map: the model needs the disk; say where with offload_folder")
    skip = model._skip_keys_device_placement
    with TemporaryDirectory(dir=offload_folder) as folder:
        try:
            dispatch_model(model, places, offload_dir=folder, skip_keys=skip)
        except ValueError as error:
            raise UsageError(f"device_map: {str(error).splitlines()[0]}") from None
        offloaded_tensors(model)  # the disk's part moves out of accelerate's files


def _device(place: Any) -> torch.device:
    return torch.device("cuda", place) if isinstance(place, int) else torch.device(place)
