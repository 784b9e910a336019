"""What does it cost to build a candidate? Each method against one pass over the same bytes, and against mergekit.

    python scripts/bench_merge.py --out runs/bench-merge --json FILE --python MERGEKIT_VENV/bin/python
    python scripts/bench_merge.py --quick --out DIR        # small shapes, a minute

Makes a pool with the shapes of Qwen2.5-0.5B (base and two experts, bfloat16, random weights), builds candidates in a
live model with the engine, every tensor anew and with other parameters each time, and prints seconds, the ratio to a
pass that reads the same tensors and writes as many bytes (a compiled loop on as many threads), the ratio to mergekit's
`merge_state_dicts` in process with as many threads, and, for one method, both command lines. The first candidate,
which computes what is then kept with the pool, is timed apart. Knows nothing about scores.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from transformers import AutoModelForCausalLM, Qwen2Config

from evomerge.checkpoints import ModelPool
from evomerge.compiled import at, compiled
from evomerge.merging import METHODS, MergeEngine
from evomerge.recipes import Recipe
from evomerge.recipes.recipe import Value
from evomerge.reporting.tables import print_table

SHAPES = {
    False: {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14}
    | {"num_key_value_heads": 2, "vocab_size": 151936},
    True: {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "vocab_size": 4096},
}
# Spread of random weights and of what training adds, as in real fine-tunes.
WEIGHT, DELTA = 0.02, 0.001
# mergekit takes these from mergekit; it has no equivalent of the others.
NOT_IN_MERGEKIT = {"consensus", "metrics_weighted", "pcb", "widen"}


def make_pool(root: Path, *, quick: bool) -> dict[str, str]:
    """Write base, a and b below `root` unless they are there; label -> directory."""
    paths = {label: root / label for label in ("base", "a", "b")}
    config = Qwen2Config(**SHAPES[quick], tie_word_embeddings=True, max_position_embeddings=1024)
    if not all((path / "model.safetensors").is_file() for path in paths.values()):
        generator = torch.Generator().manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        base = {}
        for label, path in paths.items():
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    noise = torch.randn(parameter.shape, generator=generator)
                    if label == "base":
                        base[name] = noise * WEIGHT
                        parameter.copy_(base[name])
                    else:
                        parameter.copy_(base[name] + noise * DELTA)
            model.save_pretrained(path)
    return {label: str(path) for label, path in paths.items()}


def recipe_for(method: str, paths: dict[str, str], layers: int, rng: random.Random) -> Recipe:
    """Return a recipe with its own values in every layer."""
    experts = {"a": paths["a"]} if METHODS[method].experts[1] == 1 else {"a": paths["a"], "b": paths["b"]}
    ranges = {"weight": (0.3, 0.7), "drop_rate": (0.3, 0.7), "metric": (1.0, 2.0), "t": (0.2, 0.8), "scale": (0.9, 1.1)}
    groups = [*(f"layers.{i}" for i in range(layers)), "all"]

    def values(name: str) -> dict[str, Value]:
        return {group: rng.uniform(*ranges[name]) for group in groups}

    parameters = {p.name: {e: values(p.name) for e in experts} for p in METHODS[method].parameters if p.name in ranges}
    options = {o.name: values(o.name) for o in METHODS[method].options if o.name in ranges}
    return Recipe(method, paths["base"], experts, parameters, options)


@compiled
def one_pass(addresses: np.ndarray, out: int, count: int) -> None:
    """Combine 64-bit words from several addresses into those at `out`."""
    target = at(out, count, np.uint64)
    a, b = at(addresses[0], count, np.uint64), at(addresses[1], count, np.uint64)
    if addresses.size == 2:
        for i in range(count):
            target[i] = a[i] ^ b[i]
    else:
        c = at(addresses[2], count, np.uint64)
        for i in range(count):
            target[i] = a[i] ^ b[i] ^ c[i]


def pass_seconds(inputs: int, elements: int, threads: int, device: str) -> float:
    """Return the time of a pass over `inputs` bfloat16 tensors of that many elements, one written."""
    words = elements // 4
    if device != "cpu":
        a, b, out = (torch.ones(words, dtype=torch.int64, device=device) for _ in range(3))

        def add() -> None:
            torch.add(a, b, out=out)
            torch.cuda.synchronize()

        return best(add, 5) * (inputs + 1) / 3
    buffers = [torch.ones(words, dtype=torch.int64) for _ in range(inputs + 1)]
    chunk = 1 << 18
    starts = range(0, words, chunk)

    def run(start: int) -> None:
        addresses = np.array([b.data_ptr() + 8 * start for b in buffers[1:]])
        one_pass(addresses, buffers[0].data_ptr() + 8 * start, min(chunk, words - start))

    with ThreadPoolExecutor(threads) as executor:
        return best(lambda: list(executor.map(run, starts)), 5)


def best(run: Callable[[], Any], repeats: int) -> float:
    """Return the shortest of several times, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def bench_method(method: str, engine: MergeEngine, paths: dict[str, str], layers: int, repeats: int) -> dict[str, Any]:
    """Time the first candidate and the following ones."""
    rng = random.Random(method)
    times, seconds = [], []
    for _ in range(repeats + 1):
        recipe = recipe_for(method, paths, layers, rng)
        engine.forget()
        start = time.perf_counter()
        seconds.append(engine.apply(recipe).seconds)
        times.append(time.perf_counter() - start)
    return {"method": method, "first": times[0], "seconds": min(times[1:]), "all": times}


