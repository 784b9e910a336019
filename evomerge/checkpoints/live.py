"""The weights of a running model under the names that its file has for them.

transformers runs some models in another form than their files hold: experts stacked into one tensor, gate and up
projections side by side, other prefixes. It knows how to turn a model back when it saves it; here the same knowledge
gives, for every tensor of the file, the part of the running model's memory in which it lies, on whichever device. This
file knows nothing about merging, and of no architecture in particular.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from evomerge.checkpoints.offloaded import offloaded_tensors
from evomerge.errors import UsageError


class _KeepViews(TorchFunctionMode):
    """Has nothing copied only to make its elements neighbours: a part of a tensor stays a part of it."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if func is torch.Tensor.contiguous else func(*args, **(kwargs or {}))


def live_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return name in the file -> the running model's own memory (writing into it changes the model).

    A tensor may be no contiguous one. Tied tensors appear under each of their names, and those of the model without its
    head (`transformer.` in GPT-2) also without that prefix, which older files leave out. Of a model that accelerate has
    spread over devices each tensor is where it is; for those that it keeps outside the model see `offloaded_tensors`.

    Raises `UsageError` if the model does not hold a tensor of its file as it is.
    """
    running = {name: tensor.detach() for name, tensor in model.state_dict(keep_vars=True).items()}
    running |= offloaded_tensors(model)
    for name, tensor in running.items():
        if tensor.device.type == "meta":
            raise UsageError(f"the loaded model has no values for {name!r} (device meta); load it with its weights")
    if not hasattr(model, "config"):
        return running
    from transformers.core_model_loading import revert_weight_conversion  # takes seconds, and export needs no model

    with _KeepViews():
        named: dict[str, torch.Tensor] = revert_weight_conversion(model, dict(running))
    owned = {tensor.untyped_storage().data_ptr() for tensor in running.values()}
    for name, tensor in named.items():
        if tensor.numel() and tensor.untyped_storage().data_ptr() not in owned:
            raise UsageError(
                f"the loaded model holds {name!r} in another form than its file, so that no merge can be written into "
                "it; export merges and evaluate them instead"
            )
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return {**{name.removeprefix(prefix): tensor for name, tensor in named.items()}, **named}
