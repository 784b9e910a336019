"""Building the tensors of a candidate on the CPU: all spans of all tensors on threads.

This file knows nothing about recipes, or about where the weights come from.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

from evomerge.merging.fingerprint import combine
from evomerge.merging.methods.reductions import spans
from evomerge.merging.tensors import PlannedTensor, merge_span

# Elements that a thread merges at a time: small enough to divide one large tensor over all threads.
_SPAN = 1 << 22


class CpuMerger:
    """Merges planned tensors on threads; the result does not depend on how many, nor on the spans.

    Args:
        threads: how many.
        span: elements that a thread merges at a time, a multiple of 8; None: as suits many tensors.
    """

    def __init__(self, threads: int, span: int | None = None) -> None:
        self._threads, self._span = threads, span

    def merge(self, planned: Iterable[PlannedTensor], targets: Mapping[str, torch.Tensor]) -> dict[str, int]:
        """Write the merged tensors into `targets`, flat, on the CPU; return their fingerprints by name.

        Raises `CandidateError` naming a tensor that comes out infinite or NaN.
        """
        tensors = list(planned)
        jobs = [(tensor, *span) for tensor in tensors for span in spans(tensor.operands.size, self._span or _SPAN)]

        def merge(job: tuple[PlannedTensor, int, int]) -> int:
            tensor, first, last = job
            return merge_span(tensor, first, last, targets[tensor.operands.name][first:last])

        values = dict.fromkeys((tensor.operands.name for tensor in tensors), 0)
        with ThreadPoolExecutor(self._threads) as executor:
            try:
                for (tensor, _, _), value in zip(jobs, executor.map(merge, jobs), strict=True):
                    values[tensor.operands.name] = combine(values[tensor.operands.name], value)
            except BaseException:
                executor.shutdown(cancel_futures=True)
                raise
        return values
