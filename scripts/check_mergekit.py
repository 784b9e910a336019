"""Are we right, and do we say to mergekit what we mean? Random recipes, exported and run by mergekit 0.1.5 itself.

    python scripts/check_mergekit.py [--python MERGEKIT_VENV/bin/python] [--json FILE] [--quick]

For every method that both have, ten random recipes with values per layer are built on a random float32 family: by
evomerge, and by mergekit from the exported YAML, in a process and a virtual environment of its own. Each tensor must
agree to 1e-6 of its largest element. One recipe a method goes through the real commands, `evomerge merge` and
`mergekit-yaml`. Each YAML is also imported again, and the recipe that comes out is built; so are configurations as
people write them, with gradients, filters, slices and modules. Exits 1 if anything differs.

Without --python the environment is looked for, or made with venv and pip, in the folder of --environment. mergekit is
LGPL-3.0: it is run, and none of it is here.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file

from evomerge.checkpoints import ModelPool
from evomerge.errors import EvomergeError
from evomerge.mergekit import from_mergekit, to_mergekit
from evomerge.merging import METHODS, stream
from evomerge.recipes import Layout, Recipe
from evomerge.recipes.groups import OUTSIDE
from evomerge.recipes.recipe import Value
from evomerge.reporting.tables import print_table

VERSION = "0.1.5"
TOLERANCE = 1e-6
RECIPES, QUICK_RECIPES = 10, 2
LAYERS = 4

#: Methods that draw masks: equal where nothing is dropped.
STOCHASTIC = ("dare_linear", "dare_ties", "della", "della_linear")

#: Options that are set at random: (low, high), or choices.
OPTIONS: dict[str, dict[str, tuple[Value, ...]]] = {
    "linear": {"normalize": (True, False)},
    "task_arithmetic": {"normalize": (True, False), "lambda": (0.5, 1.5)},
    "ties": {"normalize": (True, False), "lambda": (0.5, 1.5)},
    "dare_linear": {"normalize": (True, False), "lambda": (0.5, 1.5)},
    "dare_ties": {"normalize": (True, False), "lambda": (0.5, 1.5)},
    "breadcrumbs": {"normalize": (True, False), "lambda": (0.5, 1.5)},
    "breadcrumbs_ties": {"normalize": (True, False), "lambda": (0.5, 1.5)},
    "della": {"normalize": (True, False), "lambda": (0.5, 1.5)},
    "della_linear": {"normalize": (True, False), "lambda": (0.5, 1.5)},
    "slerp": {"t": (0.0, 1.0)},
    "nuslerp": {"nuslerp_row_wise": (True, False), "nuslerp_flatten": (True, False)},
    "multislerp": {"normalize_weights": (True, False), "eps": (1e-9, 1e-7)},
    "karcher": {"max_iter": (1.0, 20.0), "tol": (1e-6, 1e-4)},
    "model_stock": {"filter_wise": (True, False)},
    "sce": {"select_topk": (0.1, 1.0)},
    "ram": {"epsilon": (1e-5, 2e-2)},
    "ramplus_tl": {"epsilon": (1e-5, 2e-2), "r": (0.0, 0.5), "alpha": (0.0, 0.5)},
    "passthrough": {"scale": (0.5, 1.5)},
    "metrics_weighted": {"power": (0.5, 3.0), "better": ("smaller", "larger")},
}
#: Per-expert parameters likewise.
PARAMETERS: dict[str, tuple[float, float]] = {
    "weight": (0.1, 1.3),
    "drop_rate": (0.0, 0.95),
    "gamma": (0.0, 0.1),
    "metric": (0.5, 3.0),
}
NUMBER_OF_EXPERTS = {"nuslerp": (2, 2), "slerp": (1, 2), "passthrough": (1, 1), "model_stock": (2, 3)}

#: Configurations as people write them, for the import alone: beginning with method and base, for four layers.
WRITTEN = {
    "gradients under filters": """merge_method: slerp, base_model: $BASE,
        slices: [{sources: [{model: $BASE, layer_range: [0, 4]}, {model: $A, layer_range: [0, 4]}]}],
        parameters: {t: [
          {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}, {filter: mlp, value: [1, 0.2]}, {value: 0.4}]}""",
    "slerp from the second": """merge_method: slerp, base_model: $A,
        models: [{model: $BASE}, {model: $A}], parameters: {t: [0.1, 0.9]}""",
    "slices that start from one and the other": """merge_method: slerp, slices: [
        {sources: [{model: $A, layer_range: [0, 2]}, {model: $B, layer_range: [0, 2]}],
         base_model: $A, parameters: {t: 0.2}},
        {sources: [{model: $A, layer_range: [2, 4]}, {model: $B, layer_range: [2, 4]}],
         base_model: $B, parameters: {t: 0.3}}]""",
    "scopes": """merge_method: ties, base_model: $BASE, slices: [
        {sources: [
           {model: $A, layer_range: [0, 3], parameters: {weight: [0.2, 1]}}, {model: $B, layer_range: [0, 3]},
           {model: $BASE, layer_range: [0, 3]}], parameters: {density: 0.5, lambda: 1.2}},
        {sources: [
           {model: $A, layer_range: [3, 4]}, {model: $B, layer_range: [3, 4], parameters: {weight: [0.1, 0.9]}},
           {model: $BASE, layer_range: [3, 4]}], parameters: {normalize: [false, true]}}],
        parameters: {weight: 0.7, density: [{filter: mlp, value: [0.9, 0.3]}], normalize: true, int8_mask: true}""",
    "modules, and a base that is listed": """merge_method: task_arithmetic, base_model: $BASE,
        modules: {default: {
          parameters: {weight: [{filter: layernorm, value: 0.9}]},
          models: [{model: $BASE}, {model: $A}, {model: $B, parameters: {weight: [-0.4, "5e-1"]}}]}},
        parameters: {weight: 0.1}""",
    "a model in some slices only": """merge_method: linear, parameters: {weight: 0.5}, slices: [
        {sources: [{model: $A, layer_range: [0, 1]}, {model: $B, layer_range: [0, 1]}]},
        {sources: [
          {model: $C, layer_range: [1, 4]}, {model: $B, layer_range: [1, 4], parameters: {weight: [0, 1]}}]}]""",
    "layers of several models": """merge_method: passthrough, slices: [
        {sources: [{model: $A, layer_range: [0, 1]}]}, {sources: [{model: $BASE, layer_range: [1, 3]}]},
        {sources: [{model: $A, layer_range: [3, 4]}]}]""",
    "a mean with the base in it": "merge_method: karcher, base_model: $BASE, models: [{model: $A}, {model: $B}]",
    "breadcrumbs by layer": """merge_method: breadcrumbs, base_model: $BASE,
        models: [{model: $A, parameters: {density: [0.3, 0.9]}}, {model: $C}],
        parameters: {weight: 1, gamma: [0.0, 0.2]}""",
}

# What runs inside mergekit's environment: it calls mergekit, many merges in one process.
RUNNER = """
import json, sys, traceback, yaml, torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
torch.set_num_threads(1)
for config, out in json.load(open(sys.argv[1])):
    try:
        data = yaml.safe_load(open(config))
        options = MergeOptions(quiet=True, write_model_card=False)
        run_merge(MergeConfiguration.model_validate(data), out, options=options)
    except Exception as error:
        open(out + ".error", "w").write(f"{type(error).__name__}: {error}")
