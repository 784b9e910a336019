"""The plan of a search: what it will need and how long it will take, before anything heavy starts.

Where the models are on this machine, headers say what memory they take, and one measured candidate says what merging
and scoring cost. Where they are not, `models.shape` says what config.json says, nothing is fetched, and there are no
seconds. Only the search split is looked at. This is where the parts of the plan meet.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evomerge.checkpoints import ModelPool
from evomerge.doctor import measure_sizes
from evomerge.errors import UsageError
from evomerge.evaluation import EvalTask
from evomerge.evaluation.types import SPLITS, Split
from evomerge.merging.tensors import TORCH_DTYPES
from evomerge.recipes import SearchSpace
from evomerge.search.baselines import Baseline, baselines
from evomerge.search.config import SearchConfig, random_baselines
from evomerge.search.opening import SplitItems, open_pool, open_tasks, pick_items, spaces_of
from evomerge.search.plan.batches import batches
from evomerge.search.plan.cost import Cost, since_process_began
from evomerge.search.plan.disk import OUTCOME_BYTES, disk
from evomerge.search.plan.measure import measure
from evomerge.search.plan.measured import Measured
from evomerge.search.plan.needs import THIS_MACHINE, Limits, Needs, gpu_of
from evomerge.search.plan.result import Plan
from evomerge.search.plan.shape import Shape, absent_models
from evomerge.search.plan.total import Crew, known
from evomerge.search.plan.totals import totals
from evomerge.search.plan.verdict import compare
from evomerge.search.plan.work import allowed_candidates, steps
from evomerge.search.record import Trial
from evomerge.search.scorer import pick_device
from evomerge.search.workers.choosing import choose


def make_plan(
    config: SearchConfig,
    run: Path,
    *,
    measured: bool = True,
    seconds: float = 60.0,
    limits: Limits = THIS_MACHINE,
    optimizers: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Plan:
    """Plan a search.

    Args:
        config: the configuration.
        run: the run directory that it would have.
        measured: measure one candidate where the models are here and fit.
        seconds: about how long its scoring may take, and the questions to each optimizer.
        limits: memory to plan for, where it is not this machine's.
        optimizers: others to compare with.
        say: is told what is being done.

    Raises `UsageError` for anything that the search would refuse, and for models that are not here and have no shape.
    """
    absent = absent_models([config.models.base, *config.models.experts.values()])
    pool = None if absent else open_pool(config, check_weights=False)
    shape = Shape.of_pool(pool) if pool else _shape_of_config(config, absent)
    spaces = [stage.space for stage in spaces_of(config, shape.layout)]
    starting = baselines(spaces[0], replace(config.baselines, random=random_baselines(config)), seed=config.seed)
    tasks, items = open_tasks(config, pool) if pool else ({}, None)
    counts = _counts(config, items)
    gpu, crew = gpu_of(config, limits), crew_of(config, limits)
    needs = Needs(
        *(config, shape),
        methods={one.recipe.method for one in starting} | {_example(space).recipe.method for space in spaces},
        batches=batches(config, tasks, counts, pool, "cuda" if gpu else "cpu"),
        limits=limits,
        gpu=gpu,
        workers=1 if config.workers.name == "ray" else crew.workers,
    )
    host, device = needs.host(), needs.device()
    findings = needs.findings(host, device)

    found: Measured | None = None
    if pool and measured and all(finding.fits is not False for finding in findings):
        found, begun = _measure(config, pool, tasks, spaces[-1], starting, counts, seconds=seconds, say=say)
        host, device = needs.corrected(host, device, found)
        findings = needs.findings(host, device)

    each = None if found is None else (found.merge + found.score(known(counts["search"]))).seconds
    candidates = allowed_candidates(config, counts["search"], baselines=len(starting), seconds_each=each)
    work = steps(config, counts, baselines=len(starting), candidates=candidates or 0)
    written = disk(
        *(shape, work, _example(spaces[-1])),
        outcome_bytes=OUTCOME_BYTES if found is None else found.outcome_bytes,
        itemsize=TORCH_DTYPES[config.models.dtype].itemsize,
    )
    hint = "make room, or choose another directory"
    findings.append(compare("disk", written.run + written.export, _free_disk(run), hint=hint))
    return Plan(
        parameters=shape.parameters,
        weight_bytes=shape.weight_bytes,
        dimensions=tuple(map(len, spaces)),
        steps=tuple(work),
        host=host,
        device=device,
        disk=written,
        measured=found,
        totals=()
        if found is None
        else totals(
            *(config, found, work, spaces[-1]),
            start=begun,
            crew=crew,
            baselines=len(starting),
            candidates=candidates or 0,
            others=optimizers,
            seconds=seconds / 4,
            say=say,
        ),
        findings=tuple(findings),
        notes=tuple(_notes(config, crew, absent, found, candidates, counts)),
    )


def _shape_of_config(config: SearchConfig, absent: Sequence[str]) -> Shape:
    if config.models.shape is None:
        raise UsageError(
            f"model {absent[0]} is not on this machine: fetch it (hf download), or write what its config.json says "
            "under models.shape, to plan without it"
        )
    return Shape.of_config(config.models.shape, experts=len(config.models.experts), dtype=config.models.dtype)


def _counts(config: SearchConfig, items: SplitItems | None) -> dict[Split, dict[str, int | None]]:
    """Return split -> task -> items: of the tasks' data, or where these are not here, as configured (None: all)."""
    if items is None:
        return {split: dict.fromkeys(config.tasks, getattr(config.items, split)) for split in SPLITS}
    return {split: {task: len(ids) for task, ids in items[split].items()} for split in SPLITS}


