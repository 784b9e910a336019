"""Task vectors measured from the weights: norms, cosines, quantiles, zeros; read in blocks by several threads.

Every number is exact or a float64 sum in a fixed order (blocks of a fixed size, their sums added with one rounding),
so that it depends neither on the number of threads nor on which of them is faster. Memory: a few blocks a thread. This
file knows nothing about what the numbers mean.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, islice

import numpy as np
import numpy.typing as npt
import torch

from evomerge.checkpoints.source import TensorSource
from evomerge.doctor import loops
from evomerge.merging.kernels import cpu
from evomerge.recipes.groups import OUTSIDE, PARTS, finest_group

BLOCK = 1 << 19
# A sample takes this many spans of this length, evenly spaced, from each tensor: one block in all.
SAMPLE_SPANS = 32
SAMPLE_LENGTH = BLOCK // SAMPLE_SPANS

QUANTILES = (0.5, 0.9, 0.99, 0.999)
#: The kinds of tensors that are told apart in sums and quantiles.
KINDS = ("embeddings", *PARTS, *(kind for kind in OUTSIDE if kind != "embeddings"))


@dataclass(frozen=True)
class TensorPair:
    """A tensor of the base and the same tensor of the experts that have it.

    Attributes:
        name: its name in the base.
        base: the base's.
        experts: label -> the expert's, of the base's shape.
    """

    name: str
    base: TensorSource
    experts: Mapping[str, TensorSource]


@dataclass(frozen=True)
class Part:
    """The task vector in some tensors.

    Attributes:
        parameters: elements of these tensors.
        base_norm, delta_norm: Euclidean norms of the base's weights and of the task vector.
        dot: the dot product of the two.
        counts: how many |delta| fall into each bin of the upper 16 bits of a float32, shape (32768,); empty where it is
            not kept. In a sample, scaled up to all elements.
        zeros: how many elements are exactly equal to the base's (scaled up in a sample).
        largest: the largest |delta| that was seen.
    """

    parameters: int
    base_norm: float
    delta_norm: float
    dot: float
    counts: npt.NDArray[np.float64]
    zeros: float
    largest: float

    @property
    def relative_norm(self) -> float:
        """|delta| / |base|; 0 for two zeros."""
        return _ratio(self.delta_norm, self.base_norm)

    @property
    def cosine(self) -> float:
        """The cosine between the base's weights and the expert's; 1 for two zeros."""
        own = math.sqrt(max(self.base_norm**2 + 2 * self.dot + self.delta_norm**2, 0.0))
        if not self.base_norm or not own:
            return 1.0 if self.base_norm == own else 0.0
        return min((self.base_norm**2 + self.dot) / (self.base_norm * own), 1.0)

    @property
    def zero_share(self) -> float:
        """The share of elements that are exactly equal to the base's."""
        return self.zeros / self.parameters if self.parameters else 0.0

    def quantile(self, q: float) -> float:
        """Return the smallest |delta| that at least a share q of the elements do not exceed, to 0.4 %."""
        cumulated = np.cumsum(self.counts)
        i = int(np.searchsorted(cumulated, q * cumulated[-1]))
        # Never above the largest, whose bin's middle may be.
        return min(_middle(i), self.largest)

    def share_above(self, magnitude: float) -> float:
        """Return the share of elements whose |delta| is above a magnitude, to the width of its bin."""
        return float(self.counts[_bin(magnitude) + 1 :].sum() / max(self.counts.sum(), 1.0))


@dataclass(frozen=True)
class ExpertDelta:
    """One expert's task vector.

    Attributes:
        whole: all tensors together.
        kinds: the same by kind (one of `KINDS`); only kinds that the model has.
        groups: the same by group (`layers.3.mlp`, `embeddings`), without histograms.
        not_finite: tensor name -> number of NaN and infinite elements (those seen). They are left out of all else.
    """

    whole: Part
    kinds: Mapping[str, Part]
    groups: Mapping[str, Part]
    not_finite: Mapping[str, int]


@dataclass(frozen=True)
class Deltas:
    """All that was measured.

    Attributes:
        experts: label -> its task vector.
        cosines: (label, label) -> the cosine between two task vectors over the tensors that both have (0 if one is 0).
        base_not_finite: as `ExpertDelta.not_finite`.
        sampled: the share of elements that was read.
    """

    experts: Mapping[str, ExpertDelta]
    cosines: Mapping[tuple[str, str], float]
    base_not_finite: Mapping[str, int]
    sampled: float


@dataclass
class _Block:
    """What was measured in one block: label -> numbers."""

    sums: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    zeros: dict[str, int] = field(default_factory=dict)
    largest: dict[str, int] = field(default_factory=dict)
    counts: dict[str, npt.NDArray[np.uint32]] = field(default_factory=dict)
    dots: dict[tuple[str, str], float] = field(default_factory=dict)
    not_finite: dict[str, int] = field(default_factory=dict)