"""


@dataclass(frozen=True)
class Result:
    """One recipe: the largest difference of each way, relative to the tensor's largest element.

    Attributes:
        method: the method.
        number: of the recipe.
        mergekit: mergekit's tensors against ours.
        imported: the tensors of the recipe that the import gives, against ours.
        equal, tensors: how many of mergekit's tensors have our bits, of how many.
        command: whether the real commands built it.
        worst: the tensor that differs most.
        error: why there is no result, if there is none.
    """

    method: str
    number: int
    mergekit: float
    imported: float
    equal: int
    tensors: int
    command: bool
    worst: str = ""
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether both ways agree."""
        return not self.error and max(self.mergekit, self.imported) <= TOLERANCE


# ---- the family ------------------------------------------------------------------------------------------------------


def write_family(folder: Path, seed: int) -> dict[str, Path]:
    """Write a base and three experts: tiny random float32 Llamas, no two elements of a task vector of one magnitude."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=96,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    generator = torch.Generator().manual_seed(seed)
    base = {
        name: float("norm" in name) + 0.05 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in LlamaForCausalLM(config).state_dict().items()
    }
    families = {"base": base}
    for label in ("a", "b", "c"):
        families[label] = {name: tensor + _noise(tensor, generator) for name, tensor in base.items()}
    paths = {}
    for label, tensors in families.items():
        model = LlamaForCausalLM(config)
        model.load_state_dict(tensors)
        paths[label] = folder / label
        model.to(torch.float32).save_pretrained(paths[label])
    return paths


def _noise(base: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a task vector, drawn again where two of its elements, as they come out in float32, have one magnitude."""
    noise = 0.01 * torch.randn(base.shape, generator=generator)
    while True:
        magnitudes = ((base + noise) - base).abs().flatten().numpy()
        _, where, counts = np.unique(magnitudes, return_inverse=True, return_counts=True)
        tied = torch.from_numpy(counts[where] > 1)
        if not tied.any():
            return noise
        noise.view(-1)[tied] = 0.01 * torch.randn(int(tied.sum()), generator=generator)