def _measure(
    config: SearchConfig,
    pool: ModelPool,
    tasks: Mapping[str, EvalTask],
    space: SearchSpace,
    starting: Sequence[Baseline],
    counts: Mapping[Split, Mapping[str, int | None]],
    *,
    seconds: float,
    say: Callable[[str], None],
) -> tuple[Measured, Cost]:
    """Measure one candidate; return what it cost too to come as far as a search is before it loads a model."""
    say("opening the models")
    pool.check_weights()
    if config.space.get("importance", True):
        measure_sizes(pool, threads=os.cpu_count() or 1)
    begun = since_process_began()
    say("measuring one candidate")
    most = max(count or 0 for by_task in counts.values() for count in by_task.values())
    items = pick_items(tasks, "search", max(most, 1))
    device = pick_device(config.evaluation.device)
    return measure(config, pool, tasks, space, starting, items, device=device, seconds=seconds), begun


def _example(space: SearchSpace) -> Trial:
    """Return a candidate in the middle of the space."""
    vector = (0.5,) * len(space)
    return Trial(0, "candidate", "candidate 0", space.recipe(vector), vector)


def _free_disk(run: Path) -> int:
    """Return the bytes that are free where the run directory will be."""
    folder = run.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def crew_of(config: SearchConfig, limits: Limits) -> Crew:
    """Return who will score: on this machine as a search finds it out; elsewhere so many as are named, else one.

    Raises `UsageError` for what the search would refuse.
    """
    wanted = config.workers.devices
    if config.workers.name != "ray" and limits == THIS_MACHINE:
        return Crew(len(choose(config)[1]), len(os.sched_getaffinity(0)))
    if isinstance(wanted, int):
        return Crew(wanted)
    return Crew(1 if isinstance(wanted, str) else len(wanted))


def _notes(
    config: SearchConfig,
    crew: Crew,
    absent: Sequence[str],
    found: Measured | None,
    candidates: int | None,
    counts: Mapping[Split, Mapping[str, int | None]],
) -> Iterable[str]:
    if absent:
        yield f"{len(absent)} of the models are not on this machine: their shape is that of models.shape, no seconds"
    if config.workers.name == "ray":
        hint = "" if isinstance(config.workers.devices, int) else " (workers.devices=NUMBER says how many there are)"
        yield f"the Ray cluster is not asked: reckoned with {crew.workers} of its workers{hint}, each as one here"
    if crew.workers > 1:
        yield f"{crew.workers} workers score at a time: the memory above is that of each, the seconds are those of all"
    if config.evaluation.backend == "vllm":
        yield "vLLM keeps a model of its own in processes of its own: their memory is not in these numbers"
    if config.evaluation.device_map is not None:
        yield "the model is spread by evaluation.device_map: memory is reckoned as if it were in one place"
    if candidates is None:
        yield "the budget has no limit that can be counted in candidates here: disk and work are without them"
    for split, by_task in counts.items():
        if None in by_task.values():
            yield f"items.{split} is null (all), and the data were not loaded: the {split} split is not counted"
    if found is not None:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        yield (
            f"seconds are those of this machine as busy as it was while measuring (load {load:.1f} on "
            f"{os.cpu_count()} processors); processor seconds depend less on that"
        )
