"""A plan for the terminal. This file knows nothing about how the numbers came about."""

from collections.abc import Mapping

from evomerge.reporting.tables import print_table
from evomerge.search.plan.measured import rates
from evomerge.search.plan.needs import Need
from evomerge.search.plan.result import Plan
from evomerge.search.plan.total import known
from evomerge.search.plan.verdict import gigabytes
from evomerge.search.plan.work import Range


def print_plan(plan: Plan) -> None:
    """Print a plan."""
    spaces = " then ".join(str(count) for count in plan.dimensions)
    print(f"models: {plan.parameters / 1e6:,.1f} M parameters each, {gigabytes(plan.weight_bytes)} of weights in all")
    print(f"space: {spaces} dimensions")
    print_table(
        ["work", "split", "models", "items each"],
        [[step.phase, step.split, _count(step.models), _items(step.items)] for step in plan.steps],
    )
    print_memory("main memory", plan.host)
    if plan.device is not None:
        print_memory("GPU memory", plan.device)
    print_table(
        ["disk", "bytes"],
        [
            ["outcomes, until they are compacted", gigabytes(plan.disk.outcomes)],
            ["ledger", gigabytes(plan.disk.ledger)],
            ["pages and tables", gigabytes(plan.disk.pages)],
            ["an exported model", gigabytes(plan.disk.export)],
        ],
    )
    print_times(plan)
    for finding in plan.findings:
        word = {True: "fits", False: "DOES NOT FIT", None: "unknown"}[finding.fits]
        print(f"{finding.what}: {word}: {finding.text}")
    for note in plan.notes:
        print(f"note: {note}")
    print("go" if plan.go else "no go")


def print_memory(title: str, need: Need) -> None:
    """Print what a kind of memory is for, with weights resident and streamed."""
    rows = []
    for kind, word in (("lasting", ""), ("passing", " (for a while)")):
        resident, streamed = getattr(need.resident, kind), getattr(need.streamed, kind)
        for name in dict.fromkeys([*resident, *streamed]):
            sizes = [gigabytes(parts[name]) if parts.get(name) else "-" for parts in (resident, streamed)]
            rows.append([name + word, *sizes])
    rows.append(["most at a time", gigabytes(need.resident.peak), gigabytes(need.streamed.peak)])
    print_table([title, "weights resident", "streamed"], rows)
    how = "measured" if need.measured else "reckoned"
    print(f"{title}: weights {need.chosen}, {gigabytes(need.peak)} at the peak ({how})")


def print_times(plan: Plan) -> None:
    """Print seconds per merge and score, and the whole search by optimizer and racing."""
    if plan.measured is None:
        print("time: nothing was measured")
        return
    items = next(known(step.items) for step in plan.steps if step.phase == "candidates")
    merge, score = plan.measured.merge, plan.measured.score(items)
    print_table(
        ["one candidate", "seconds", "processor seconds"],
        [
            ["merge", f"{merge.seconds:.2f}", f"{merge.cpu:.2f}"],
            ["score on the search split", f"{score.seconds:.2f}", f"{score.cpu:.2f}"],
        ],
    )
    lines = {task: rates(points) for task, points in plan.measured.scoring.items()}
    print_table(
        ["scoring", "seconds a call", "an item", "a token", "tokens an item"],
        [
            [
                task,
                f"{line.fixed.seconds:.2f}",
                f"{line.item.seconds:.3f}",
                f"{line.token.seconds:.5f}",
                f"{line.tokens:.0f}",
            ]
            for task, line in lines.items()
        ],
    )
    rows = []
    for one in plan.totals:
        likely = {phase.name: phase.seconds.likely for phase in one.phases}
        rows.append(
            [
                one.optimizer,
                "on" if one.racing else "off",
                *(clock(likely[name]) for name in likely),
                clock(one.seconds.likely),
                f"{clock(one.seconds.low)} to {clock(one.seconds.high)}",
                clock(one.cpu),
            ]
        )
    phases = [phase.name for phase in plan.totals[0].phases]
    header = ["search by", "racing", *(phases[:-1]), "its own time", "total", "range", "processors"]
    print_table(header, rows, left=["racing"])


def clock(seconds: float) -> str:
    """Write seconds as `12.3 s`, `4 min 05 s`, `3 h 20 min` or `2.5 days`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{seconds / 86400:.1f} days"


def _count(models: Range) -> str:
    if models.low == models.high:
        return f"{models.likely:g}"
    return f"{models.low:g} to {models.high:g}"


def _items(items: Mapping[str, int | None]) -> str:
    return ", ".join(f"{task} {'all' if count is None else count}" for task, count in items.items())