# ---- recipes ---------------------------------------------------------------------------------------------------------


def random_recipe(method: str, paths: dict[str, Path], layout: Layout, rng: np.random.Generator) -> Recipe:
    """Return a recipe with random values for random groups."""
    fewest, most = NUMBER_OF_EXPERTS.get(method, (2, 3))
    labels = ["a", "b", "c"][: int(rng.integers(fewest, most + 1))]
    options = {name: random_groups(choices, layout, rng) for name, choices in OPTIONS[method].items()}
    if "max_iter" in options:
        options["max_iter"] = {group: float(int(float(value))) for group, value in options["max_iter"].items()}
    if method in ("nuslerp", "multislerp"):
        options["task_vectors"] = {"all": bool(rng.integers(2))}
    signed = method == "task_arithmetic" and set(options["normalize"].values()) == {False}
    parameters = {}
    for parameter in METHODS[method].parameters:
        if parameter.name in PARAMETERS:
            low, high = PARAMETERS[parameter.name]
            if parameter.name == "weight" and signed:
                low = -0.5
            if parameter.name == "drop_rate" and method in STOCHASTIC:
                low = high = 0.0
            parameters[parameter.name] = {label: random_groups((low, high), layout, rng) for label in labels}
    experts = {label: str(paths[label]) for label in labels}
    return Recipe(method, str(paths["base"]), experts, parameters=parameters, options=options, dtype="float32")


def random_groups(choices: tuple[Value, ...], layout: Layout, rng: np.random.Generator) -> dict[str, Value]:
    """Return group -> value for a random division of the model."""
    divisions: list[str | int] = [1, 2, 3, "layer", "global"]
    granularity = divisions[int(rng.integers(len(divisions)))]
    own = [group for group in OUTSIDE if rng.integers(2)]
    groups = layout.divide(granularity, split=bool(rng.integers(2)), own=own)
    return {group: _draw(choices, rng) for group in groups}


def _draw(choices: tuple[Value, ...], rng: np.random.Generator) -> Value:
    if isinstance(choices[0], bool | str):
        return choices[int(rng.integers(len(choices)))]
    return round(float(rng.uniform(float(choices[0]), float(choices[1]))), 9)


