"""What does it cost to keep every outcome? The store against sqlite, against loading all JSON, and against the disk.

    python scripts/bench_store.py --out runs/bench-store --json FILE      # 2 million rows of 5,000 models, minutes
    python scripts/bench_store.py --quick --out DIR                      # 100,000 rows of 250 models

Writes the same rows into each, in blocks that are each synced, then opens each in a process of its own and gets
outcomes from it. All files are in the page cache by then. sqlite is given a table clustered by the model's key, a
write-ahead log and full syncing. The folder is removed at the end. Knows nothing about models.
"""

import argparse
import json
import os
import platform
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from evomerge.evaluation import Outcome, OutcomeStore
from evomerge.reporting.tables import print_table

ITEMS = 400  # rows of a model
BLOCK = 16  # rows of a block, where the rate of adding is measured
ANSWER_WORDS = 50
KINDS = ("store, segments", "store, tables", "sqlite", "all JSON loaded")
COLUMNS = ["key", "generation", "scoring", *(field.name for field in fields(Outcome))]
PLACE = ["key", "generation", "scoring", "task", "item", "prompt_hash"]
Place = tuple[str, str, str, str, str, str]


class Rival(Protocol):
    """What is measured."""

    def get(self, key: str, generation: str, scoring: str, task: str, item: str, prompt_hash: str) -> Outcome | None:
        """Return an outcome."""


