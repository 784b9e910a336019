"""What does it cost to write a merged model? Peak memory and speed of `evomerge merge`, against copying the same bytes.

    python scripts/bench_export.py --out runs/bench-export --json FILE   # three models of 3 B parameters, 26 GB of disk
    python scripts/bench_export.py --quick --out DIR                     # small shapes, a minute

Makes a pool with the shapes of Qwen2.5-3B (base and two experts, bfloat16, random weights). For each method it drops
the models from the page cache, runs the command line in a process of its own, and takes its wall time and peak
resident memory (mapped files count) from the kernel, as /usr/bin/time -v does. Before each it copies: the experts are
read, the base is read and written to a new file, with fsync, the cache dropped likewise. Knows nothing about scores.
"""

import argparse
import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from evomerge.merging.methods.reductions import spans
from evomerge.merging.safetensors_file import SafetensorsWriter
from evomerge.recipes import Recipe
from evomerge.reporting.tables import print_table

SHAPES = {
    False: {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16}
    | {"num_key_value_heads": 2, "vocab_size": 151936},
    True: {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "vocab_size": 8192},
}
WEIGHT, DELTA = 0.02, 0.001
_SPAN = 1 << 22


def make_pool(root: Path, *, quick: bool) -> dict[str, Path]:
    """Write base, a and b below `root` unless they are there; label -> directory."""
    paths = {label: root / label for label in ("base", "a", "b")}
    if all((path / "config.json").is_file() for path in paths.values()):
        return paths
    config = Qwen2Config(**SHAPES[quick], tie_word_embeddings=True, max_position_embeddings=1024)
    config.architectures = ["Qwen2ForCausalLM"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    shapes = {name: tuple(parameter.shape) for name, parameter in sorted(model.named_parameters())}
    for label, path in paths.items():
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        generator, noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1 + ord(label[0]))
        with SafetensorsWriter(path / "model.safetensors", shapes, torch.bfloat16, metadata={"format": "pt"}) as file:
            for name, shape in shapes.items():
                for first, last in spans(torch.Size(shape).numel(), _SPAN):
                    values = torch.randn(last - first, generator=generator) * WEIGHT
                    if label != "base":
                        values += torch.randn(last - first, generator=noise) * DELTA
                    file.write(name, first, values.bfloat16())
        config.save_pretrained(path)
    return paths


def forget(paths: dict[str, Path]) -> None:
    """Have the kernel drop the models from its page cache."""
    for path in paths.values():
        for file in path.glob("*.safetensors"):
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def copy(paths: dict[str, Path], to: Path, threads: int) -> float:
    """Read all models and write one; return the seconds."""

    def move(source: Path) -> None:
        buffer = bytearray(1 << 24)
        target = to.open("wb") if source.parent == paths["base"] else None
        with source.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                if target:
                    target.write(memoryview(buffer)[:count])
        if target:
            target.flush()
            os.fsync(target.fileno())
            target.close()

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as executor:
        list(executor.map(move, (path / "model.safetensors" for path in paths.values())))
    seconds = time.perf_counter() - start
    to.unlink()
    return seconds


def measured(command: list[str]) -> tuple[float, float]:
    """Run a command; return its wall time in seconds and its peak resident memory in GB."""
    start = time.perf_counter()
    child = os.posix_spawn(command[0], command, {**os.environ, "HF_HUB_OFFLINE": "1"})
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--methods", nargs="+", default=["linear", "dare_linear", "ties"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    paths = make_pool(options.out, quick=options.quick)
    read = sum((path / "model.safetensors").stat().st_size for path in paths.values())
    rows: list[dict[str, Any]] = []
    for method in options.methods:
        parameters: dict[str, Any] = {"weight": 0.5}
        if method not in ("linear", "task_arithmetic"):
            parameters["drop_rate"] = 0.5
        recipe = Recipe(method, str(paths["base"]), {"a": str(paths["a"]), "b": str(paths["b"])}, parameters)
        file, target = options.out / f"{method}.yaml", options.out / "merged"
        file.write_text(recipe.to_yaml())
        shutil.rmtree(target, ignore_errors=True)
        forget(paths)
        copied = copy(paths, options.out / "copy", options.threads)
        forget(paths)
        command = [sys.executable, "-m", "evomerge.cli", "merge", str(file), str(target)]
        seconds, peak = measured([*command, "--threads", str(options.threads)])
        shutil.rmtree(target)
        rows.append({"method": method, "seconds": seconds, "copy": copied, "speed": copied / seconds, "peak_gb": peak})
        print(f"{method}: {seconds:.1f} s, copy {copied:.1f} s, peak {peak:.2f} GB", flush=True)
    table = [
        [r["method"], f"{r['seconds']:.1f}", f"{r['copy']:.1f}", f"{100 * r['speed']:.0f} %", f"{r['peak_gb']:.2f}"]
        for r in rows
    ]
    title = f"three models of {read / 3e9:.2f} GB, {options.threads} threads"
    print_table(["method", "export s", "copy s", "of the copy's speed", "peak GB"], table, title=title)
    if options.json:
        data = {"date": date.today().isoformat(), "bytes_read": read, "threads": options.threads, "rows": rows}
        options.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