# ---- mergekit --------------------------------------------------------------------------------------------------------


def environment(folder: Path) -> Path:
    """Return the python of mergekit's environment, making the environment if it is not there."""
    python = folder / "bin" / "python"
    if not (folder / "bin" / "mergekit-yaml").is_file():
        print(f"making mergekit's environment in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        # torch is held as our own is, and installed first: mergekit must not draw in another one
        held = f"torch=={torch.__version__.partition('+')[0]}"
        constraints = folder / "constraints.txt"
        constraints.write_text(held + "\n")
        for package in (held, f"mergekit=={VERSION}"):
            subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", constraints, package], check=True)
    return python


def run_many(python: Path, jobs: list[tuple[Path, Path]], work: Path) -> None:
    """Run merges in one process of mergekit's."""
    (work / "jobs.json").write_text(json.dumps([[str(config), str(out)] for config, out in jobs]))
    (work / "runner.py").write_text(RUNNER)
    _run([str(python), str(work / "runner.py"), str(work / "jobs.json")], work / "runner.log")


def run_commands(python: Path, recipe: Recipe, work: Path) -> tuple[Path, Path]:
    """Build a recipe by the commands that users type; return our directory and mergekit's."""
    file, config, ours, theirs = work / "recipe.yaml", work / "config.yaml", work / "ours", work / "theirs"
    file.write_text(recipe.to_yaml())
    own = [sys.executable, "-m", "evomerge.cli", "merge", str(file), str(ours), "--mergekit", str(config)]
    _run(own, work / "log.txt")
    command = [str(python.with_name("mergekit-yaml")), str(config), str(theirs), "--quiet", "--no-write-model-card"]
    _run([*command, "--num-threads", "1"], work / "log.txt")
    return ours, theirs


def _run(command: list[str], log: Path) -> None:
    with log.open("a") as file:
        done = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env={"OMP_NUM_THREADS": "1", **os.environ}
        )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: " + " ".join(log.read_text().split()[-60:]))