class Sqlite:
    """The same rows in a database."""

    def __init__(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.connection = sqlite3.connect(path / "rows.db", isolation_level=None)
        self.connection.execute("pragma journal_mode=wal")
        self.connection.execute("pragma synchronous=full")
        self.connection.execute(
            f"create table if not exists rows ({', '.join(COLUMNS)}, primary key ({', '.join(PLACE)})) without rowid"
        )

    def add(self, key: str, generation: str, scoring: str, outcomes: list[Outcome]) -> None:
        """Add a block in one transaction."""
        rows = [
            (key, generation, scoring, *(getattr(outcome, column) for column in COLUMNS[3:])) for outcome in outcomes
        ]
        self.connection.execute("begin")
        self.connection.executemany(f"insert into rows values ({','.join('?' * len(COLUMNS))})", rows)
        self.connection.execute("commit")

    def get(self, *place: str) -> Outcome | None:
        """Return an outcome."""
        row = self.connection.execute(
            f"select {', '.join(COLUMNS[3:])} from rows where {' and '.join(f'{name}=?' for name in PLACE)}", place
        ).fetchone()
        return row and Outcome(*row)


class Loaded:
    """All lines parsed at once, as simple programs do it."""

    def __init__(self, path: Path) -> None:
        self.rows: dict[tuple[str, ...], Outcome] = {}
        for file in path.glob("*.jsonl"):
            with file.open() as lines:
                next(lines)
                for line in lines:
                    block = json.loads(line)
                    head = block["key"], block["generation"], block["scoring"]
                    for row in block["outcomes"]:
                        outcome = Outcome(**row)
                        self.rows[(*head, outcome.task, outcome.item, outcome.prompt_hash)] = outcome

    def get(self, *place: str) -> Outcome | None:
        """Return an outcome."""
        return self.rows.get(place)


def place(model: int, item: int) -> Place:
    """Return where an outcome belongs."""
    return f"{model * 2654435761 % 2**64:016x}", "g" * 16, "s" * 16, "task", f"train:{item}", f"{item * 40503:016x}"


def block_of(model: int, items: range) -> list[Outcome]:
    """Return made-up outcomes, with answers of some 300 characters."""
    rng = random.Random(model * ITEMS + items.start)
    words = [f"{rng.getrandbits(20):x}" for _ in range(200)]
    rows = []
    for item in items:
        answer = " ".join(rng.choices(words, k=ANSWER_WORDS))
        *_, task, name, prompt = place(model, item)
        rows.append(
            Outcome(task, name, float(item % 3 == 0), 120, False, answer, prompt, seconds=rng.random(), strict=0.0)
        )
    return rows


def adding(add: Any, models: range) -> Iterator[float]:
    """Add blocks of `BLOCK` rows; yield the seconds of each."""
    for model in models:
        for first in range(0, ITEMS, BLOCK):
            rows = block_of(model, range(first, first + BLOCK))
            start = time.perf_counter()
            add(*place(model, 0)[:3], rows)
            yield time.perf_counter() - start


def adding_to_disk(path: Path, models: range) -> Iterator[float]:
    """Write and sync as many bytes; yield the seconds of each block."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for model in models:
        for first in range(0, ITEMS, BLOCK):
            data = json.dumps([o.to_dict() for o in block_of(model, range(first, first + BLOCK))]).encode()
            start = time.perf_counter()
            os.write(file, data)
            os.fsync(file)
            yield time.perf_counter() - start
    os.close(file)
    path.unlink()


def open_rival(kind: str, folders: dict[str, Path]) -> Rival:
    """Open what is measured."""
    if kind == "sqlite":
        return Sqlite(folders[kind])
    if kind == "all JSON loaded":
        return Loaded(folders["store, segments"])
    return OutcomeStore(folders[kind])


def memory() -> float:
    """Return the MB that this process has in memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def measure(kind: str, out: Path, models: int) -> dict[str, float]:
    """Open and read, in a process of its own."""
    before, start = memory(), time.perf_counter()
    rival = open_rival(kind, folders_of(out))
    opened = time.perf_counter()
    assert rival.get(*place(models // 2, 7)) is not None
    first = time.perf_counter()
    memory_opened = memory() - before
    rng = random.Random(1)
    places = [place(rng.randrange(models), rng.randrange(ITEMS)) for _ in range(1000)]
    whole = [place(model, item) for model in rng.sample(range(models), 50) for item in range(ITEMS)]
    of_one = [place(3, item % ITEMS) for item in range(1000)]
    assert rival.get(*of_one[0]) is not None
    began = time.perf_counter()
    assert all(rival.get(*p) is not None for p in of_one)
    one = time.perf_counter()
    assert all(rival.get(*p) is not None for p in whole)
    models_read = time.perf_counter()
    assert all(rival.get(*p) is not None for p in places)
    scattered = time.perf_counter()
    assert rival.get(*place(-1, 0)) is None
    absent = time.perf_counter()
    return {
        "open": opened - start,
        "first get": first - opened,
        "1000 gets of a model": one - began,
        "all rows of a model": (models_read - one) / 50,
        "1000 gets of any models": scattered - models_read,
        "get of a new model": absent - scattered,
        "MB opened": memory_opened,
        "MB at the end": memory() - before,
    }


def compact(folder: Path) -> dict[str, float]:
    """Compact, in a process of its own."""
    store, before, start = OutcomeStore(folder), memory(), time.perf_counter()
    store.compact()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": time.perf_counter() - start, "MB": peak - before}


def folders_of(out: Path) -> dict[str, Path]:
    """Return where each has its files."""
    return {"store, segments": out / "segments", "store, tables": out / "tables", "sqlite": out / "sqlite"}


def size_of(path: Path) -> float:
    """Return the MB of a folder's files."""
    return sum(file.stat().st_size for file in path.iterdir()) / 2**20


def in_child(kind: str, options: argparse.Namespace) -> dict[str, float]:
    """Return what a process of its own measures."""
    command = [sys.executable, __file__, "--out", str(options.out), "--child", kind]
    command += ["--quick"] if options.quick else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the files, removed at the end")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", choices=[*KINDS, "compaction"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    models = 250 if options.quick else 5000
    if options.child == "compaction":
        print(json.dumps(compact(folders_of(options.out)["store, tables"])))
        return
    if options.child:
        print(json.dumps(measure(options.child, options.out, models)))
        return
    folders = folders_of(options.out)
    options.out.mkdir(parents=True)
    try:
        run(options, folders, models)
    finally:
        shutil.rmtree(options.out)


def run(options: argparse.Namespace, folders: dict[str, Path], models: int) -> None:
    """Fill, compact, measure."""
    store, sqlite = OutcomeStore(folders["store, segments"]), Sqlite(folders["sqlite"])
    sample = range(models, models + (4 if options.quick else 40))
    adds = {"store": adding(store.add, sample), "sqlite": adding(sqlite.add, sample)}
    adds["write and sync alone"] = adding_to_disk(options.out / "bytes", sample)
    blocks = list(zip(*adds.values(), strict=True))  # in turn, since a disk has its moods
    rates = {
        name: BLOCK * len(blocks) / sum(seconds) for name, seconds in zip(adds, zip(*blocks, strict=True), strict=True)
    }
    for name, rate in rates.items():
        print(f"{name}: {rate:,.0f} rows added a second, {BLOCK} at a time, each block synced", flush=True)

    for model in range(models):
        block = block_of(model, range(ITEMS))
        store.add(*place(model, 0)[:3], block)
        sqlite.add(*place(model, 0)[:3], block)
    store.close()
    sqlite.connection.close()
    shutil.copytree(folders["store, segments"], folders["store, tables"])
    compaction = in_child("compaction", options)
    rate = models * ITEMS / compaction["seconds"]
    print(
        f"compaction: {compaction['seconds']:.1f} s, {rate:,.0f} rows a second, {compaction['MB']:.0f} MB", flush=True
    )

    measured: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        measured[kind] = in_child(kind, options)
        measured[kind]["MB on disk"] = size_of(folders.get(kind, folders["store, segments"]))
    names = list(measured[KINDS[0]])
    table = [[name, *(_show(name, measured[kind][name]) for kind in KINDS)] for name in names]
    title = f"{models * ITEMS:,} rows of {models:,} models; ms unless another unit is given"
    print_table(["", *KINDS], table, title=title)
    if options.json:
        data = {
            "date": date.today().isoformat(),
            "machine": platform.processor() or platform.machine(),
            "rows": models * ITEMS,
            "models": models,
            "adds_per_second": rates,
            "compaction": compaction,
            "measured": measured,
        }
        options.json.write_text(json.dumps(data, indent=1) + "\n")


def _show(name: str, value: float) -> str:
    return f"{value:,.0f}" if name.startswith("MB") else f"{value * 1000:,.2f}"


if __name__ == "__main__":
    main()
