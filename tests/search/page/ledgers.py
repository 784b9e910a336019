"""Run directories of searches that never were, for tests: any number of candidates on a smooth landscape with noise."""

import json
from pathlib import Path

import numpy as np
import yaml

from evomerge.merging import METHODS, parameter_defaults
from evomerge.recipes import Layout, SearchSpace
from evomerge.reporting.statistics import mean_with_error
from evomerge.search.baselines import baselines
from evomerge.search.config import Baselines
from evomerge.search.ledger import LEDGER_VERSION
from evomerge.search.page.about import About, Item
from evomerge.search.record import Trial
from tests.recipes.test_groups import LLAMA

EXPERTS = {"code": "zoo:code", "math": "zoo:math", "word": "zoo:translate"}
SPACE = {
    "methods": ["dare_linear"],
    "granularity": 1,
    "own": [],
    "parameters": {"weight": {"low": 0.0, "high": 1.5}, "drop_rate": {"low": 0.0, "high": 0.9}},
}
GLOBAL = {**SPACE, "granularity": "global"}  # six dimensions
TASKS = ("code", "math", "word")


def space(config=SPACE):
    return SearchSpace(
        base="zoo:base",
        experts=EXPERTS,
        layout=Layout.of(LLAMA),
        config=config,
        method_parameters={name: parameter_defaults(name) for name in METHODS},
    )


def configuration(**keys):
    return {
        "name": "made",
        "seed": 3,
        "mask_seed": 0,
        "fork_from": None,
        "models": {"base": "zoo:base", "experts": EXPERTS, "dtype": "bfloat16", "vocabulary": "same"},
        "optimizer": {"name": "random", "scalarization": "weighted_sum", "options": {}},
        "tasks": {task: {"task": task, "metric": "exact_match"} for task in TASKS},
        "evaluation": {"outcomes": None},
        "selection": {"finalists": 3, "front": 2, "chosen": 1},
        **keys,
    }


def abilities(made, vector):
    """How likely an item of each task is answered rightly: best near 0.9 of its own expert in the first group."""
    values = {d.name: d.value(u) for d, u in zip(made.dimensions, vector, strict=True)}
    found = []
    for task in TASKS:
        weights = {e: next(v for name, v in values.items() if name.startswith(f"weight.{e}.")) for e in EXPERTS}
        others = sum(weights[other] for other in EXPERTS if other != task)
        found.append(0.75 - 0.6 * (weights[task] - 0.9) ** 2 - 0.08 * others)
    return np.clip(found, 0.02, 0.98)


class Ledger:
    """Writes the events of a run, trial by trial."""

    def __init__(self, *, seed=0, items=48, prompts="0", config=SPACE):
        self.rng, self.items = np.random.default_rng(seed), items
        self.config, self.space = config, space(config)
        hashes = {f"{split}/{task}": prompts for split in ("search", "selection", "report") for task in TASKS}
        names = [[dimension.name for dimension in self.space.dimensions]]
        self.events = [
            {"event": "begin", "version": LEDGER_VERSION, "objectives": {}, "prompts": hashes, "dimensions": names}
        ]
        self.count = 0

    def ask(self, kind, name, recipe, vector):
        self.events.append(Trial(self.count, kind, name, recipe, vector).ask_event())
        self.count += 1
        return self.count - 1

    def tell(self, number, means, split="search", **more):
        scores = {}
        for task, mean in zip(TASKS, means, strict=True):
            right = self.rng.random(self.items) < mean
            score, error = mean_with_error(right.astype(float))
            text = "".join("1" if one else "0" for one in right)
            scores[task] = {"mean": score, "error": error, "tokens": 5, "by_item": text, "marks": "0" * self.items}
        tell = {"event": "tell", "number": number, "split": split, "scores": scores}
        self.events.append({**tell, "fingerprint": f"{number:016x}", "seconds": 2.0, **more})

    def start(self):
        for baseline in baselines(self.space, Baselines((0.5,), (), 0)):
            number = self.ask(baseline.kind, baseline.name, baseline.recipe, baseline.vector)
            self.tell(number, abilities(self.space, self.space.vector(baseline.place)))
        return self

    def candidate(self, vector=None):
        vector = tuple(self.rng.random(len(self.space)).tolist()) if vector is None else tuple(vector)
        return self.ask("candidate", f"candidate {self.count}", self.space.recipe(vector), vector)

    def search(self, candidates):
        for _ in range(candidates):
            number = self.candidate()
            self.tell(number, abilities(self.space, self.events[-1]["vector"]))
        return self

    def fail(self, kind="candidate", message="not finite"):
        self.events.append({"event": "fail", "number": self.candidate(), "kind": kind, "message": message})
        return self

    def write(self, path, *, config=True, about=True, **keys) -> Path:
        path.mkdir(exist_ok=True, parents=True)
        (path / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in self.events))
        if config:
            (path / "config.yaml").write_text(yaml.safe_dump(configuration(space=self.config, **keys), sort_keys=False))
        if about:
            (path / "about.json").write_text(json.dumps(known(self.items).to_dict()))
        return path


def known(items):
    rows = {
        split: {task: tuple(Item(f"{split}:{i}", f"What is {i}?", f"{i}") for i in range(items)) for task in TASKS}
        for split in ("search", "selection", "report")
    }
    return About(Layout.of(LLAMA).outline.tensors, dict.fromkeys(TASKS, ("exact_match", True)), rows, ("more items",))
