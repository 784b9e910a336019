"""How much memory a search takes: reckoned from shapes, corrected by what was measured.

Main memory and a GPU's memory, with the weights of base and experts resident or streamed from their files. This file
knows nothing about seconds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from evomerge.evaluation.batching import CACHE_SHARE, MOST_ROWS, kept_bytes
from evomerge.evaluation.decoding.decoder import FILL_TOKENS
from evomerge.merging import METHODS
from evomerge.search.plan.shape import Shape

#: Methods that look up magnitudes in sorted tables, and those that keep ranks.
_SORTED = frozenset(("ties", "breadcrumbs", "breadcrumbs_ties", "sce", "pcb"))
_RANKED = frozenset(("della", "della_linear"))
#: Weights, and what is kept beside them, may take this part of what there is (as `merging.residence` has it).
SHARE_OF_HOST, SHARE_OF_DEVICE = 0.7, 0.75
# A table of differences of 16-bit numbers has about so many different values a tensor, of 12 bytes each with its count.
_DIFFERENT, _ENTRY = 1 << 16, 12
# While a table is made there are its magnitudes, their sorted copy, and where values change: bytes an element.
_SORTING = 10
# Of the numbers that a layer has for a token while rows are filled: projections of attention and MLP, and their inputs.
_WIDTHS = 6
# A GPU streams tensors ahead of their merging: so many at a time.
_AHEAD = 3


@dataclass(frozen=True)
class Batch:
    """The largest batch of a task: rows, tokens of the longest prompt and of the longest answer."""

    rows: int
    prompt: int
    answer: int


@dataclass(frozen=True)
class Parts:
    """Bytes by what they are for; what lasts, and of what comes and goes the most.

    Attributes:
        lasting: what it is for -> bytes.
        passing: what it is for -> bytes; never two of them at a time.
    """

    lasting: Mapping[str, int]
    passing: Mapping[str, int]

    @property
    def peak(self) -> int:
        """The most at a time."""
        return sum(self.lasting.values()) + max(self.passing.values(), default=0)


def on_host(
    shape: Shape,
    *,
    program: int,
    there_is: int,
    itemsize: int,
    experts: int,
    methods: Iterable[str],
    batches: Iterable[Batch],
    resident: bool,
) -> Parts:
    """Return the main memory of a search whose model lives there.

    Args:
        shape: of the models.
        program: bytes of the program itself, its libraries loaded.
        there_is: bytes that may be used in all; masks, tables and batches adapt to it.
        itemsize: bytes of a number in the live model.
        experts: how many.
        methods: merge methods that will be built.
        batches: the largest batch of each task.
        resident: base and experts stay in memory; else they are read from their files for every candidate.
    """
    methods = set(methods)
    lasting = {"program": program, "live model": shape.parameters * itemsize}
    if resident:
        lasting["base and experts"] = shape.weight_bytes
    room = max(0, int(SHARE_OF_HOST * there_is) - lasting.get("base and experts", 0))
    left = there_is - sum(lasting.values())
    if any(METHODS[name].stochastic for name in methods):
        lasting["masks"] = min(room // 2, 2 * experts * shape.parameters)
    tables = _tables(shape, methods) * experts
    if tables:
        lasting["tables"] = min(room // 2, tables)
    passing = {"scoring": _largest(shape, batches, itemsize, "cpu", left)}
    if tables:
        passing["sorting"] = _SORTING * shape.largest
    return Parts(lasting, passing)


def beside_a_gpu(shape: Shape, *, program: int, there_is: int, itemsize: int, resident: bool) -> Parts:
    """Return the main memory of a search whose model lives on a GPU; arguments as in `on_host`.

    Weights that are not resident there wait in page-locked main memory, or where that is too small in their files.
    """
    lasting = {"program": program}
    if not resident and shape.weight_bytes <= SHARE_OF_HOST * there_is:
        lasting["base and experts"] = shape.weight_bytes
    return Parts(lasting, {"loading": shape.parameters * itemsize})


def on_device(
    shape: Shape, *, there_is: int | None, itemsize: int, models: int, batches: Iterable[Batch], resident: bool
) -> Parts:
    """Return the memory of a GPU on which the model lives.

    Batches adapt to what is free; `there_is` None: as if there were no end of it. Arguments as in `on_host`; `models`:
    base and experts.
    """
    lasting = {"live model": shape.parameters * itemsize}
    each = shape.weight_bytes // models
    if resident:
        lasting["base and experts"] = shape.weight_bytes
    else:
        ahead = sum(sorted(shape.elements.values())[-_AHEAD:])  # the largest come first
        lasting["tensors on their way"] = int(models * each * ahead / shape.parameters)
    left = None if there_is is None else there_is - sum(lasting.values())
    return Parts(lasting, {"scoring": _largest(shape, batches, itemsize, "cuda", left)})


def fitted(shape: Shape, batch: Batch, itemsize: int, kind: str, left: int | None) -> Batch:
    """Return a batch with no more rows than keys and values fit into what is left, by the rule of `batching`."""
    if left is None:
        return batch
    tokens = int(max(0, left) * CACHE_SHARE[kind]) // (shape.cache_values * kept_bytes(itemsize, kind))
    tokens = 1 << max(0, tokens.bit_length() - 1)
    return replace(batch, rows=max(1, min(batch.rows, tokens // (batch.prompt + batch.answer))))


def _largest(shape: Shape, batches: Iterable[Batch], itemsize: int, kind: str, left: int | None) -> int:
    return max(
        (scoring(shape, fitted(shape, batch, itemsize, kind, left), itemsize, kind) for batch in batches), default=0
    )


def scoring(shape: Shape, batch: Batch, itemsize: int, kind: str) -> int:
    """Return the bytes that scoring one batch takes: keys and values, logits, activations while rows are filled."""
    cache = batch.rows * (batch.prompt + batch.answer) * shape.cache_values * kept_bytes(itemsize, kind)
    logits = 2 * batch.rows * shape.vocabulary * itemsize
    tokens = min(FILL_TOKENS.get(kind, 4096), batch.rows * batch.prompt)
    filling = tokens * (_WIDTHS * shape.hidden + 3 * shape.intermediate) * itemsize
    return cache + logits + filling


def rows_of(items: int, batch_size: int | str, kind: str) -> int:
    """Return how many rows of so many items are answered at a time, at most."""
    return min(items, MOST_ROWS.get(kind, 256) if batch_size == "auto" else int(batch_size))


def _tables(shape: Shape, methods: set[str]) -> int:
    """Return the bytes of one expert's tables."""
    total = 0
    if methods & _SORTED:
        total += sum(
            min(4 * n, _ENTRY * min(n, _DIFFERENT)) if shape.narrow else 4 * n for n in shape.elements.values()
        )
    if methods & _RANKED:
        total += 2 * shape.parameters
    return total
