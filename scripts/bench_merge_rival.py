"""The rival's side of bench_merge.py, run by the python of mergekit's own virtual environment.

    python bench_merge_rival.py MODELS_DIR JOBS.json THREADS REPEATS

Reads base, a and b of MODELS_DIR into memory and times `merge_state_dicts` for each job; prints name -> seconds as
JSON. Knows nothing about evomerge.
"""

import json
import sys
import time
from pathlib import Path

import torch
from mergekit.merge_methods import merge_state_dicts
from safetensors.torch import load_file


def main() -> None:
    """Time all jobs."""
    root, jobs, threads, repeats = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    models = {name: load_file(root / name / "model.safetensors") for name in ("base", "a", "b")}
    seconds = {}
    for name, job in jobs.items():
        inputs = {label: models[label] for label in job["models"]}
        best = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            with torch.no_grad():
                merged = merge_state_dicts(inputs, job["method"], parameters=job["parameters"], base=job["base"])
            best = min(best, time.perf_counter() - start)
            del merged
        seconds[name] = best
        print(f"mergekit {name}: {best:.2f} s", file=sys.stderr, flush=True)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
