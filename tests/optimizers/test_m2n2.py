"""M2N2: the economy of items by hand, children between their parents, niches that last."""

import math

import numpy as np
import pytest

from evomerge.errors import UsageError
from evomerge.optimizers import M2N2, Failure, Objective, Problem, Proposal, Result
from evomerge.optimizers.m2n2 import (
    Member,
    attraction,
    cross,
    fitness,
    mutate,
    place,
    roulette,
    score_table,
    spherical,
    split_shares,
)
from evomerge.recipes import Dimension
from tests.optimizers.landscapes import box, goals

# Four items; the last is solved by nobody.
TABLE = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
ONES = np.ones(4)


def layered(layers=4, experts=2):
    return [
        Dimension(f"weight.{e}.layers.{i}", "weight", f"{e}", f"layers.{i}", 0.0, 1.5)
        for e in range(experts)
        for i in range(layers)
    ]


def scored(*tables):
    """A result from a table of item scores for each objective."""
    by_item = tuple(dict(enumerate(table)) for table in tables)
    means = tuple(float(np.mean(table)) for table in tables)
    return Result(means, (0.05,) * len(means), tuple(map(len, tables)), False, by_item)


# ---- fitness and attraction -----------------------------------------------------------------------------------------


def test_fitness_by_hand():
    """Item 0 is shared by three, items 1 and 2 are one member's alone."""
    assert fitness(TABLE, ONES) == pytest.approx([1 / 3 + 1, 1 / 3, 1 / 3 + 1], abs=1e-5)
    assert fitness(TABLE, ONES, alpha=0.0) == pytest.approx([2, 1, 2], abs=1e-5)
    assert fitness(TABLE, ONES, alpha=2.0) == pytest.approx([1 / 9 + 1, 1 / 9, 1 / 9 + 1], abs=1e-5)
    assert fitness(TABLE, np.array([3.0, 0.5, 1.0, 7.0])) == pytest.approx([1.5, 1.0, 2.0], abs=1e-5)


def test_items_with_scores_between_0_and_1_are_as_large_as_their_best_score():
    assert fitness(np.array([[0.5], [0.25]]), np.ones(1)) == pytest.approx([0.5 * 0.5 / 0.75, 0.5 * 0.25 / 0.75], 1e-4)


def test_attraction_by_hand():
    assert attraction(TABLE, ONES, 0) == pytest.approx([0, 0, 1], abs=1e-5)
    assert attraction(TABLE, ONES, 1) == pytest.approx([1, 0, 1], abs=1e-5)
    assert attraction(np.array([[1.0, 0.2], [0.5, 0.8]]), ONES[:2], 0)[1] == pytest.approx(0.8 / 1.0 * 0.6, abs=1e-5)


def test_a_table_of_several_tasks():
    """Each task is worth its weight, however many items it has; what a race left out is what the mean leaves."""
    objectives = [Objective("a", weight=2.0), Objective("b")]
    full = Member((0.0,), (0.5, 0.25), ({0: 1.0, 1: 0.0}, {0: 1.0, 1: 0.0, 2: 0.0, 3: 0.0}))
    short = Member((0.0,), (0.5, 0.5), ({1: 1.0}, {0: 1.0, 2: 1.0}))
    table, weights = score_table([full, short], objectives)
    assert table.tolist() == [[1, 0, 1, 0, 0, 0], [0, 1, 1, 0, 1, 0]]
    assert weights.tolist() == [1.0, 1.0, 0.25, 0.25, 0.25, 0.25]


def test_guessed_items_stay_within_the_scores_that_occur():
    lucky = Member((0.0,), (0.9,), ({0: 0.0},))
    whole = Member((0.0,), (0.5,), ({0: 0.0, 1: 1.0},))
    assert score_table([whole, lucky], goals())[0].tolist() == [[0, 1], [0, 1]]


def test_scores_below_zero_are_moved_up():
    losses = [Member((0.0,), (-1.5,), ({0: -1.0, 1: -2.0},)), Member((0.0,), (-1.0,), ({0: 0.0, 1: -2.0},))]
    assert score_table(losses, goals())[0].tolist() == [[1.0, 0.0], [2.0, 0.0]]


def test_the_roulette_draws_in_proportion():
    rng = np.random.default_rng(0)
    counts = np.bincount([roulette(np.array([0.0, 1.0, 3.0, 0.0]), rng) for _ in range(4000)], minlength=4)
    assert counts[0] == counts[3] == 0
    assert counts[2] / counts[1] == pytest.approx(3.0, rel=0.15)
    assert {roulette(np.zeros(3), rng) for _ in range(50)} == {0, 1, 2}


# ---- children -------------------------------------------------------------------------------------------------------


def test_places():
    def at(group):
        return place(Dimension("x", "weight", "e", group))

    assert [at("layers.3"), at("layers.0-1.mlp")] == [3.0, 0.5]
    assert at("embeddings") == at("projector") == -math.inf
    assert at("norms") == at("head") == math.inf
    assert at("all") is at("layers") is at("other") is at(None) is None


