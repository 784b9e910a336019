"""Building the tensors of a candidate on a GPU: straight into the live model's parameters.

Weights that are resident on the device are merged some tensors at a time, while the next ones are planned. Weights in
main memory or in files are copied to the device tensor by tensor, on a stream of their own, while those before are
merged. This file knows nothing about recipes; the loops are in `kernels.gpu`.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import torch

from evomerge.merging.fingerprint import combine
from evomerge.merging.kernels.gpu import Job, Launch, Target, weighted_sums
from evomerge.merging.methods import WeightedSum
from evomerge.merging.on_cpu import CpuMerger
from evomerge.merging.residence import Residence
from evomerge.merging.tensors import PlannedTensor, all_terms

# Elements that a thread of the CPU merges at a time, of one tensor alone.
_SPAN = 1 << 20
# Tensors in one launch, where all weights are on the device: enough of the largest to outlast the planning of the next.
_BATCH = 24
# Launches whose results have not been taken, where weights are on their way: each holds a tensor of every model.
_AHEAD = 2

#: Base and experts of one tensor, flat, on the device.
Weights = list[torch.Tensor]


class GpuMerger:
    """Merges planned tensors on one device; several may work side by side, each on a thread, for one model.

    Args:
        residence: where the weights are, of the tensors that this device merges.
        device: where to merge; the CPU under Triton's interpreter.
        threads: for methods that are no weighted sums: the CPU merges these.
    """

    def __init__(self, residence: Residence, device: torch.device, *, threads: int = 1) -> None:
        self._residence, self._device = residence, device
        self._cpu = CpuMerger(threads, _SPAN)
        self._copying = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._ranks: dict[tuple[str, str], torch.Tensor] = {}
        # of each tensor, what was prepared last, and what it depends on: of weights that stay where they are
        self._prepared: dict[str, tuple[object, Target]] = {}

    def merge(self, planned: Iterable[PlannedTensor], targets: Mapping[str, torch.Tensor]) -> dict[str, int]:
        """Write the merged tensors into `targets`, flat, on the device; return their fingerprints by name.

        Tensors may be planned as they are taken, the largest first: those before are merged meanwhile.

        Raises `CandidateError` naming a tensor that comes out infinite or NaN.
        """
        values: dict[str, int] = {}
        under_way: deque[tuple[list[PlannedTensor], Launch]] = deque()

        def take() -> None:
            tensors, launch = under_way.popleft()
            for tensor, (value, finite) in zip(tensors, launch.results(), strict=True):
                tensor.refuse_infinite(finite)
                values[tensor.operands.name] = combine(values.get(tensor.operands.name, 0), value)

        for batch in self._batches(planned):
            jobs = []
            for tensor, weights in batch:
                out = targets[tensor.operands.name]
                if isinstance(tensor.plan, WeightedSum):
                    jobs.append((tensor, self._job(tensor, tensor.plan, weights, out)))
                else:
                    values[tensor.operands.name] = self._on_cpu(tensor, out)
            if jobs:
                under_way.append(([tensor for tensor, _ in jobs], weighted_sums([job for _, job in jobs])))
            if len(under_way) > _AHEAD and self._residence.memory != "resident":
                take()
        while under_way:
            take()
        return values

    def _batches(self, planned: Iterable[PlannedTensor]) -> Iterator[list[tuple[PlannedTensor, Weights | None]]]:
        """Yield tensors, some at a time; one at a time with its weights where these are not on the device."""
        planned = iter(planned)
        if self._residence.memory == "resident":
            while batch := list(islice(planned, _BATCH)):
                yield [(tensor, None) for tensor in batch]
            return
        for tensor in planned:
            if not isinstance(tensor.plan, WeightedSum):
                yield [(tensor, None)]
                continue
            with torch.cuda.stream(self._copying):
                weights = self._weights(tensor)
            if self._copying is not None:
                merging = torch.cuda.current_stream(self._device)
                merging.wait_stream(self._copying)
                for tensor_on_device in weights:
                    tensor_on_device.record_stream(merging)
            yield [(tensor, weights)]

    def _weights(self, tensor: PlannedTensor) -> Weights:
        operands = tensor.operands
        sources = [self._residence.source(label, operands.name) for label in ("", *operands.labels)]
        return [source.read(0, operands.size).to(self._device, non_blocking=True) for source in sources]

    def _job(self, tensor: PlannedTensor, plan: WeightedSum, weights: Weights | None, out: torch.Tensor) -> Job:
        plan, order = all_terms(plan, 0, range(1, len(tensor.operands.labels) + 1))
        ranks = [None if term.by_rank is None else self._ranks_of(tensor, e) for e, term in enumerate(plan.terms)]
        if weights is not None:
            return Job(_target(tensor, plan, order, weights, out), plan, ranks)
        name = tensor.operands.name
        state = tensor.operands.labels, tensor.dtype, tensor.mask_keys, plan.task_vectors, order, out.data_ptr()
        if name not in self._prepared or self._prepared[name][0] != state:
            self._prepared[name] = state, _target(tensor, plan, order, self._weights(tensor), out)
        return Job(self._prepared[name][1], plan, ranks)

    def _ranks_of(self, tensor: PlannedTensor, expert: int) -> torch.Tensor:
        key = tensor.operands.name, tensor.operands.labels[expert]
        if key in self._ranks:
            return self._ranks[key]
        ranks = tensor.operands.ranks(expert, 0, tensor.operands.size).to(self._device)
        if self._residence.memory == "resident":
            self._ranks[key] = ranks
        return ranks

    def _on_cpu(self, tensor: PlannedTensor, out: torch.Tensor) -> int:
        """Merge by a function in torch, on the CPU's threads, and copy the result; return the fingerprint."""
        name = tensor.operands.name
        merged = torch.empty(out.numel(), dtype=tensor.dtype)
        value = self._cpu.merge([tensor], {name: merged})[name]
        out.copy_(merged)
        return value


def _target(
    tensor: PlannedTensor, plan: WeightedSum, order: Sequence[int], weights: Weights, out: torch.Tensor
) -> Target:
    """Prepare a tensor for plans like this one; `order` numbers the weights of the plan's terms."""
    return Target(
        name=tensor.operands.name,
        dtype=tensor.dtype,
        out=out,
        experts=[weights[i] for i in order],
        base=weights[0] if plan.task_vectors else None,
        mask_keys=(*tensor.mask_keys, 0)[: len(order)],
    )