# ---- the comparison --------------------------------------------------------------------------------------------------


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return max |a - b| / max |b| (0 where both are zero)."""
    most = float(theirs.abs().max())
    gap = float((ours.double() - theirs.double()).abs().max())
    return gap / most if most else gap


def compare(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> tuple[float, str, int]:
    """Return the largest difference, its tensor, and how many tensors have the same bits."""
    if ours.keys() != theirs.keys():
        raise RuntimeError(f"other tensors: {sorted(ours.keys() ^ theirs.keys())[:3]}")
    gaps = {name: difference(ours[name], theirs[name]) for name in ours}
    worst = max(gaps, key=lambda name: gaps[name] if gaps[name] == gaps[name] else float("inf"))
    return gaps[worst], worst, sum(torch.equal(ours[name], theirs[name]) for name in ours)


def load(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a model directory."""
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def check(methods: list[str], count: int, python: Path, work: Path, *, seed: int, commands: bool) -> Iterator[Result]:
    """Yield a result a recipe."""
    paths = write_family(work / "family", seed)
    experts = {label: str(path) for label, path in paths.items() if label != "base"}
    pool = ModelPool.open(str(paths["base"]), experts)
    rng = np.random.default_rng(seed)
    cases: list[tuple[Recipe, int, Path, Any]] = []
    for method in methods:
        for number in range(count):
            recipe = random_recipe(method, paths, pool.layout, rng)
            out = work / f"{method}-{number}"
            out.mkdir()
            data, _ = to_mergekit(recipe, pool.layout)
            (out / "config.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
            cases.append((recipe, number, out, data))
    for name, text in WRITTEN.items():
        out = work / name.replace(" ", "-")
        out.mkdir()
        filled = Template(text).substitute({label.upper(): path for label, path in paths.items()})
        (out / "config.yaml").write_text(f"{{{filled}, dtype: float32}}")
    jobs = [(out / "config.yaml", out / "theirs") for out in (*(case[2] for case in cases), *_written(work))]
    run_many(python, jobs, work)
    for recipe, number, out, data in cases:
        try:
            ours = dict(stream(recipe, pool))
            gap, worst, equal = compare(ours, built(out))
            by_command = commands and number == 0
            if by_command:
                (out / "command").mkdir()
                again, theirs = map(load, run_commands(python, recipe, out / "command"))
                if compare(again, ours)[2] != len(ours):
                    raise RuntimeError("evomerge merge builds something else than the engine")
                gap = max(gap, compare(again, theirs)[0])
            imported = compare(imported_from(data, pool.layout, recipe.base), ours)[0]
            yield Result(recipe.method, number, gap, imported, equal, len(ours), by_command, worst)
        except (EvomergeError, RuntimeError) as error:
            yield Result(recipe.method, number, np.inf, np.inf, 0, 0, False, error=f"{type(error).__name__}: {error}")
    for name, out in zip(WRITTEN, _written(work), strict=True):
        try:
            data = yaml.safe_load((out / "config.yaml").read_text())
            gap, worst, equal = compare(imported_from(data, pool.layout, None), theirs := built(out))
            yield Result(name, 0, gap, gap, equal, len(theirs), False, worst)
        except (EvomergeError, RuntimeError) as error:
            yield Result(name, 0, np.inf, np.inf, 0, 0, False, error=f"{type(error).__name__}: {error}")


def _written(work: Path) -> list[Path]:
    return [work / name.replace(" ", "-") for name in WRITTEN]


def built(out: Path) -> dict[str, torch.Tensor]:
    """Return what mergekit built."""
    if (out / "theirs.error").is_file():
        raise RuntimeError((out / "theirs.error").read_text())
    return load(out / "theirs")


def imported_from(data: Any, layout: Layout, base: str | None) -> dict[str, torch.Tensor]:
    """Return the tensors of the recipe that a configuration is imported as."""
    recipe, _ = from_mergekit(data, layout, base=base)
    return dict(stream(recipe, ModelPool.open(recipe.base, recipe.experts, check_weights=False)))


def main() -> int:
    """Run the check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, help="python of an environment that has mergekit")
    parser.add_argument("--environment", type=Path, default=Path.home() / ".cache" / "evomerge" / f"mergekit-{VERSION}")
    parser.add_argument("--methods", nargs="+", default=[name for name in OPTIONS if name in METHODS])
    parser.add_argument("--quick", action="store_true", help="two recipes a method, without the real commands")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    python = options.python or environment(options.environment)
    count = QUICK_RECIPES if options.quick else RECIPES
    with tempfile.TemporaryDirectory() as work:
        results = []
        for result in check(options.methods, count, python, Path(work), seed=options.seed, commands=not options.quick):
            results.append(result)
            print(f"{result.method} {result.number}: {'agrees' if result.passed else 'differs'}", file=sys.stderr)
    rows = []
    for method in (*options.methods, *WRITTEN):
        own = [result for result in results if result.method == method]
        rows.append(
            [
                method,
                f"{sum(result.passed for result in own)} of {len(own)}",
                f"{max(result.mergekit for result in own):.1e}",
                f"{sum(result.equal for result in own)} of {sum(result.tensors for result in own)}",
                f"{max(result.imported for result in own):.1e}",
                "yes" if any(result.command for result in own) else "no",
            ]
        )
    header = ["method", "recipes agree", "largest difference", "tensors bit-equal", "after import", "commands"]
    print_table(header, rows, title=f"evomerge against mergekit {VERSION}, float32, seed {options.seed}")
    for result in results:
        if not result.passed:
            print(f"{result.method} {result.number}: {result.error or f'{result.mergekit:.1e} at {result.worst}'}")
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