def test_a_split_lies_between_layers():
    """Both experts' values of a layer fall on the same side; every split occurs, and both values are w and 1 - w."""
    places = [place(d) for d in layered(4, 2)]
    splits = set()
    for seed in range(60):
        shares = split_shares(places, np.random.default_rng(seed))
        assert shares[:4] == shares[4:]
        sides = [share == shares[-1] for share in shares[:4]]
        assert sides == sorted(sides)
        assert shares[0] == shares[-1] or shares[0] == pytest.approx(1 - shares[-1])
        splits.add(sides.count(False))
    assert splits == {0, 1, 2, 3}


def test_coordinates_of_the_whole_model_fall_on_either_side():
    sides = {tuple(np.array(split_shares([None, 0.0], np.random.default_rng(s))) > 0.5) for s in range(40)}
    assert len(sides) == 4
    assert len(set(split_shares([None] * 3, np.random.default_rng(1)))) <= 2


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_mix_lies_on_the_great_circle(share):
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=6), rng.normal(size=6)
    a, b = 2 * a / np.linalg.norm(a), 2 * b / np.linalg.norm(b)
    mixed = spherical(a, b, np.full(6, share))
    assert np.linalg.norm(mixed) == pytest.approx(2.0)
    whole, part = np.arccos(a @ b / 4), np.arccos(np.clip(a @ mixed / 4, -1, 1))
    assert part == pytest.approx(share * whole, abs=1e-6)
    assert np.linalg.matrix_rank(np.stack([a, b, mixed]), tol=1e-9) == 2


@pytest.mark.parametrize("b", [[0.0, 0.0], [-1.0, -2.0], [2.0, 4.0]], ids=["zero", "opposite", "parallel"])
def test_vectors_without_an_angle_are_mixed_straight(b):
    assert spherical(np.array([1.0, 2.0]), np.array(b), np.full(2, 0.25)) == pytest.approx(
        0.75 * np.array([1.0, 2.0]) + 0.25 * np.array(b)
    )


def test_both_halves_of_a_child_show_their_parent():
    dimensions = layered(4, 2)
    a, b = [0.4] * 4 + [0.1] * 4, [0.1] * 4 + [0.5] * 4
    shares = [0.0, 0.0, 1.0, 1.0] * 2
    child = cross(dimensions, a, b, shares)
    assert child == pytest.approx([0.4, 0.4, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5])


def test_a_child_of_two_experts_is_longer_than_their_average():
    """Weights that point in different directions are not shrunk, as an average would."""
    dimensions = layered(3, 2)
    one, other = [2 / 3] * 3 + [0.0] * 3, [0.0] * 3 + [2 / 3] * 3
    values = [d.value(u) for d, u in zip(dimensions, cross(dimensions, one, other, [0.5] * 6), strict=True)]
    assert values == pytest.approx([math.sqrt(0.5)] * 6)


def test_each_parameter_has_a_circle_of_its_own_and_keeps_its_bounds():
    dimensions = [*layered(2, 2), Dimension("drop_rate.0", "drop_rate", "0", None, 0.0, 0.9)]
    child = cross(dimensions, (1.0, 1.0, 0.0, 0.0, 0.2), (0.0, 0.0, 1.0, 1.0, 0.6), (0.1, 0.1, 0.1, 0.1, 0.25))
    assert child[4] == pytest.approx(0.3)
    assert max(cross(dimensions, (1.0, 1.0, 0.0, 0.0, 0.2), (1.0, 0.9, 1.0, 1.0, 0.6), (0.5,) * 5)) <= 1.0


def test_choices_are_inherited_and_unknown_parameters_are_the_others():
    dimensions = [
        Dimension("method", "method", choices=("linear", "dare")),
        Dimension("drop_rate", "drop_rate", methods=("dare",)),
    ]
    dare, linear = (0.75, 0.8), (0.25, 0.5)
    assert cross(dimensions, linear, dare, (0.9, 0.1)) == (0.75, 0.8)
    assert cross(dimensions, dare, linear, (0.9, 0.9)) == (0.25, 0.8)
    assert cross(dimensions, dare, linear, (0.2, 0.9)) == (0.75, 0.8)
    assert cross(dimensions, dare, (0.75, 0.4), (0.2, 0.5))[1] == pytest.approx(0.6)


def test_mutations_stay_in_the_cube():
    rng = np.random.default_rng(0)
    dimensions = box(3, ("a", "b"))
    moved = [mutate(dimensions, (0.25, 0.01, 0.5, 0.99), 0.3, rng) for _ in range(200)]
    assert np.min(moved) >= 0.0
    assert np.max(moved) <= 1.0
    assert np.std(moved, axis=0)[2] == pytest.approx(0.3, rel=0.3)
    assert {m[0] < 0.5 for m in moved} == {True, False}


# ---- the archive ----------------------------------------------------------------------------------------------------