@dataclass
class _Tally:
    """Sums over blocks that are still lists of terms, so that the end can add them with one rounding."""

    parameters: int = 0
    base: list[float] = field(default_factory=list)
    delta: list[float] = field(default_factory=list)
    dot: list[float] = field(default_factory=list)
    zeros: float = 0.0
    largest: int = 0

    def part(self, counts: npt.NDArray[np.float64]) -> Part:
        return Part(
            self.parameters,
            math.sqrt(math.fsum(self.base)),
            math.sqrt(math.fsum(self.delta)),
            math.fsum(self.dot),
            counts,
            self.zeros,
            float(np.uint32(self.largest).view(np.float32)),
        )


def measure(
    pairs: Sequence[TensorPair], *, threads: int, quick: bool = False, progress: Callable[[float], None] | None = None
) -> Deltas:
    """Measure the task vectors of experts.

    Args:
        pairs: the tensors.
        threads: how many blocks are worked on at once.
        quick: read a sample of each tensor only (`SAMPLE_SPANS` times `SAMPLE_LENGTH` elements) and scale up.
        progress: is called now and then with the share that is done.
    """
    collected = _Collected(sorted({label for pair in pairs for label in pair.experts}))
    for pair in pairs:
        collected.start(pair)
    jobs = [(pair, spans) for pair in pairs for spans in _blocks(_size(pair), quick)]
    total, done = max(sum(map(_length, (spans for _, spans in jobs))), 1), 0
    work = (partial(_measure_block, *job) for job in jobs)
    for (pair, spans), block in zip(jobs, _in_order(work, threads), strict=True):
        collected.add(pair, block, _size(pair) / _length(spans) if quick else 1.0)
        done += _length(spans)
        if progress:
            progress(done / total)
    return collected.result(total / max(sum(map(_size, pairs)), 1))


Span = tuple[int, int]


def _in_order(work: Iterator[Callable[[], _Block]], threads: int) -> Iterator[_Block]:
    """Run work on threads and yield the results in its order; a bounded number of blocks is in memory at once."""
    running: deque[Future[_Block]] = deque()
    with ThreadPoolExecutor(threads) as executor:
        try:
            running.extend(executor.submit(call) for call in islice(work, 2 * threads + 1))
            while running:
                block = running.popleft().result()
                running.extend(executor.submit(call) for call in islice(work, 1))
                yield block
        finally:
            executor.shutdown(cancel_futures=True)


def _measure_block(pair: TensorPair, spans: Sequence[Span]) -> _Block:
    block = _Block()
    base = _read(pair.base, spans)
    deltas = {}
    for label, source in pair.experts.items():
        own, expert = base, _read(source, spans)
        delta, sums = _subtract(expert, own)
        if not np.isfinite(sums).all():
            own, expert = _clean(block, label, own, expert)
            delta, sums = _subtract(expert, own)
        counts = np.zeros((2, loops.BINS), np.uint32)
        loops.count(delta, counts)
        block.counts[label] = counts[0] + counts[1]
        block.zeros[label], block.largest[label] = loops.extremes(delta)
        block.sums[label] = (math.fsum(sums[0]), math.fsum(sums[1]), math.fsum(sums[2]))
        deltas[label] = delta
    for one, two in combinations(deltas, 2):
        products = np.zeros(loops.LANES)
        loops.add_dot(deltas[one], deltas[two], products)
        block.dots[one, two] = math.fsum(products)
    return block


