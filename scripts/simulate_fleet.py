"""Does a search keep a fleet busy? The real loop, ledger, record and optimizers on workers in simulated time.

    python scripts/simulate_fleet.py --json FILE                   # 1,000 workers, 100,000 candidates: an hour
    python scripts/simulate_fleet.py --quick                       # a minute: 50 workers, 300 candidates
    python scripts/simulate_fleet.py --optimizers tpe --candidates 2000 --dimensions 20 200

A worker takes 60 s for a candidate, give or take; some are taken away in the middle and come back. What the driver (the
process of the search) takes is real: the simulated clock runs on while it thinks, so that workers wait for it as they
would in truth (`evomerge/search/workers/simulated.py`). For each optimizer and number of dimensions: the share of the
workers' time that they wait while there is work, the driver's seconds a candidate and where they go, what an ask takes,
memory and ledger at ten points of the way. Then the driver is killed with all workers busy, and a fresh process opens
the ledger and goes on: the time until it gives out the first job, with its snapshot and without.

Times are of this machine; `--clock cpu` counts the driver's processor seconds and its waits for the disk (`fsync`), for
a machine that others use too.
"""

import argparse
import gc
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from evomerge.config import conf_dir
from evomerge.evaluation.types import Outcome
from evomerge.optimizers.base import Failure, Optimizer
from evomerge.recipes import Layout, SearchSpace
from evomerge.reporting.tables import print_table
from evomerge.search.baselines import baselines
from evomerge.search.config import SearchConfig
from evomerge.search.directory import RunDirectory
from evomerge.search.ledger import Ledger
from evomerge.search.loop import Search, Stage
from evomerge.search.mirror import Mirror
from evomerge.search.observers import Observers
from evomerge.search.record import Record
from evomerge.search.snapshot import Snapshots
from evomerge.search.watch import Follower, LogFile, Outline, StatusFile, Terminal, Workbench
from evomerge.search.workers.base import Job, Scored
from evomerge.search.workers.simulated import SimulatedPool, Weather

TASKS = ("maths", "code")
POINTS = 10
SPLITS = ("search", "selection", "report")


@dataclass(frozen=True)
class Scenario:
    """One simulation."""

    optimizer: str
    dimensions: int
    workers: int
    candidates: int
    items: int
    weather: Weather
    failing: float
    clock: str
    observers: bool
    racing: bool = False
    seed: int = 0


@dataclass
class Watch:
    """Seconds by what they went into, how many asks there were and what each took."""

    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)
    asks: list[float] = field(default_factory=list)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count the time inside."""
        begun = self.clock()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + self.clock() - begun


class Busy:
    """The driver's seconds: those of its processor, and those that it waits for the disk, as `os.fsync` does."""

    def __init__(self) -> None:
        self.disk, self._fsync = 0.0, os.fsync
        os.fsync = self._timed  # type: ignore[assignment]

    def __call__(self) -> float:
        """Return the seconds so far."""
        return time.process_time() + self.disk

    def _timed(self, file: int) -> None:
        wall, busy = time.perf_counter(), time.process_time()
        self._fsync(file)
        self.disk += max(0.0, time.perf_counter() - wall - (time.process_time() - busy))


class KilledError(Exception):
    """The driver is no more."""


class MortalPool(Workbench):
    """Workers whose driver is told to end while it waits for results, as a preempted job is."""

    ends = False

    def poll(self, timeout: float | None = None) -> list[tuple[Job, Scored | Failure]]:
        """Wait for results."""
        if self.ends:
            raise KilledError
        return super().poll(timeout)


class TimedLedger(Ledger):
    """A ledger with a stop-watch."""

    watch: Watch

    def append(self, event: dict[str, Any]) -> None:
        """Write one event."""
        with self.watch.on("ledger"):
            super().append(event)

    def sync(self) -> None:
        """Wait for the disk."""
        with self.watch.on("sync"):
            super().sync()