def specialists(alpha):
    """Five generalists solve the same ten items; two specialists solve four or five items of their own."""
    optimizer = M2N2(Problem(box(3), goals(), seed=0, first_number=100), population=4, alpha=alpha)
    easy, one, other = [1.0] * 10 + [0.0] * 9, [0.0] * 10 + [1.0] * 4 + [0.0] * 5, [0.0] * 14 + [1.0] * 5
    tables = {0: one, 1: other, **dict.fromkeys(range(2, 7), easy)}
    for number, table in tables.items():
        optimizer.tell(Proposal(number, (number / 10,) * 3), scored(table))
    return {member.vector[0] for member in optimizer._archive}


def test_specialists_survive_where_there_is_competition():
    assert {0.0, 0.1} < specialists(alpha=1.0)
    assert not {0.0, 0.1} & specialists(alpha=0.0)


def test_members_below_a_floor_go_first():
    objectives = [Objective("a", 0.0, 1.0), Objective("b", 0.0, 1.0, floor=0.5)]
    optimizer = M2N2(Problem(box(2), objectives, seed=0, first_number=9), population=2)
    tables = [([1.0, 1.0], [0.0, 0.0]), ([0.0, 0.0], [1.0, 0.0]), ([0.0, 0.0], [1.0, 1.0])]
    for number, pair in enumerate(tables):
        optimizer.tell(Proposal(number, (number / 10,) * 2), scored(*pair))
    assert [member.vector[0] for member in optimizer._archive] == [0.1, 0.2]


def test_it_begins_with_the_starting_points_and_fills_the_space():
    """Three are told, two more are spread out, the next is a child, though none of the two is told yet."""
    optimizer = M2N2(Problem(layered(), goals(), seed=1, first_number=3), population=5)
    ends = (0.2,) * 4 + (0.0,) * 4, (0.0,) * 4 + (0.2,) * 4
    for number, vector in enumerate([*ends, (0.0,) * 8]):
        table = [float(number == i) for i in range(3)]
        optimizer.tell(Proposal(number, vector), Failure("nan", "") if number == 2 else scored(table))
    points = [p.vector for p in optimizer.ask(6)]
    assert all(max(p) > 0.2 * math.sqrt(2) for p in points[:2])
    assert all(max(p) <= 0.2 * math.sqrt(2) + 1e-12 for p in points[2:])
    assert len(set(points)) == 6


def test_equal_parents_have_a_mutated_child():
    optimizer = M2N2(Problem(box(3), goals(), seed=0, first_number=2), population=2)
    for number in range(2):
        optimizer.tell(Proposal(number, (0.5,) * 3), scored([1.0, 0.0]))
    (child,) = optimizer.ask(1)
    assert 0.01 <= max(abs(u - 0.5) for u in child.vector) < 0.5


def test_it_combines_what_two_experts_can():
    """Items of expert e need its weight in one half of the layers: crossing at a layer finds both."""
    dimensions = layered(6, 2)
    needs = np.linspace(0.2, 0.9, 20)

    def solve(vector):
        w = 1.5 * np.array(vector).reshape(2, 6)
        skills = w[0, :3].mean() - 0.5 * w[1, :3].mean(), w[1, 3:].mean() - 0.5 * w[0, 3:].mean()
        return scored(*[(skill > needs).astype(float).tolist() for skill in skills])

    gains = []
    for seed in range(3):
        optimizer = M2N2(Problem(dimensions, goals(2), seed=seed, first_number=3))
        best = 0.0
        for number, vector in enumerate([(0.0,) * 12, (2 / 3,) * 6 + (0.0,) * 6, (0.0,) * 6 + (2 / 3,) * 6]):
            optimizer.tell(Proposal(number, vector), solve(vector))
            best = max(best, sum(solve(vector).values))
        for _ in range(80):
            (p,) = optimizer.ask(1)
            optimizer.tell(p, solve(p.vector))
        gains.append(max(sum(member.means) for member in optimizer._archive) - best)
    assert np.median(gains) > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 1}, "population: 1 must be a whole number >= 2"),
        ({"population": 2.5}, "population: 2.5"),
        ({"alpha": -1}, "alpha: -1 must be a number >= 0"),
        ({"alpha": "1"}, "alpha: '1'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UsageError, match=message):
        M2N2(Problem(box(2), goals(), seed=0), **options)


def test_a_budget_below_the_archive_is_told():
    assert (
        M2N2(Problem(box(2), goals(), seed=0)).describe(21)
        == M2N2(Problem(box(2), goals(), seed=0)).describe(None)
        == []
    )
    assert "not filled by 20 candidates" in M2N2(Problem(box(2), goals(), seed=0)).describe(20)[0]


def test_scores_of_items_are_needed():
    optimizer = M2N2(Problem(box(2), goals(), seed=0, first_number=1))
    with pytest.raises(ValueError, match="needs the scores of single items"):
        optimizer.tell(Proposal(0, (0.5, 0.5)), Result((0.5,), (0.1,), (4,)))