def _subtract(
    expert: npt.NDArray[np.generic], base: npt.NDArray[np.generic]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Return expert - base and the lanes of the sums of base^2, delta^2, base * delta, which are finite if all is."""
    delta, sums = np.empty(base.size, np.float32), np.zeros((3, loops.LANES))
    cpu.subtract(expert, base, delta)
    loops.add_products(base, delta, sums)
    return delta, sums


def _read(source: TensorSource, spans: Sequence[Span]) -> npt.NDArray[np.generic]:
    """Return elements as the loops take them: bfloat16 as uint16, all else as float32."""
    parts = [source.read(a, b) for a, b in spans]
    return _words(parts[0] if len(parts) == 1 else torch.cat(parts))


def _words(tensor: torch.Tensor) -> npt.NDArray[np.generic]:
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy()
    return tensor.float().numpy()


def _clean(
    block: _Block, label: str, base: npt.NDArray[np.generic], expert: npt.NDArray[np.generic]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Count the elements that are not finite and return both arrays with zeros where either has one."""
    ours, theirs = _float(base), _float(expert)
    with np.errstate(all="ignore"):
        bad_difference = ~np.isfinite(theirs - ours)  # also where two finite numbers are too far apart for float32
    bad_base = ~np.isfinite(ours)
    block.not_finite[""] = int(bad_base.sum())
    block.not_finite[label] = int((~np.isfinite(theirs) | (bad_difference & ~bad_base)).sum())
    return np.where(bad_difference, np.float32(0), ours), np.where(bad_difference, np.float32(0), theirs)


def _float(words: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    if words.dtype == np.uint16:
        return (words.astype(np.uint32) << 16).view(np.float32)
    return words.astype(np.float32)


class _Collected:
    """Blocks added up, in the order in which they come."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels
        self.groups: dict[str, dict[str, _Tally]] = {label: {} for label in labels}
        self.counts: dict[str, dict[str, npt.NDArray[np.float64]]] = {label: {} for label in labels}
        self.dots: dict[tuple[str, str], list[float]] = {}
        self.squares: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
        self.not_finite: dict[str, Counter[str]] = {label: Counter() for label in ("", *labels)}

    def start(self, pair: TensorPair) -> None:
        """Note that a tensor's blocks come next."""
        for label in pair.experts:
            tally = self.groups[label].setdefault(finest_group(pair.name), _Tally())
            tally.parameters += _size(pair)
            self.counts[label].setdefault(kind_name(pair.name), np.zeros(loops.BINS))

    def add(self, pair: TensorPair, block: _Block, scale: float) -> None:
        """Add a block; `scale`: how many elements each of its elements stands for."""
        for label, (base, delta, dot) in block.sums.items():
            tally = self.groups[label][finest_group(pair.name)]
            tally.base.append(base * scale)
            tally.delta.append(delta * scale)
            tally.dot.append(dot * scale)
            tally.zeros += block.zeros[label] * scale
            tally.largest = max(tally.largest, int(block.largest[label]))
            self.counts[label][kind_name(pair.name)] += block.counts[label] * scale
        for (one, two), product in block.dots.items():
            self.dots.setdefault((one, two), []).append(product * scale)
            squares = self.squares.setdefault((one, two), ([], []))
            squares[0].append(block.sums[one][1] * scale)
            squares[1].append(block.sums[two][1] * scale)
        for label, number in block.not_finite.items():
            if number:
                self.not_finite[label][pair.name] += number

    def result(self, sampled: float) -> Deltas:
        """Return all that was measured."""
        experts = {label: self._expert(label) for label in self.labels}
        cosines = {}
        for key, products in self.dots.items():
            one, two = map(math.fsum, self.squares[key])
            cosines[key] = max(-1.0, min(1.0, math.fsum(products) / math.sqrt(one * two))) if one and two else 0.0
        return Deltas(experts, cosines, dict(self.not_finite[""]), sampled)

    def _expert(self, label: str) -> ExpertDelta:
        tallies = self.groups[label]
        none = np.zeros(0)
        kinds = {}
        for kind in KINDS:
            if kind in self.counts[label]:
                inside = [tally for group, tally in tallies.items() if _kind_of_group(group) == kind]
                kinds[kind] = _joined(inside).part(self.counts[label][kind])
        whole = _joined(list(tallies.values())).part(sum(self.counts[label].values(), np.zeros(loops.BINS)))
        groups = {group: tally.part(none) for group, tally in tallies.items()}
        return ExpertDelta(whole, kinds, groups, dict(self.not_finite[label]))


def _joined(tallies: Sequence[_Tally]) -> _Tally:
    return _Tally(
        sum(tally.parameters for tally in tallies),
        [term for tally in tallies for term in tally.base],
        [term for tally in tallies for term in tally.delta],
        [term for tally in tallies for term in tally.dot],
        math.fsum(tally.zeros for tally in tallies),
        max((tally.largest for tally in tallies), default=0),
    )


def kind_name(tensor: str) -> str:
    """Return the kind of a tensor, one of `KINDS`."""
    return _kind_of_group(finest_group(tensor))


def _kind_of_group(group: str) -> str:
    return group.rpartition(".")[2]


def _size(pair: TensorPair) -> int:
    return math.prod(pair.base.shape)


def _blocks(size: int, quick: bool) -> list[list[Span]]:
    """Return what is read of a tensor, block by block; a sample is one block of many short spans."""
    if not quick or size <= SAMPLE_SPANS * SAMPLE_LENGTH:
        return [[(a, min(a + BLOCK, size))] for a in range(0, size, BLOCK)]
    step = (size - SAMPLE_LENGTH) // (SAMPLE_SPANS - 1)
    return [[(i * step, i * step + SAMPLE_LENGTH) for i in range(SAMPLE_SPANS)]]


def _length(spans: Sequence[Span]) -> int:
    return sum(last - first for first, last in spans)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else (math.inf if part else 0.0)


def _bin(magnitude: float) -> int:
    return int(np.float32(magnitude).view(np.uint32) >> np.uint32(16))


def _middle(index: int) -> float:
    """Return the middle of a bin; 0 for the one that holds 0."""
    return float(np.uint32((index << 16) | 0x8000).view(np.float32)) if index else 0.0
