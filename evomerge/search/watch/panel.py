"""The live panel as something that rich can draw: a pure function of a snapshot, the workers and the width.

Names come from users: they are drawn as they are, never read as markup. Nothing is said by colour alone.
"""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from evomerge.search.watch.activity import Activity, longest
from evomerge.search.watch.follow import Outline, Snapshot
from evomerge.search.watch.pace import clock_text, range_text
from evomerge.search.watch.standing import Row, Standing

#: Below these widths and heights (in characters) there is no frame, and no column for each task; fewer baselines.
FRAME, COLUMNS, ROWS = 60, 50, 16
#: The panel is never wider.
WIDEST = 110
#: With more tasks than this only the joined score is shown.
TASKS = 6
#: Of more workers than this only a few are shown, those that score for longest.
WORKERS, FEW = 8, 3

PHASES = {"baselines": "scoring baselines", "search": "searching", "selection": "selection split", "report": "report"}


def panel(
    outline: Outline,
    shown: Snapshot,
    workers: Sequence[Activity],
    *,
    now: float,
    started: float,
    width: int,
    height: int,
) -> RenderableType:
    """Return the panel at the time `now` (the follower's clock), for a terminal of some width and height."""
    parts: list[RenderableType] = [_head(shown, now - started, now - shown.taken, width)]
    if shown.standing is not None:
        parts += [_table(shown.standing, width, height), _front(shown.standing, width)]
    parts.append(_failures(shown))
    if len(workers) > WORKERS:
        waiting = sum(activity.number is None for activity in workers)
        parts.append(Text(f"{len(workers)} workers: {len(workers) - waiting} score, {waiting} wait; longest at it:"))
        workers = longest(workers, FEW)
    parts += [_worker(activity, now) for activity in workers]
    body = Group(*parts)
    if width < FRAME:
        return body
    title = Text(f" {outline.name}  {outline.optimizer}  seed {outline.seed} ")
    return Panel(body, title=title, title_align="left", box=box.ROUNDED, width=_frame(width))


def _head(shown: Snapshot, passed: float, since: float, width: int) -> RenderableType:
    planned = "" if shown.planned is None else f" of {shown.planned}"
    words = [PHASES[shown.phase], f"{shown.done}{planned} models", f"{clock_text(passed)} so far"]
    if shown.left is not None:
        words.append(range_text(shown.left.after(since)))
    text = Text(" · ".join(words), overflow="fold")
    if shown.ahead is None:
        return text
    share = shown.scored / (shown.scored + shown.ahead) if shown.ahead else 1.0
    return Group(text, _bar(share, max(_frame(width) - 6, 10)))


def _frame(width: int) -> int:
    """Return the width of the panel: at its end there is room for the ^C that a terminal writes where one is typed."""
    return min(width - 2, WIDEST)


def _bar(share: float, width: int) -> Text:
    """Return a bar whose two parts differ without colour too."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return Text.assemble(("━" * full, "green"), ("┄" * (width - full), "dim"))


def _table(standing: Standing, width: int, height: int) -> Table:
    tasks = list(standing.shares) if width >= COLUMNS and len(standing.shares) <= TASKS else []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(f"{standing.split} split", no_wrap=True, overflow="ellipsis")
    for task in tasks:
        table.add_column(Text(task), justify="right", no_wrap=True, overflow="ellipsis")
    table.add_column("mean normalised", justify="right", no_wrap=True)
    for row in _rows(standing, height):
        best = row is standing.best
        name = Text(f"* {row.name}" if best else f"  {row.name}", style="bold" if best else "")
        scores = [f"{100 * row.tasks[t]:.1f}" if standing.shares[t] else f"{row.tasks[t]:.4g}" for t in tasks]
        joined = f"{row.joined:.2f}" + ("" if row.error is None else f" ± {row.error:.2f}")
        table.add_row(name, *(Text(score) for score in scores), Text(joined, style="bold" if best else ""))
    return table


def _rows(standing: Standing, height: int) -> list[Row]:
    """Return the rows that there is room for: all, or the best of each kind (base and best candidate at least)."""
    rows = list(standing.baselines)
    if len(rows) > max(height - ROWS + 6, 3):
        ranked = sorted(rows, key=lambda row: -row.joined)
        first = {row.kind: row for row in reversed(ranked)}
        rows = [row for row in rows if row in first.values()][: max(height - ROWS + 6, 3)]
    return rows + ([] if standing.best is None else [standing.best])


def _front(standing: Standing, width: int) -> Text:
    count = f"{standing.front} candidate{'s' if standing.front > 1 else ''}" if standing.front else "no candidate yet"
    text = f"front: {count}"
    return Text(f"{text} · mean normalised: 0 is the base, 1 the best experts" if width >= FRAME else text)


def _failures(shown: Snapshot) -> Text:
    if not shown.failures:
        return Text("failures: none")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(shown.failures.items()))
    return Text(f"failures: {sum(shown.failures.values())} ({kinds}); log.txt says why", style="bold")


def _worker(activity: Activity, now: float) -> Text:
    passed = clock_text(max(now - activity.since, 0.0))
    if activity.number is None:
        return Text(f"{activity.worker}: waits, {passed}")
    return Text(f"{activity.worker}: model {activity.number} on {activity.items} {activity.split} items, {passed}")