class TimedSearch(Search):
    """A search with a stop-watch at its optimizer."""

    timer: Watch

    def _optimizer(self, stage: int) -> Optimizer:
        optimizer, timer = super()._optimizer(stage), self.timer
        ask, tell = optimizer.ask, optimizer.tell

        def timed_ask(n: int = 1) -> Any:
            before = timer.seconds.get("ask", 0.0)
            with timer.on("ask"):
                found = ask(n)
            timer.asks.append(timer.seconds["ask"] - before)
            return found

        def timed_tell(*arguments: Any) -> None:
            with timer.on("tell"):
                tell(*arguments)

        vars(optimizer).update(ask=timed_ask, tell=timed_tell)
        return optimizer


class Landscape:
    """Answers by a formula: each task has an optimum somewhere in the space, and items of every difficulty."""

    def __init__(self, space: SearchSpace, scenario: Scenario) -> None:
        rng = np.random.default_rng(scenario.seed)
        self._space, self._failing = space, scenario.failing
        self._best = rng.random((len(TASKS), len(space)))
        self._hard = rng.random((len(TASKS), scenario.items))
        self._text = " ".join(f"Step {i}: there are {i * 7 % 31} of {chr(97 + i)}." for i in range(12))

    def __call__(self, job: Job) -> Scored | Failure:
        """Return what a worker would have found."""
        vector = self._space.vector(job.recipe)
        at = np.full(len(self._space), 0.5 if job.recipe.parameters else 0.0) if vector is None else np.array(vector)
        if job.split == "search" and int(job.recipe.hash, 16) % 10_000 < 10_000 * self._failing and vector is not None:
            return Failure("error", "made to fail")
        outcomes = {}
        for (task, ids), best, hard in zip(job.items.items(), self._best, self._hard, strict=True):
            right = 0.2 + 0.6 * np.exp(-4.0 * float(np.mean((at - best) ** 2)))
            outcomes[task] = [
                Outcome(task, item, float(hard[int(item.split(":")[1])] < right), 60, False, self._text, "0" * 16)
                for item in ids
            ]
        return Scored(job.recipe.hash, outcomes, 60.0)


