"""The panel as text: what it says, at every width, and that it reads nobody's names as markup."""

import io

import pytest
from rich.console import Console

from evomerge.search.watch import Activity, Snapshot
from evomerge.search.watch.pace import Range
from evomerge.search.watch.panel import panel
from evomerge.search.watch.standing import Row, Standing
from tests.search.watch.demo import outline


def row(number, kind, name, joined, **tasks):
    return Row(number, name, kind, tasks or {"a": 0.5, "b": 12.0}, joined, 0.11)


STANDING = Standing(
    split="search",
    shares={"a": True, "b": False},
    baselines=(
        row(0, "base", "base", 0.0, a=0.203, b=-31.5),
        *(row(i, "expert", f"expert{i}", 0.1 * i) for i in range(1, 9)),
        row(9, "uniform", "arithmetic 0.5", 0.71),
    ),
    best=row(41, "candidate", "candidate 41", 0.93, a=0.615, b=-20.25),
    front=7,
)
SNAPSHOT = Snapshot(
    phase="search",
    done=42,
    planned=120,
    scored=4200,
    ahead=7800.0,
    failures={"memory": 1, "candidate": 2},
    standing=STANDING,
    left=Range(200.0, 245.0, 330.0),
    taken=1000.0,
)
WORKERS = [Activity("cuda:0", 42, "search", 192, 998.0), Activity("cuda:1", None, None, 0, 1000.0)]


def drawn(snapshot=SNAPSHOT, workers=WORKERS, *, width=100, height=40, now=1005.0, **keys):
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, highlight=False, markup=False, **keys)
    console.print(panel(outline(), snapshot, workers, now=now, started=900.0, width=width, height=height))
    return out.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        "demo  cmaes  seed 0",
        "searching · 42 of 120 models · 1:45 so far · 4:00 left (3:15 to 5:25)",
        "* candidate 41",
        "61.5",
        "-20.25",
        "0.93 ± 0.11",
        "arithmetic 0.5",
        "front: 7 candidates",
        "failures: 3 (2 candidate, 1 memory); log.txt says why",
        "cuda:0: model 42 on 192 search items, 0:07",
        "cuda:1: waits, 0:05",
    ],
)
def test_it_says(words):
    assert words in drawn()


def test_a_search_that_has_only_begun():
    begun = Snapshot("baselines", 0, None, 0, None, {}, None, None, 1000.0)
    text = drawn(begun, [])
    assert "scoring baselines · 0 models" in text
    assert "failures: none" in text


@pytest.mark.parametrize("width", [20, 30, 40, 50, 59, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_the_best_is_always_there(width):
    lines = drawn(width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("* cand" in line for line in lines)
    assert any("0.93" in line for line in lines)


@pytest.mark.parametrize("height", [10, 24, 40])
def test_it_fits_the_height(height):
    lines = drawn(height=height, workers=WORKERS[:1]).splitlines()
    assert len(lines) <= max(height, 13)
    assert any("* candidate 41" in line for line in lines)
    assert any("base" in line for line in lines)


def test_many_tasks_leave_only_the_joined_score():
    many = Standing("search", {f"t{i}": True for i in range(9)}, (), row(1, "candidate", "c", 0.5), 1)
    text = drawn(Snapshot("search", 3, 9, 1, 2, {}, many, None, 0.0))
    assert "t0" not in text
    assert "0.50" in text


def test_names_are_not_markup():
    odd = Standing(
        "search", {"[red]a[/red]": True}, (), row(1, "candidate", "[bold]x[/nope]", 0.5, **{"[red]a[/red]": 1.0}), 1
    )
    text = drawn(Snapshot("search", 3, 9, 1, 2, {}, odd, None, 0.0))
    assert "[bold]x[/nope]" in text
    assert "[red]a[/red]" in text


def test_without_colour_the_bar_still_shows_how_far():
    [line] = [line for line in drawn().splitlines() if "━" in line]
    assert (line.count("━"), line.count("┄")) == (32, 60)


def test_of_many_workers_those_that_score_for_longest():
    many = [Activity(f"w{i}", 100 + i if i % 10 else None, "search", 8, 900.0 + i * 7 % 50) for i in range(50)]
    shown = drawn(workers=many)
    assert "50 workers: 45 score, 5 wait; longest at it:" in shown
    assert [line.split()[1] for line in shown.splitlines() if "items, " in line] == ["w43:", "w36:", "w29:"]
