"""A step of decoding as a CUDA graph: its hundreds of kernels are launched at once, not one by one from Python.

This file knows nothing about models. It has not run on a GPU yet.
"""

from collections.abc import Callable

import torch
from torch import Tensor


class Graph:
    """A step captured once and replayed with other inputs.

    Args:
        step: (tokens, positions) -> logits; reads and writes the same memory at each call.
        tokens, positions: inputs of the right shape, with which the step may be done several times over.
        shape: what must stay the same for the capture to hold.
    """

    def __init__(
        self, step: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, positions: Tensor, *, shape: tuple[int, int]
    ) -> None:
        self.shape = shape
        self._tokens, self._positions = tokens.clone(), positions.clone()
        stream = torch.cuda.Stream(tokens.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(tokens.device))
        with torch.cuda.stream(stream):  # libraries set themselves up at a first call, which must not be captured
            step(self._tokens, self._positions)
        torch.cuda.current_stream(tokens.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits = step(self._tokens, self._positions)

    def replay(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Do the step with these inputs; returns the logits, which the next replay overwrites."""
        self._tokens.copy_(tokens)
        self._positions.copy_(positions)
        self._graph.replay()
        return self._logits