def space_of(dimensions: int) -> SearchSpace:
    """Return a space of two experts' weights, layer by layer."""
    names = ("self_attn.q_proj", "mlp.up_proj")
    layers = [f"model.layers.{i}.{name}.weight" for i in range(dimensions // 2) for name in names]
    return SearchSpace(
        base="base",
        experts={"one": "one", "two": "two"},
        layout=Layout.of(layers),
        config={
            "methods": ["task_arithmetic"],
            "granularity": "layer",
            "own": [],
            "parameters": {"weight": {"low": 0.0, "high": 1.5}},
        },
        method_parameters={"task_arithmetic": {"weight": None}},
    )


def configuration(scenario: Scenario) -> SearchConfig:
    """Return the configuration of a search, its budget being all candidates of the simulation."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        data = OmegaConf.to_container(compose("config", ["space=global"]), resolve=True)
    assert isinstance(data, dict)
    return SearchConfig.from_dict(
        {str(key): value for key, value in data.items()}
        | {
            "tasks": {task: {} for task in TASKS},
            "seed": scenario.seed,
            "baselines": {"grid": [0.4, 0.8], "untuned": [], "random": 0},
            "budget": {"candidates": scenario.candidates, "items": None, "seconds": None},
            "optimizer": {"name": scenario.optimizer, "scalarization": "weighted_sum", "options": {}},
            "racing": {**data["racing"], "enabled": scenario.racing},
        }
    )


def memory() -> float:
    """Return the megabytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def simulate(scenario: Scenario, run: Path, until: int | None) -> dict[str, Any]:
    """Run or resume one search until so many candidates were asked for (None: to its end); return the figures."""
    clock = Busy() if scenario.clock == "cpu" else time.perf_counter
    begun, before = clock(), memory()
    timer, config, directory = Watch(clock), configuration(scenario), RunDirectory(run)
    run.mkdir(parents=True, exist_ok=True)
    space = space_of(scenario.dimensions)
    items = {s: {task: tuple(f"{s}:{i}" for i in range(scenario.items)) for task in TASKS} for s in SPLITS}
    fleet = SimulatedPool(
        Landscape(space, scenario),
        weather=scenario.weather,
        seed=scenario.seed,
        clock=clock,
        items=scenario.items * len(TASKS),
    )
    pool = MortalPool(fleet)
    TimedLedger.watch = timer
    starting = baselines(space, config.baselines)
    prepared = clock() - begun
    first: dict[str, float] = {}
    trace: list[dict[str, float]] = []
    with closing(TimedLedger(directory.ledger)) as ledger:
        opened = clock() - begun
        known = Record.of(ledger.events())
        old, read = len(known.trials), clock() - begun
        pool.start(lambda device, say: None, [f"w{i}" for i in range(scenario.workers)], print)  # type: ignore[arg-type]

        def watch(record: Record) -> None:
            if observers is not None:
                with timer.on("watch"):
                    observers(record)
            asked, told = len(record.trials), len(record.order)
            if "asked" not in first and asked > max(old, len(starting)):
                fleet.begin()
                first.update(asked=asked, simulated=fleet.now, driver=fleet.driver)
                first["ready"] = clock() - begun
            step = max(1, (until or scenario.candidates) // POINTS)
            if asked >= (len(trace) + 1) * step + len(starting):
                size = directory.ledger.stat().st_size / 1e6
                row = {"candidates": asked - len(starting), "ledger": size, "memory": memory(), "driver": fleet.driver}
                trace.append({**row, "simulated": fleet.now, "idle": fleet.counts.idle, "events": told})
            pool.ends = until is not None and asked - len(starting) >= until

        with watched(scenario, config, directory, pool, len(starting), fleet.time) as observers:
            search = TimedSearch(
                config,
                stages=[Stage(space, 1.0)],
                baselines=starting,
                items=items,  # type: ignore[arg-type]
                facts={"items": scenario.items},
                pool=pool,
                ledger=ledger,
                record=known,
                watch=watch,
            )
            search.timer, search.snapshots = timer, Snapshots(ledger, clock=fleet.time)
            try:
                record = search.run()
            except KilledError:
                record = search.record
    asked = len(record.trials) - int(first["asked"]) + 1
    simulated = trace[-1]["simulated"] - first["simulated"]
    driver = trace[-1]["driver"] - first["driver"]
    asks = sorted(timer.asks) or [0.0]
    return {
        **asdict(scenario),
        "asked": asked,
        "idle_share": trace[-1]["idle"] / (simulated * scenario.workers),
        "driver_share": driver / simulated,
        "driver_seconds": driver / asked,
        "seconds": {what: seconds / asked for what, seconds in timer.seconds.items()},
        "ask": {"mean": statistics.fmean(asks), "p50": asks[len(asks) // 2], "p99": asks[int(len(asks) * 0.99)]}
        | {"max": asks[-1], "last": statistics.fmean(timer.asks[-max(1, len(asks) // 20) :])},
        "resume": {"open": opened - prepared, "record": read - opened, "ready": first["ready"] - prepared},
        "memory_before": before,
        "trace": trace,
        "counts": asdict(fleet.counts),
        "best": max(t.scores["search"][TASKS[0]].mean for t in record.candidates),
        "next": [list(t.vector or ()) for t in record.of_kind("candidate")[-asked:][:3]],
    }


@contextmanager
def watched(
    scenario: Scenario,
    config: SearchConfig,
    directory: RunDirectory,
    pool: Workbench,
    count: int,
    clock: Callable[[], float],
) -> Iterator[Observers | None]:
    """Have the search watched by all that watch a real one."""
    if not scenario.observers:
        yield None
        return
    follower = Follower(
        Outline(
            name="fleet",
            optimizer=scenario.optimizer,
            seed=scenario.seed,
            baselines=count,
            budget=config.budget,
            selection=config.selection,
            items=dict.fromkeys(SPLITS, scenario.items * len(TASKS)),  # type: ignore[arg-type]
            report=False,
        ),
        clock=clock,
    )
    with Path(os.devnull).open("w") as nowhere, StatusFile(directory.status, follower, pool.now) as status:
        mirror = Mirror(directory.mirror, name="fleet", stages=[space_of(scenario.dimensions).dimensions])
        terminal, log = Terminal(follower, pool.now, nowhere), LogFile(directory.log, follower)
        yield Observers(terminal, [log, status, mirror], say=lambda line: print(line, file=sys.stderr))


def apart(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Call a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(scenario: Scenario, folder: Path) -> dict[str, Any]:
    """Run a scenario, kill its driver with all workers busy, and go on from there: with a snapshot, and without."""
    run = folder / f"{scenario.optimizer}-{scenario.dimensions}"
    shutil.rmtree(run, ignore_errors=True)
    found = apart(simulate, scenario, run, scenario.candidates)
    more = Scenario(**{**vars(scenario), "candidates": scenario.candidates + 100})
    for name in ("with", "without"):
        copy = run.with_name(run.name + f"-{name}")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        if name == "without":
            RunDirectory(copy).snapshot.unlink(missing_ok=True)
        again = apart(simulate, more, copy, scenario.candidates + 100)
        found[f"resume_{name}"] = {**again["resume"], "memory": again["trace"][-1]["memory"], "next": again["next"]}
        shutil.rmtree(copy)
    found["resumes_agree"] = found["resume_with"]["next"] == found["resume_without"]["next"]
    shutil.rmtree(run)
    return found


def main() -> None:
    """Simulate all that was asked for, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", nargs="+", default=["random", "cmaes", "map"])
    parser.add_argument("--dimensions", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100, help="of each of two tasks")
    parser.add_argument("--seconds", type=float, default=60.0, help="median time of a candidate")
    parser.add_argument("--preempted", type=float, default=3600.0, help="mean seconds until a worker is; 0: never")
    parser.add_argument("--failing", type=float, default=0.002, help="share of the candidates")
    parser.add_argument("--racing", action="store_true", help="stop candidates that are clearly worse than the best")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--no-observers", action="store_true", help="without terminal, log, status file and mirror")
    parser.add_argument("--out", type=Path, help="folder for the runs; default: a temporary one")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.quick:
        options.workers, options.candidates, options.dimensions = 50, 300, options.dimensions[:1]
    weather = Weather(seconds=options.seconds, preempted=options.preempted)
    folder = options.out or Path(tempfile.mkdtemp(prefix="fleet-"))
    rows = []
    for dimensions in options.dimensions:
        for optimizer in options.optimizers:
            scenario = Scenario(
                optimizer,
                dimensions,
                options.workers,
                options.candidates,
                options.items,
                weather,
                options.failing,
                options.clock,
                not options.no_observers,
                options.racing,
            )
            rows.append(measure(scenario, folder))
            print(f"{optimizer}, {dimensions} dimensions: done", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps({"command": sys.argv, "rows": rows}, indent=1) + "\n")
            gc.collect()
    if options.out is None:
        shutil.rmtree(folder)
    print_rows(rows)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print the figures as three tables."""
    name = [f"{row['optimizer']} {row['dimensions']}" for row in rows]
    parts = ("ask", "tell", "ledger", "sync", "watch")
    print_table(
        [
            "optimizer, dimensions",
            "idle %",
            "driver busy %",
            "driver ms a candidate",
            *(f"{part} ms" for part in parts),
        ],
        [
            [
                label,
                f"{100 * row['idle_share']:.2f}",
                f"{100 * row['driver_share']:.1f}",
                f"{1000 * row['driver_seconds']:.2f}",
                *(f"{1000 * row['seconds'].get(part, 0.0):.2f}" for part in parts),
            ]
            for label, row in zip(name, rows, strict=True)
        ],
    )
    kinds = ("p50", "p99", "max", "last")
    print_table(
        ["optimizer, dimensions", *(f"ask {kind} ms" for kind in kinds), "lost", "failed", "best"],
        [
            [
                label,
                *(f"{1000 * row['ask'][kind]:.2f}" for kind in kinds),
                *(str(row["counts"][what]) for what in ("lost", "failed")),
                f"{row['best']:.2f}",
            ]
            for label, row in zip(name, rows, strict=True)
        ],
    )
    print_table(
        [
            "optimizer, dimensions",
            "ledger MB half way, end",
            "memory MB half way, end",
            "ready s with",
            "without",
            "same",
        ],
        [
            [
                label,
                *(
                    f"{row['trace'][POINTS // 2 - 1][what]:.0f}, {row['trace'][-1][what]:.0f}"
                    for what in ("ledger", "memory")
                ),
                *(f"{row[which]['ready']:.1f}" for which in ("resume_with", "resume_without")),
                "yes" if row["resumes_agree"] else "NO",
            ]
            for label, row in zip(name, rows, strict=True)
        ],
    )


if __name__ == "__main__":
    main()
