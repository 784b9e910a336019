"""Does `evomerge plan` tell the truth? Its estimates against real searches: time on the clock, processor time, memory.

    python scripts/bench_plan.py --out runs/bench-plan --json FILE     # the zoo, then models of 0.5 B parameters
    python scripts/bench_plan.py --out DIR --part zoo --quick          # a small search, a minute or two

Each search is planned by the command line in a process of its own, run by the command line in another, and planned once
more, so that a load that changes meanwhile can be seen: the estimate is the mean of both plans. The kernel says what
the search took: wall time, processor time of it and all that it started (Linux: also of what it killed), peak resident
memory. The 0.5 B models have the shapes of Qwen2.5-0.5B and random weights in bfloat16 (a base and two experts; their
answers never end, so they are cut short), the zoo's tokenizer, and are deleted at the end. Knows nothing about how a
plan is made.
"""

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from evomerge.merging.methods.reductions import spans
from evomerge.merging.safetensors_file import SafetensorsWriter
from evomerge.reporting.tables import print_table
from evomerge.zoo import model_path

SHAPE = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14} | {
    "num_key_value_heads": 2,
    "vocab_size": 151936,
}
SMALL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4} | {
    "num_key_value_heads": 2,
    "vocab_size": 4096,
}
WEIGHT, DELTA = 0.02, 0.001
_SPAN = 1 << 22

ZOO = {
    False: ["experiment=quickstart", "budget.candidates=24"],
    True: ["experiment=quickstart", "budget.candidates=6", "items={search: 16, selection: 24, report: 24}"],
}


@dataclass(frozen=True)
class Taken:
    """What a process took, in seconds and bytes."""

    seconds: float
    cpu: float
    peak: int


def half_billion(root: Path, *, quick: bool) -> dict[str, str]:
    """Write base, a and b below `root` unless they are there; label -> directory."""
    paths = {label: root / label for label in ("base", "a", "b")}
    config = Qwen2Config(**(SMALL if quick else SHAPE), tie_word_embeddings=True, max_position_embeddings=2048)
    config.architectures, config.dtype = ["Qwen2ForCausalLM"], torch.bfloat16
    config.eos_token_id, config.pad_token_id = 1, 0
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    shapes = {name: tuple(parameter.shape) for name, parameter in sorted(model.named_parameters())}
    for label, path in paths.items():
        if (path / "config.json").is_file():
            continue
        path.mkdir(parents=True, exist_ok=True)
        for beside in model_path("base").glob("tokenizer*"):
            shutil.copyfile(beside, path / beside.name)
        generator, noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1 + ord(label[0]))
        with SafetensorsWriter(path / "model.safetensors", shapes, torch.bfloat16, metadata={"format": "pt"}) as file:
            for name, shape in shapes.items():
                for first, last in spans(torch.Size(shape).numel(), _SPAN):
                    values = torch.randn(last - first, generator=generator) * WEIGHT
                    if label != "base":
                        values += torch.randn(last - first, generator=noise) * DELTA
                    file.write(name, first, values.bfloat16())
        config.save_pretrained(path)
    return {label: str(path) for label, path in paths.items()}


def half_overrides(paths: Mapping[str, str], items: Sequence[int]) -> list[str]:
    """Return a small search over the 0.5 B models: answers of eight tokens, TIES and DARE among the methods."""
    search, selection, report = items
    return [
        *("space=global", "optimizer=random", "name=half", "budget.candidates=3", f"models.base={paths['base']}"),
        *("~models.experts", f"+models.experts={{a: {paths['a']}, b: {paths['b']}}}"),
        *("~tasks.zoo_code", "~tasks.zoo_math", "+tasks.zoo_translate.max_gen_toks=8"),
        f"items={{search: {search}, selection: {selection}, report: {report}}}",
        *("baselines.grid=[]", "baselines.untuned=[ties]", "selection.finalists=3", "selection.front=0"),
    ]


def run(command: list[str], log: Path) -> Taken:
    """Run a command; `SystemExit` if it fails."""
    _adopt_orphans()
    mine = {child.pid for child in psutil.Process().children()}
    before, start = _children_seconds(), time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=_environment())
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} failed; see {log}")
    for child in psutil.Process().children():
        if child.pid not in mine:
            os.waitpid(child.pid, 0)
    return Taken(seconds, _children_seconds() - before, used.ru_maxrss * 1024)


