"""Is the zoo good? Its models, their uniform merges and DARE's sweep of drop rates, on the report items of its
tasks.

    python scripts/zoo_report.py --json FILE          # all 600 items a task: about 15 minutes on two cores
    python scripts/zoo_report.py --quick              # 60 items a task, a minute and a half
    python scripts/zoo_report.py --models DIR         # another family: DIR/base, DIR/math, ...

The zoo is good when each expert is clearly best at its own task and clearly worse at the others, the best uniform
merge lies clearly below the experts, DARE at 0.5 costs little and at 0.99 everything, and no task saturates. What a
search finds beyond the best uniform merge is the business of scripts/bench_search.py. Normalised: 0 is the base, 1
each task's best expert, on these items.
"""

import argparse
import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from evomerge.checkpoints import ModelPool
from evomerge.evaluation import Evaluator, TransformersBackend, find_task_config, load_model, load_tasks
from evomerge.merging import MergeEngine
from evomerge.recipes import Recipe
from evomerge.reporting.statistics import mean_interval, mean_normalised
from evomerge.reporting.tables import percent, plain, print_table

EXPERTS = ("code", "math", "translate")
SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
DROP_RATES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)

Scores = dict[str, list[float]]


class Lab:
    """The family in memory, and one live model that takes any merge of it."""

    def __init__(self, folder: str, limit: int) -> None:
        self.references = {name: folder + name for name in ("base", *EXPERTS)}
        self.pool = ModelPool.open(self.references["base"], {name: self.references[name] for name in EXPERTS})
        model, tokenizer = load_model(self.pool.base.path)
        tasks = load_tasks(find_task_config("zoo"))
        self.items = {name: task.items("report")[:limit] for name, task in tasks.items()}
        backend = TransformersBackend(model, tokenizer, batch_size=64)
        self.engine = MergeEngine(self.pool, model, on_change=backend.weights_changed)
        self.evaluator = Evaluator(tasks, backend, allow_code_execution=True)

    def score(self, method: str, weights: dict[str, float], **parameters: float) -> Scores:
        """Build a uniform merge and score it; per task one score an item."""
        recipe = Recipe(
            method=method,
            base=self.references["base"],
            experts={name: self.references[name] for name in EXPERTS},
            parameters={"weight": weights, **parameters},  # type: ignore[dict-item]
        )
        self.engine.apply(recipe)
        return {
            task: [outcome.score for outcome in self.evaluator.score(task, ids, recipe.hash)]
            for task, ids in self.items.items()
        }

    def task_vectors(self) -> dict[str, torch.Tensor]:
        """Each expert minus the base, all tensors in a row, float32."""
        names = self.pool.layout.tensors
        return {
            label: torch.cat([(e.tensor(n).float() - self.pool.base.tensor(n).float()).flatten() for n in names])
            for label, e in self.pool.experts.items()
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="zoo:", help="folder of the family (default: the shipped one)")
    parser.add_argument("--items", type=int, default=600, help="report items a task")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    folder = options.models if options.models == "zoo:" else str(Path(options.models).resolve()) + "/"
    lab = Lab(folder, 60 if options.quick else options.items)

    models: dict[str, Scores] = {"base": lab.score("task_arithmetic", dict.fromkeys(EXPERTS, 0.0))}
    for name in EXPERTS:
        models[name] = lab.score("linear", {other: float(other == name) for other in EXPERTS})
    base = {task: mean_interval(scores).mean for task, scores in models["base"].items()}
    anchors = {
        task: (low, max(mean_interval(models[name][task]).mean for name in EXPERTS)) for task, low in base.items()
    }
    models["average"] = lab.score("linear", dict.fromkeys(EXPERTS, 1.0))
    for scale in SCALES:
        models[f"arithmetic {scale:g}"] = lab.score("task_arithmetic", dict.fromkeys(EXPERTS, scale))
    best = max(SCALES, key=lambda scale: mean_normalised(models[f"arithmetic {scale:g}"], anchors).mean)
    for rate in DROP_RATES:
        models[f"DARE {rate:g}"] = lab.score("dare_linear", dict.fromkeys(EXPERTS, best), drop_rate=rate)

    intervals = {name: {task: mean_interval(row) for task, row in scores.items()} for name, scores in models.items()}
    joined = {name: mean_normalised(scores, anchors) for name, scores in models.items()}
    rows = [[name, *(percent(i) for i in intervals[name].values()), plain(joined[name])] for name in models]
    count = len(next(iter(lab.items.values())))
    title = f"{count} report items a task, 95 % intervals; DARE at uniform weight {best:g}"
    print_table(["model", *(f"{task} %" for task in anchors), "mean normalised"], rows, title=title)

    vectors = lab.task_vectors()
    length = torch.cat([lab.pool.base.tensor(name).float().flatten() for name in lab.pool.layout.tensors]).norm()
    norms = {name: float(vector.norm() / length) for name, vector in vectors.items()}
    cosines = {
        f"{a}, {b}": float(torch.nn.functional.cosine_similarity(vectors[a], vectors[b], dim=0))
        for a, b in itertools.combinations(EXPERTS, 2)
    }
    print("norm of task vector / norm of base:", ", ".join(f"{name} {value:.3f}" for name, value in norms.items()))
    print("cosine of task vectors:", ", ".join(f"{pair} {value:+.3f}" for pair, value in cosines.items()))
    if options.json:
        data: dict[str, Any] = {"items": count, "norms": norms, "cosines": cosines}
        data["models"] = {name: {t: asdict(i) for t, i in row.items()} for name, row in intervals.items()}
        data["mean_normalised"] = {name: asdict(interval) for name, interval in joined.items()}
        options.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