def rival_jobs(methods: Sequence[str], paths: dict[str, str]) -> dict[str, Any]:
    """Return what mergekit is asked to do for each method: the same method, one value for the whole model."""
    jobs: dict[str, Any] = {}
    for method in methods:
        if method in NOT_IN_MERGEKIT:
            continue
        declared = METHODS[method]
        experts = ["a"] if declared.experts[1] == 1 else ["a", "b"]
        with_base = method not in ("linear", "karcher", "multislerp", "passthrough") and (method != "slerp")
        models = ["base", *experts] if with_base else experts
        parameters: dict[str, Any] = {}
        names = [p.name for p in declared.parameters]
        if "weight" in names:
            parameters["weight"] = dict.fromkeys(experts, 0.5)
        if "drop_rate" in names:
            parameters["density"] = dict.fromkeys(experts, 0.5)
        if method == "slerp":
            parameters["t"] = 0.5
        base = "base" if with_base else "a" if method == "slerp" else None
        jobs[method] = {"method": method, "models": models, "base": base, "parameters": parameters}
    return jobs


def run_rival(python: Path, root: Path, jobs: dict[str, Any], threads: int, repeats: int) -> dict[str, float]:
    """Time mergekit in a process of its own."""
    child = Path(__file__).with_name("bench_merge_rival.py")
    command = [str(python), str(child), str(root), json.dumps(jobs), str(threads), str(repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment(threads))
    result: dict[str, float] = json.loads(done.stdout)
    return result


def environment(threads: int) -> dict[str, str]:
    """Return the variables of a child process."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}


def command_lines(python: Path, out: Path, paths: dict[str, str], threads: int) -> dict[str, float]:
    """Time `evomerge merge` and `mergekit-yaml` on a DARE merge, from start to files."""
    half = {expert: {"all": 0.5} for expert in ("a", "b")}
    experts = {"a": paths["a"], "b": paths["b"]}
    recipe = Recipe("dare_linear", paths["base"], experts, parameters={"weight": half, "drop_rate": half})
    (out / "recipe.yaml").write_text(recipe.to_yaml())
    theirs = {
        "merge_method": "dare_linear",
        "base_model": paths["base"],
        "dtype": "bfloat16",
        "models": [{"model": paths[e], "parameters": {"weight": 0.5, "density": 0.5}} for e in ("a", "b")],
    }
    (out / "mergekit.yaml").write_text(yaml.safe_dump(theirs))
    ours_to, theirs_to = out / "ours", out / "theirs"
    seconds = {}
    for name, command, target in (
        ("evomerge", [sys.executable, "-m", "evomerge.cli", "merge", str(out / "recipe.yaml"), str(ours_to)], ours_to),
        (
            "mergekit",
            [str(python.with_name("mergekit-yaml")), str(out / "mergekit.yaml"), str(theirs_to), "--no-copy-tokenizer"],
            theirs_to,
        ),
    ):
        subprocess.run(["rm", "-rf", str(target)], check=True)
        start = time.perf_counter()
        nowhere = subprocess.DEVNULL
        subprocess.run(command, check=True, env=environment(threads), stdout=nowhere, stderr=nowhere)
        seconds[name] = time.perf_counter() - start
        subprocess.run(["rm", "-rf", str(target)], check=True)
    return seconds


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pool")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--methods", nargs="+", default=sorted(METHODS))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="cpu or cuda: where the live model is")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rival-repeats", type=int, default=2)
    parser.add_argument("--python", type=Path, help="python of a virtual environment with mergekit 0.1.5")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    paths = make_pool(options.out, quick=options.quick)
    torch.set_num_threads(options.threads)

    pool = ModelPool.open(paths["base"], {"a": paths["a"], "b": paths["b"]}, check_weights=False)
    model = AutoModelForCausalLM.from_pretrained(paths["base"], dtype=torch.bfloat16).to(options.device)
    elements = sum(parameter.numel() for parameter in model.parameters())
    engine = MergeEngine(pool, model, threads=options.threads)
    print(f"{elements / 1e6:.0f} M parameters; {engine.residence.reason}", flush=True)
    layers = pool.layout.layers
    rows: list[dict[str, Any]] = []
    for method in options.methods:
        row = bench_method(method, engine, paths, layers, options.repeats)
        # read: the experts, and the base where it takes part
        experts = 1 if METHODS[method].experts[1] == 1 else 2
        row["read"] = 2 if method in ("linear", "karcher", "multislerp", "metrics_weighted", "slerp") else experts + 1
        row["pass"] = pass_seconds(row["read"], elements, options.threads, options.device)
        row["to_pass"] = row["seconds"] / row["pass"]
        rows.append(row)
        print(f"{method}: {row['seconds']:.3f} s, first {row['first']:.2f} s, {row['to_pass']:.2f} passes", flush=True)
    del engine, model
    lines: dict[str, float] = {}
    if options.python:
        jobs = rival_jobs(options.methods, paths)
        theirs = run_rival(options.python, options.out, jobs, options.threads, options.rival_repeats)
        for row in rows:
            if row["method"] in theirs:
                row["mergekit"] = theirs[row["method"]]
                row["faster"] = row["mergekit"] / row["seconds"]
        lines = command_lines(options.python, options.out, paths, options.threads)
    linear = next((row["seconds"] for row in rows if row["method"] == "linear"), float("nan"))
    table = [
        [
            row["method"],
            f"{row['seconds']:.3f}",
            f"{row['first']:.2f}",
            f"{row['to_pass']:.2f}",
            f"{row['seconds'] / linear:.2f}",
            f"{row['mergekit']:.2f}" if "mergekit" in row else "-",
            f"{row['faster']:.1f}" if "faster" in row else "-",
        ]
        for row in rows
    ]
    columns = ["method", "seconds", "first", "to one pass", "to linear", "mergekit s", "times faster"]
    print_table(columns, table, title=f"{elements / 1e6:.0f} M parameters, {options.threads} threads")
    for name, seconds in lines.items():
        print(f"command line, dare_linear, {name}: {seconds:.1f} s")
    if options.json:
        data: dict[str, Any] = {
            "date": date.today().isoformat(),
            "machine": platform.processor() or platform.machine(),
            "rows": rows,
        }
        data |= {"parameters": elements, "threads": options.threads, "command_lines": lines}
        options.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
