"""What does it cost to run a program safely? Milliseconds a program at each level, against a fresh process for each.

    EVOMERGE_DATA=FOLDER python scripts/bench_sandbox.py --json FILE     # the solutions of FOLDER/mbpp/mbpp.jsonl
    python scripts/bench_sandbox.py --quick                              # programs made here, seconds

Every program goes through both of its runs, the tests and the counter-check; the wall clock of a whole batch is divided
by its programs. The rival, in the same run on as many workers, is a fresh `python -I -S` for each program: no
isolation, no proof, no counter-check. The last column mixes quick evil programs in, one for each honest one, and gives
the seconds of a batch over those of the same batch with as many honest ones in their place. Knows nothing about models.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

from evomerge.errors import WorkError
from evomerge.evaluation.sandbox import LEVELS, Program, Sandbox
from evomerge.reporting.tables import print_table

EVIL = (
    "import os\nos._exit(0)",
    "raise SystemExit(0)",
    "import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'passed')\n    except OSError:\n        pass",
    "x = [0] * 10**10",
    "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        time.sleep(1000)",
    "open('/etc/passwd', 'a')",
    "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "import threading, time\nthreading.Thread(target=time.sleep, args=(100,)).start()",
)


def honest_programs(limit: int | None) -> list[Program]:
    """Return MBPP's reference solutions, or as many programs made here where there is no data."""
    data = os.environ.get("EVOMERGE_DATA")
    if data is None:
        code = "def add(a, b):\n    return a + b + {0}"
        return [
            Program(code.format(i), f"assert add(2, 3) == {5 + i}\nassert add(0, 0) == {i}")
            for i in range(limit or 974)
        ]
    lines = (Path(data) / "mbpp" / "mbpp.jsonl").read_text().splitlines()
    items = [json.loads(line) for line in lines][:limit]
    return [Program(i["code"], "\n".join([i["test_setup_code"], *i["test_list"]])) for i in items]


def fresh_processes(programs: list[Program], workers: int) -> dict[str, Any]:
    """Run each program in a Python of its own."""

    def run(program: Program) -> bool:
        command = [sys.executable, "-I", "-S", "-c", f"{program.code}\n{program.tests}"]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0

    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        passed = sum(pool.map(run, programs))
    return {"passed": passed, "ms": 1000 * (time.perf_counter() - start) / len(programs)}


def one_level(level: str, programs: list[Program], workers: int) -> dict[str, Any]:
    """Run the programs at one level; raises `WorkError` if it is not granted here."""
    start = time.perf_counter()
    with Sandbox(timeout=10, workers=workers, require=level, highest=level) as sandbox:
        started = time.perf_counter() - start
        sandbox.run(programs[:workers])
        start = time.perf_counter()
        verdicts = sandbox.run(programs)
        seconds = time.perf_counter() - start
        honest = programs[:200]
        start = time.perf_counter()
        sandbox.run([program for program in honest for _ in range(2)])
        alone = time.perf_counter() - start
        evil = [Program(EVIL[place % len(EVIL)], "assert f(1) == 2") for place in range(len(honest))]
        start = time.perf_counter()
        mixed = sandbox.run([program for pair in zip(honest, evil, strict=True) for program in pair])
        together = time.perf_counter() - start
    return {
        "start_ms": 1000 * started / workers,
        "passed": sum(map(bool, verdicts)),
        "failed": {place: verdict.reason for place, verdict in enumerate(verdicts) if not verdict},
        "ms": 1000 * seconds / len(programs),
        "evil_passed": sum(map(bool, mixed[1::2])),
        "honest_failed_among_evil": sum(not verdict for verdict in mixed[::2]),
        "pace_among_evil": together / alone,
    }


def main() -> None:
    """Run all levels and the rival, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="60 programs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    programs = honest_programs(60 if options.quick else None)

    levels: dict[str, dict[str, Any]] = {}
    rows = []
    for level in LEVELS:
        try:
            result = levels[level] = one_level(level, programs, options.workers)
        except WorkError as error:
            levels[level] = {"refused": str(error)}
            rows.append([level, "not here", "", "", ""])
            continue
        passed = f"{result['passed']} of {len(programs)}"
        cells = [f"{result['ms']:.1f}", f"{result['start_ms']:.0f}", f"{result['pace_among_evil']:.2f}"]
        rows.append([level, passed, *cells])
    rival = fresh_processes(programs, options.workers)
    rows.append(["fresh process", f"{rival['passed']} of {len(programs)}", f"{rival['ms']:.1f}", "", ""])
    print_table(["level", "passed", "ms a program", "start ms a worker", "seconds with evil / without"], rows)
    if options.json:
        load = os.getloadavg()[0]
        machine = {"date": str(date.today()), "python": platform.python_version(), "kernel": platform.release()}
        data = {**machine, "workers": options.workers, "load": load, "levels": levels, "fresh_process": rival}
        options.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