def _adopt_orphans() -> None:
    """Become the parent of processes whose own is gone: the sandbox's helpers, which a search kills at its end."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def plan(overrides: list[str], out: Path, seconds: float) -> dict[str, Any]:
    """Return what the command line plans."""
    command = [*_EVOMERGE, "plan", *overrides, "--json", "--seconds", str(seconds)]
    result = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    (out / "plan.json").write_text(result.stdout)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {result.stderr.strip()[-500:]}")
    return dict(json.loads(result.stdout))


def phases(folder: Path) -> dict[str, float]:
    """Return what scoring took by phase, from the ledger."""
    kinds: dict[int, str] = {}
    found = {"baselines": 0.0, "candidates": 0.0, "selection": 0.0, "report": 0.0}
    for line in (folder / "ledger.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "ask":
            kinds[event["number"]] = event["kind"]
        elif event["event"] == "tell":
            split, kind = event["split"], kinds[event["number"]]
            phase = split if split != "search" else "candidates" if kind == "candidate" else "baselines"
            found[phase] += event["seconds"]
    return found


def bench(name: str, overrides: list[str], out: Path, seconds: float, *, plans: int = 2) -> dict[str, Any]:
    """Plan, search, plan again unless one plan will do; print and return the comparison."""
    out.mkdir(parents=True, exist_ok=True)
    folder = out / "run"
    shutil.rmtree(folder, ignore_errors=True)
    made, loads = [plan(overrides, out, seconds)], [os.getloadavg()[0]]
    taken = run([*_EVOMERGE, "search", *overrides, f"hydra.run.dir={folder}"], out / "search.log")
    loads.append(os.getloadavg()[1])
    if plans > 1:
        made.append(plan(overrides, out, seconds))
        loads.insert(1, os.getloadavg()[0])
    disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    real = {"seconds": taken.seconds, "cpu": taken.cpu, "peak": taken.peak, "disk": disk}
    rows, ratios = [], {}
    for what, unit in (("seconds", 1.0), ("cpu", 1.0), ("peak", 1e9), ("disk", 1e6)):
        estimates = [_estimate(one, what) for one in made]
        ratios[what] = sum(estimates) / len(estimates) / real[what]
        cells = [f"{value / unit:.2f}" for value in (*estimates, real[what])]
        rows.append([_NAMES[what], *cells, f"{ratios[what]:.2f}"])
    reckoned = made[0]["host"][made[0]["host"]["chosen"]]["peak"]
    blank = [""] * (plans - 1)
    part = f"{reckoned / taken.peak:.2f}"
    rows.append(["peak by headers alone, GB", f"{reckoned / 1e9:.2f}", *blank, f"{taken.peak / 1e9:.2f}", part])
    real_phases = phases(folder)
    for phase, spent in real_phases.items():
        estimates = [_phase(one, phase) for one in made]
        ratio = sum(estimates) / len(estimates) / spent
        rows.append([f"{phase}, s", *(f"{value:.1f}" for value in (*estimates, spent)), f"{ratio:.2f}"])
    rows.append(["load of the machine", *(f"{load:.1f}" for load in loads), ""])
    print_table(["", *("plan before", "plan after")[:plans], "search", "ratio"], rows, title=name)
    return {"name": name, "overrides": overrides, "plans": made, "real": real, "ratios": ratios, "loads": loads}


_EVOMERGE = [sys.executable, "-m", "evomerge.cli"]
_NAMES = {
    "seconds": "time, s",
    "cpu": "processors, s",
    "peak": "peak memory, GB",
    "disk": "run directory (plan: at most), MB",
}


def _estimate(one: Mapping[str, Any], what: str) -> float:
    if what == "seconds":
        return float(one["totals"][0]["seconds"]["likely"])
    if what == "cpu":
        return float(one["totals"][0]["cpu"])
    return float(one["host"]["peak"] if what == "peak" else one["disk"]["run"])


def _phase(one: Mapping[str, Any], name: str) -> float:
    return float(next(phase["seconds"]["likely"] for phase in one["totals"][0]["phases"] if phase["name"] == name))


def _environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-plan"))
    parser.add_argument("--part", choices=["zoo", "half"], action="append", help="default: both")
    parser.add_argument("--quick", action="store_true", help="small searches and shapes")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the measured candidate")
    parser.add_argument("--items", type=int, nargs=3, default=(8, 12, 12), help="of each split, for the 0.5 B models")
    parser.add_argument("--plans", type=int, choices=[1, 2], default=2, help="1: before the search only")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="for the searches")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    for part in options.part or ("zoo", "half"):
        out = (options.out / part).absolute()
        if part == "zoo":
            overrides = [*ZOO[options.quick], *options.override]
            results.append(bench("zoo", overrides, out, options.seconds, plans=options.plans))
            continue
        try:
            paths = half_billion(out / "models", quick=options.quick)
            overrides = [*half_overrides(paths, options.items), *options.override]
            results.append(bench("0.5 B", overrides, out, options.seconds, plans=options.plans))
        finally:
            shutil.rmtree(out / "models", ignore_errors=True)
    if options.json:
        data = {"date": date.today().isoformat(), "results": results}
        options.json.write_text(json.dumps(data, indent=1))


if __name__ == "__main__":
    main()
