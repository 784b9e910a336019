"""Small problems with known optima, and a driver that plays the search loop."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from evomerge.optimizers import Failure, Objective, Optimizer, Problem, Proposal, Result, create
from evomerge.recipes import Dimension

Score = Callable[[Sequence[float]], Sequence[float]]
#: Options with which slow optimizers do less than by default.
FEWER: dict[str, dict[str, Any]] = {"saasgp": {"raw": 32, "restarts": 1, "samples": 8}}
OPTIMUM = (0.31, 0.62, 0.48, 0.77, 0.25, 0.55)


def box(n: int, choices: tuple[str, ...] = ()) -> list[Dimension]:
    """`n` numbers, and in front of them a choice where `choices` are given."""
    numbers = [Dimension(f"weight.e.layers.{i}", "weight", "e", f"layers.{i}", 0.0, 1.5) for i in range(n)]
    return [Dimension("method", "method", choices=choices), *numbers] if choices else numbers


def goals(n: int = 1) -> list[Objective]:
    return [Objective(f"task{i}", 0.0, 1.0) for i in range(n)]


def result(*values: float, cut_short: bool = False) -> Result:
    """A result over 64 items an objective, of which as many are solved as the value says."""
    by_item = tuple({i: float((i * 37) % 64 < 64 * value) for i in range(64)} for value in values)
    return Result(tuple(values), (0.05,) * len(values), (64,) * len(values), cut_short, by_item)


def quadratic(vector: Sequence[float]) -> tuple[float]:
    """Largest, 1, at `OPTIMUM` (repeated as often as needed)."""
    return (1.0 - sum((u - OPTIMUM[i % 6]) ** 2 for i, u in enumerate(vector)),)


def two_peaks(vector: Sequence[float]) -> tuple[float, float]:
    return (1.0 - sum((u - 0.2) ** 2 for u in vector), 1.0 - sum((u - 0.8) ** 2 for u in vector))


def drive(
    optimizer: Optimizer,
    evaluations: int,
    score: Score = quadratic,
    *,
    workers: int = 1,
    fails: Callable[[int], bool] = lambda number: False,
) -> list[Proposal]:
    """Ask and tell until `evaluations` proposals are told; several workers' results come shuffled."""
    order = random.Random(7)
    asked: list[Proposal] = []
    flying: list[Proposal] = []
    while len(asked) < evaluations or flying:
        new = optimizer.ask(min(workers - len(flying), evaluations - len(asked)))
        asked += new
        flying += new
        assert flying, "nothing in flight and nothing proposed"
        proposal = flying.pop(order.randrange(len(flying)))
        failed = fails(proposal.number)
        optimizer.tell(proposal, Failure("nan", "") if failed else result(*score(proposal.vector)))
    return asked


def make(
    name: str,
    dimensions: Sequence[Dimension],
    objectives: int = 1,
    *,
    seed: int = 3,
    first_number: int = 0,
    **options: Any,
) -> Optimizer:
    problem = Problem(dimensions, goals(objectives), seed, first_number)
    return create(name, problem, **FEWER.get(name, {}), **options)
