"""Simulated outcomes: models that answer items as merges do, most of them alike."""

import numpy as np

from evomerge.optimizers import Objective
from evomerge.search.racing import Race
from evomerge.search.racing.order import UNIFORM, Draws, Matrix, Vector


def answers(rng: np.random.Generator, models: int, items: int, *, ability: float = 1.0) -> Matrix:
    """Outcomes 0.0 and 1.0 of shape (models, items): abilities, difficulties, three tastes, and a little chance."""
    tastes = rng.standard_normal((models, 3)) @ rng.standard_normal((3, items)) * 0.5
    abilities = ability * rng.standard_normal((models, 1))
    latent = abilities + 1.5 * rng.standard_normal(items) + tastes + 0.3 * rng.standard_normal((models, items))
    return (latent > 0.0).astype(np.float64)


def goals(n: int = 1) -> list[Objective]:
    return [Objective(f"task{j}", 0.0, 1.0) for j in range(n)]


def draws_in(order: list[int], left: list[int], information: Vector) -> tuple[Draws, float]:
    """The draws that take the items of `left` (by index) in a given order, and the probability of that order."""
    there = np.ones(len(left), dtype=bool)
    rows, probability = [], 1.0
    for index in order:
        row = UNIFORM / there.sum() + (1.0 - UNIFORM) * information / information[there].sum()
        rows.append(row)
        probability *= row[index]
        there[index] = False
    return Draws(np.array(left), np.array(order), np.array(rows)), probability


def run(race: Race, rows: list[Vector]) -> int:
    """Run a race to its end; return how many items were scored."""
    while (block := race.block()) is not None:
        race.take([row[list(places)].tolist() for row, places in zip(rows, block, strict=True)])
    return sum(len(one.places) for one in race.results())
