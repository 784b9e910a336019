"""The weights that accelerate keeps outside a model: in main memory or on disk, brought to a device layer by layer.

While such a model is at rest its parameters are empty ("meta"), and the hook of each module knows the map that holds
their values. Values in memory are handed out as they are. Values on disk may lie in the checkpoint itself, which nobody
may write to: they move to files of ours, mapped into memory, and the model reads them there from then on. This file
knows nothing about merging.
"""

import tempfile
from collections.abc import Iterator
from typing import Any

import torch

from evomerge.errors import UsageError

#: Where a value is kept: `values[key]`.
_Place = tuple[dict[str, torch.Tensor], str]


def hooks(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module, Any]]:
    """Yield (name of the module, module, hook) for every hook that accelerate has put on a model."""
    for path, module in model.named_modules(remove_duplicate=False):
        waiting: list[Any] = [getattr(module, "_hf_hook", None)]
        while waiting:
            hook = waiting.pop(0)
            if hasattr(hook, "hooks"):  # a chain of them
                waiting = [*hook.hooks, *waiting]
            elif hook is not None:
                yield path, module, hook


def offloaded_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return name in the running model -> the memory that its value is read from, for every weight that is offloaded.

    Writing into it changes the model. What was on disk is mapped from files in the offload folder that have no name and
    are gone when the process ends; weights that are tied are one memory from now on.

    Raises `UsageError` if a value is kept where it cannot be written.
    """
    places = dict(_places(model))
    if not places:
        return {}
    memory = {name: tensor.detach() for name, tensor in model.state_dict(keep_vars=True).items()}
    memory |= {name: values[key].detach() for name, (values, key) in places.items() if key in values}
    ties = getattr(model, "all_tied_weights_keys", {}).items()
    for target, source in sorted(ties, key=lambda pair: pair[0] in places):
        moved, kept = (target, source) if target in places else (source, target)
        # transformers may have left the value of one out, as the other's is there
        if moved in places and (memory[moved].is_meta or _equal(memory[moved], memory[kept])):
            memory[moved] = memory[kept]
            values, key = places[moved]
            values[key] = memory[kept]
    return {name: memory[name] for name in places}


def _places(model: torch.nn.Module) -> Iterator[tuple[str, _Place]]:
    """Yield the offloaded weights and where their values are, which is in memory when this returns."""
    for path, module, hook in hooks(model):
        from accelerate.hooks import AlignDevicesHook, CpuOffload
        from accelerate.utils.modeling import named_module_tensors

        if isinstance(hook, CpuOffload):
            raise UsageError(
                "the loaded model moves between devices at every call (accelerate's cpu_offload_with_hook), so that no "
                "merge can be written into it; load it with a device_map"
            )
        if not isinstance(hook, AlignDevicesHook) or not hook.offload:
            continue
        own = named_module_tensors(
            module, include_buffers=hook.offload_buffers, recurse=hook.place_submodules, remove_non_persistent=True
        )
        for name, _ in own:
            whole = f"{path}.{name}" if path else name
            yield whole, _in_memory(whole, hook.weights_map, name)


def _in_memory(name: str, values: Any, key: str) -> _Place:
    """Return where a hook's value is kept, moved to memory if it is on disk."""
    from accelerate.utils import OffloadedWeightsLoader, PrefixedDataset

    while isinstance(values, PrefixedDataset):
        values, key = values.dataset, f"{values.prefix}{key}"
    if isinstance(values, OffloadedWeightsLoader):
        if key not in values.state_dict and key in values.index:
            if values.save_folder is None:
                raise UsageError(
                    f"the loaded model reads {name!r} from the files of its checkpoint, which no merge may be written "
                    "into; load it with an offload_folder"
                )
            values.state_dict[key] = _mapped(values[key], str(values.save_folder))
        values = values.state_dict
    if not isinstance(values, dict):
        raise UsageError(
            f"the loaded model keeps {name!r} in a {type(values).__name__}, which no merge can be written to"
        )
    return values, key


def _mapped(value: torch.Tensor, folder: str) -> torch.Tensor:
    """Return a copy of a tensor that lives in a file of `folder` without a name, mapped into memory."""
    if not value.numel():
        return value
    try:
        # written, not only made as long: a full disk is found here and not by a signal later
        with tempfile.NamedTemporaryFile(dir=folder, prefix="evomerge-") as file:
            file.write(value.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
            file.flush()
            mapped = torch.from_file(file.name, shared=True, size=value.numel(), dtype=value.dtype)
    except OSError as error:
        raise UsageError(f"offload folder {folder}: {error.strerror}") from None
    return mapped.view(value.shape)


def _equal(one: torch.Tensor, two: torch.Tensor) -> bool:
    return one.shape == two.shape and one.dtype == two.dtype and torch.equal(one.cpu(), two.cpu())
