"""Record the merge landscape of the zoo: a thousand recipes, each scored on the same items, packed into one small file.

    python scripts/record_landscape.py --store DIR --out scripts/landscapes/zoo.npz
    python scripts/record_landscape.py --quick --store DIR --out FILE

Two parts: a grid over one weight for each of the three experts (task arithmetic), and a space-filling sample (Sobol) of
the 18-dimensional space of `conf/experiment/zoo120.yaml`: weights and drop rates in two blocks of layers and the rest.
`scripts/bench_optimizers.py` searches on what this file has recorded. Started again, it goes on where it stopped: the
outcomes are kept in `--store`.

The file is a NumPy archive without objects: `grid` (n, 3) and `layered` (m, 18), points of the unit cube; for each
task, `grid_TASK` and `layered_TASK`, uint8 of shape (points, ceil(items / 8)): the outcome of each item, 0 or 1, packed
eight to a byte; `items`, how many there are; `tasks`, `dimensions` and `baselines`, names as text.
"""

import argparse
import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from evomerge.evaluation import OutcomeStore, load_tasks
from evomerge.recipes import Recipe, SearchSpace
from evomerge.search.baselines import baselines
from evomerge.search.config import SearchConfig
from evomerge.search.opening import open_pool, open_spaces, pick_items
from evomerge.search.scorer import load_chat, load_scorer, pick_device, start_sandbox
from evomerge.search.workers.base import Job
from evomerge.search.workers.building import ModelScorer

#: One weight an expert, from 0 to 1.5.
GLOBAL = {"granularity": "global", "own": [], "methods": ["dare_linear"]}


def configuration() -> SearchConfig:
    """Compose the experiment whose space and tasks are recorded."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from evomerge.config import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        data = OmegaConf.to_container(compose("config", overrides=["experiment=zoo120"]), resolve=True)
    assert isinstance(data, dict)
    return SearchConfig.from_dict({str(key): value for key, value in data.items()})


def main() -> None:
    """Score every recipe and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="folder of the outcomes")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--levels", type=int, default=7, help="of each weight of the grid")
    parser.add_argument("--layered", type=int, default=681, help="points of the space-filling sample")
    parser.add_argument("--items", type=int, default=96, help="items a task")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.levels, options.layered, options.items = 2, 4, 8

    config = configuration()
    pool = open_pool(config)

    def space(data: Mapping[str, Any]) -> SearchSpace:
        return open_spaces(replace(config, space=data), pool)[0].space

    coarse = space({**GLOBAL, "parameters": {"weight": {"low": 0.0, "high": 1.5}, "drop_rate": 0.0}})
    fine = space(config.space)
    levels = np.linspace(0.0, 1.0, options.levels)
    grid = np.array(list(itertools.product(levels, repeat=len(coarse))))
    layered = qmc.Sobol(len(fine), scramble=True, seed=np.random.default_rng(0)).random(options.layered)

    tasks = load_tasks(config.tasks, split_seed=config.evaluation.split_seed, chat=load_chat(config.tasks, pool))
    items = pick_items(tasks, "search", options.items)
    counts = {task: len(ids) for task, ids in items.items()}
    start_sandbox(tasks.values(), config.evaluation)
    store = OutcomeStore(options.store)
    engine, evaluator = load_scorer(pool, tasks, config.evaluation, pick_device("auto"), store)
    score = ModelScorer(engine, evaluator)
    start = time.monotonic()

    def outcomes(name: str, recipes: list[Recipe]) -> Iterator[tuple[str, np.ndarray]]:
        rows: dict[str, list[list[float]]] = {task: [] for task in tasks}
        for number, recipe in enumerate(recipes):
            scored = score(Job(number, recipe, "search", items))
            for task, found in scored.outcomes.items():
                rows[task].append([outcome.score for outcome in found])
            if number % 10 == 0:
                means = "  ".join(f"{task} {np.mean(rows[task][-1]):.2f}" for task in tasks)
                print(f"{name} {number + 1}/{len(recipes)}  {time.monotonic() - start:.0f} s  {means}", flush=True)
        for task, scores in rows.items():
            yield f"{name}_{task}", np.packbits(np.array(scores) > 0.5, axis=1)

    known = baselines(fine, config.baselines)
    arrays: dict[str, Any] = dict(outcomes("baselines", [baseline.recipe for baseline in known]))
    arrays |= dict(outcomes("grid", [coarse.recipe(point) for point in grid.tolist()]))
    arrays |= dict(outcomes("layered", [fine.recipe(point) for point in layered.tolist()]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.out,
        grid=grid.astype(np.float32),
        layered=layered.astype(np.float32),
        items=np.array([counts[task] for task in tasks]),
        tasks=np.array(list(tasks)),
        dimensions=np.array([dimension.name for dimension in fine.dimensions]),
        baselines=np.array([baseline.name for baseline in known]),
        **arrays,
    )
    store.compact()
    store.close()
    print(f"{options.out}: {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
