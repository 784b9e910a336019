"""The plan of a search: what it will need and how long it will take, before anything heavy starts.

Where the models are on this machine, headers say what memory they take, and one measured candidate says what merging
and scoring cost. Where they are not, `models.shape` says what config.json says, nothing is fetched, and there are no
seconds. Only the search split is looked at. This is where the parts of the plan meet.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from evomerge.checkpoints import ModelPool
from evomerge.config import conf_dir
from evomerge.doctor import measure_sizes
from evomerge.errors import UsageError
from evomerge.evaluation import EvalTask, load_tasks
from evomerge.evaluation.types import MAX_GEN_TOKS, SPLITS, Split
from evomerge.merging.residence import available_memory
from evomerge.merging.tensors import TORCH_DTYPES
from evomerge.recipes import SearchSpace
from evomerge.search.baselines import Baseline, baselines
from evomerge.search.config import SearchConfig, random_baselines
from evomerge.search.plan import memory
from evomerge.search.plan.asking import asking
from evomerge.search.plan.cost import Cost, since_process_began
from evomerge.search.plan.disk import OUTCOME_BYTES, Disk, disk
from evomerge.search.plan.measure import Measured, measure, rates
from evomerge.search.plan.shape import Shape, absent_models
from evomerge.search.plan.total import Total, known, total
from evomerge.search.plan.usage import resident_memory
from evomerge.search.plan.verdict import Finding, compare
from evomerge.search.plan.work import Step, allowed_candidates, steps
from evomerge.search.record import Trial
from evomerge.search.scorer import load_chat, pick_device
from evomerge.search.start import open_pool, pick_items, spaces_of

PLAN_VERSION = 1

#: Tokens of a prompt where no prompt is here: five worked examples and a question.
_PROMPT = 1024


@dataclass(frozen=True)
class Limits:
    """What there is to be used: bytes of main memory and of a GPU's; None: what this machine has."""

    host: int | None = None
    device: int | None = None


@dataclass(frozen=True)
class Need:
    """Memory with the weights of base and experts resident, and streamed from their files, in bytes.

    Attributes:
        resident, streamed: what it is for, by reckoning.
        peak: the most at a time of the kind that will be chosen; from the measurement where there is one.
        chosen: resident or streamed.
        measured: whether the peak was measured.
    """

    resident: memory.Parts
    streamed: memory.Parts
    peak: int
    chosen: str
    measured: bool


@dataclass(frozen=True)
class Plan:
    """All that a plan says. `to_dict` is its JSON.

    Attributes:
        parameters: merged weights of one model.
        weight_bytes: of base and experts together.
        dimensions: of each stage of the search space.
        steps: the work.
        host, device: memory; device is None without a GPU.
        disk: what is written.
        measured: one candidate; None where nothing was measured.
        totals: the whole search: as configured first, then with racing the other way, then by other optimizers.
        findings: go or no-go, with reasons.
        notes: what a person should know about these numbers.
    """

    parameters: int
    weight_bytes: int
    dimensions: tuple[int, ...]
    steps: tuple[Step, ...]
    host: Need
    device: Need | None
    disk: Disk
    measured: Measured | None
    totals: tuple[Total, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def go(self) -> bool:
        """Whether nothing speaks against the search."""
        return all(finding.fits is not False for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        data = asdict(self)
        data["disk"]["run"] = self.disk.run
        for name, need in (("host", self.host), ("device", self.device)):
            if need is not None:
                data[name]["resident"]["peak"] = need.resident.peak
                data[name]["streamed"]["peak"] = need.streamed.peak
        for entry, one in zip(data["totals"], self.totals, strict=True):
            entry |= {"seconds": asdict(one.seconds), "cpu": one.cpu}
        if self.measured is not None:
            search = next(step.items for step in self.steps if step.phase == "candidates")
            data["measured"]["merge"] = asdict(self.measured.merge)
            data["measured"]["score"] = asdict(self.measured.score(known(search)))
            data["measured"]["rates"] = {
                task: {**asdict(line), "token": asdict(line.token)}
                for task, line in ((task, rates(points)) for task, points in self.measured.scoring.items())
            }
        return {"version": PLAN_VERSION, "go": self.go, **data}


def make_plan(
    config: SearchConfig,
    run: Path,
    *,
    measured: bool = True,
    seconds: float = 60.0,
    limits: Limits = Limits(),
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
    if absent and config.models.shape is None:
        raise UsageError(
            f"model {absent[0]} is not on this machine: fetch it (hf download), or write what its config.json says "
            "under models.shape, to plan without it"
        )
    pool = None if absent else open_pool(config, check_weights=False)
    shape = Shape.of_pool(pool) if pool else _shape_of_config(config)
    spaces = spaces_of(config, shape.layout)
    starting = baselines(spaces[0].space, replace(config.baselines, random=random_baselines(config)), seed=config.seed)
    tasks = (
        load_tasks(config.tasks, split_seed=config.evaluation.split_seed, chat=load_chat(config.tasks, pool))
        if pool
        else {}
    )
    counts = _counts(config, tasks)
    gpu = _on_gpu(config, limits)
    batches = _batches(config, tasks, counts, pool, "cuda" if gpu else "cpu")
    reckoned = _Reckoning(config, shape, starting, [stage.space for stage in spaces], batches, limits, gpu)
    host, device = reckoned.host(), reckoned.device()

    found: Measured | None = None
    begun = Cost(0.0, 0.0)
    findings = reckoned.findings(host, device)
    if pool is not None and measured and all(finding.fits is not False for finding in findings):
        say("opening the models")
        pool.check_weights()
        if config.space.get("importance", True):
            measure_sizes(pool, threads=os.cpu_count() or 1)
        begun = since_process_began()
        search = pick_items(tasks, "search", max(_largest(counts), 1))
        say("measuring one candidate")
        found = measure(
            *(config, pool, tasks, spaces[-1].space, starting, search),
            device=pick_device(config.evaluation.device),
            seconds=seconds,
        )
        host, device = reckoned.corrected(host, device, found)
        findings = reckoned.findings(host, device)

    each = None if found is None else (found.merge + found.score(known(counts["search"]))).seconds
    candidates = allowed_candidates(config, counts["search"], baselines=len(starting), seconds_each=each)
    work = steps(config, counts, baselines=len(starting), candidates=candidates or 0)
    totals: list[Total] = []
    if found is not None:
        totals = _totals(
            *(config, found, work, begun, spaces[-1].space, len(starting), candidates or 0),
            others=optimizers,
            seconds=seconds / 4,
            say=say,
        )
    written = disk(
        *(shape, work, _example(spaces[-1].space)),
        outcome_bytes=OUTCOME_BYTES if found is None else found.outcome_bytes,
        itemsize=TORCH_DTYPES[config.models.dtype].itemsize,
    )
    findings.append(
        compare("disk", written.run + written.export, _free_disk(run), hint="make room, or choose another directory")
    )
    return Plan(
        parameters=shape.parameters,
        weight_bytes=shape.weight_bytes,
        dimensions=tuple(len(stage.space) for stage in spaces),
        steps=tuple(work),
        host=host,
        device=device,
        disk=written,
        measured=found,
        totals=tuple(totals),
        findings=tuple(findings),
        notes=tuple(_notes(config, absent, found, candidates, counts)),
    )


class _Reckoning:
    """Memory by reckoning, and what the measurement changes about it."""

    def __init__(
        self,
        config: SearchConfig,
        shape: Shape,
        starting: Sequence[Baseline],
        spaces: Sequence[SearchSpace],
        batches: Mapping[str, memory.Batch],
        limits: Limits,
        gpu: str | None,
    ) -> None:
        self.config, self.shape, self.batches, self.limits, self.gpu = config, shape, batches, limits, gpu
        self.methods = {one.recipe.method for one in starting} | {_example(space).recipe.method for space in spaces}
        self.itemsize = TORCH_DTYPES[config.evaluation.dtype].itemsize
        self.models = 1 + len(config.models.experts)
        self.program = resident_memory()
        self.free_host = available_memory() + self.program if limits.host is None else limits.host
        self.free_device: int | None = limits.device
        if gpu and limits.device is None and torch.cuda.is_available():
            self.free_device = torch.cuda.mem_get_info(torch.device(gpu))[0]

    def host(self) -> Need:
        """Main memory."""
        parts = {resident: self._on_host(resident) for resident in (True, False)}
        room = memory.SHARE_OF_HOST * self.free_host
        chosen = self._chosen(self.shape.weight_bytes, room) if not self.gpu else self._chosen_on_gpu()
        return Need(parts[True], parts[False], parts[chosen == "resident"].peak, chosen, False)

    def _on_host(self, resident: bool) -> memory.Parts:
        if self.gpu:
            return memory.beside_a_gpu(
                self.shape,
                program=self.program,
                there_is=self.free_host,
                itemsize=self.itemsize,
                resident=resident,
            )
        return memory.on_host(
            self.shape,
            program=self.program,
            there_is=self.free_host,
            itemsize=self.itemsize,
            experts=self.models - 1,
            methods=self.methods,
            batches=self.batches.values(),
            resident=resident,
        )

    def device(self) -> Need | None:
        """A GPU's memory; None without one."""
        if not self.gpu:
            return None
        parts = {
            resident: memory.on_device(
                self.shape,
                there_is=self.free_device,
                itemsize=self.itemsize,
                models=self.models,
                batches=self.batches.values(),
                resident=resident,
            )
            for resident in (True, False)
        }
        chosen = self._chosen_on_gpu()
        return Need(parts[True], parts[False], parts[chosen == "resident"].peak, chosen, False)

    def corrected(self, host: Need, device: Need | None, found: Measured) -> tuple[Need, Need | None]:
        """Return the needs with what was measured in the place of what was reckoned.

        The batches of the measurement may have been smaller than the search's: what these take more is reckoned.
        """
        kind = "cuda" if self.gpu else "cpu"
        need, there_is = (host, self.free_host) if device is None else (device, self.free_device)
        parts = need.resident if need.chosen == "resident" else need.streamed
        left = None if there_is is None else there_is - sum(parts.lasting.values())
        large, small = 0, 0
        for task, batch in self.batches.items():
            rows = memory.rows_of(found.scoring[task][-1].items, self.config.evaluation.batch_size, kind)
            large = max(large, self._scoring(batch, kind, left))
            small = max(small, self._scoring(replace(batch, rows=rows), kind, left))
        more = max(0, large - small)
        if device is None:
            peak = max(found.memory.building, found.memory.scoring + more)
            return replace(host, peak=peak, measured=True), None
        peak = max(found.memory.building, found.memory.scoring)
        return replace(host, peak=peak, measured=True), replace(device, peak=found.memory.device + more, measured=True)

    def findings(self, host: Need, device: Need | None) -> list[Finding]:
        """Hold the needs against what there is."""
        found = [compare("main memory", host.peak, self.free_host, hint="write workers.memory=files, or fewer items")]
        if device is not None:
            found.append(
                compare(
                    "GPU memory", device.peak, self.free_device, hint="spread the model (evaluation.device_map=auto)"
                )
            )
        return found

    def _scoring(self, batch: memory.Batch, kind: str, left: int | None) -> int:
        fitted = memory.fitted(self.shape, batch, self.itemsize, kind, left)
        return memory.scoring(self.shape, fitted, self.itemsize, kind)

    def _chosen(self, size: int, room: float) -> str:
        told = self.config.workers.memory
        resident = told == "resident" or (told == "auto" and size <= room)
        return "resident" if resident else "streamed"

    def _chosen_on_gpu(self) -> str:
        free = 0 if self.free_device is None else self.free_device - self.shape.parameters * self.itemsize
        return self._chosen(self.shape.weight_bytes, memory.SHARE_OF_DEVICE * free)


def _shape_of_config(config: SearchConfig) -> Shape:
    assert config.models.shape is not None
    return Shape.of_config(config.models.shape, experts=len(config.models.experts), dtype=config.models.dtype)


def _counts(config: SearchConfig, tasks: Mapping[str, EvalTask]) -> dict[Split, dict[str, int | None]]:
    """Return split -> task -> items: of the tasks' data, or where these are not here, as configured (None: all)."""
    if not tasks:
        return {split: dict.fromkeys(config.tasks, getattr(config.items, split)) for split in SPLITS}
    found: dict[Split, dict[str, int | None]] = {}
    for split in SPLITS:
        picked = pick_items(tasks, split, getattr(config.items, split))
        found[split] = {task: len(ids) for task, ids in picked.items()}
    return found


def _largest(counts: Mapping[Split, Mapping[str, int | None]]) -> int:
    return max(count or 0 for by_task in counts.values() for count in by_task.values())


def _on_gpu(config: SearchConfig, limits: Limits) -> str | None:
    """Return the GPU that the search would score on; None: the CPU. A GPU's memory that was named stands for one."""
    wanted = config.evaluation.device
    if limits.device is not None:
        return "cuda" if wanted in ("auto", "cpu") else wanted
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"evaluation.device={wanted}: no GPU can be used here; name its memory with --gpu-memory")
    device = pick_device(wanted)
    return device if device.startswith("cuda") else None


def _batches(
    config: SearchConfig,
    tasks: Mapping[str, EvalTask],
    counts: Mapping[Split, Mapping[str, int | None]],
    pool: ModelPool | None,
    kind: str,
) -> dict[str, memory.Batch]:
    """Return each task's largest batch; prompts are measured on items of the search split."""
    tokenize = None if pool is None else _tokenizer(pool)
    found = {}
    for task in config.tasks:
        most = max((by_task[task] or MAX_GEN_TOKS for by_task in counts.values()), default=1)
        prompt, answer = _PROMPT, MAX_GEN_TOKS
        if tokenize is not None and task in tasks:
            items = pick_items({task: tasks[task]}, "search", 64)[task]
            prompt = max(tokenize(tasks[task].prompt(item)) for item in items)
            settings = tasks[task].generation_settings
            generating = settings["request"] == "generate_until"
            answer = int(settings["options"].get("max_gen_toks", MAX_GEN_TOKS)) if generating else 0
        found[task] = memory.Batch(memory.rows_of(most, config.evaluation.batch_size, kind), prompt, answer)
    return found


def _tokenizer(pool: ModelPool) -> Callable[[str], int]:
    from transformers import AutoTokenizer

    from evomerge.evaluation.quiet import undisturbed

    with undisturbed(), pool.live_directory() as (path, _):
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
    return lambda text: len(tokenizer(text)["input_ids"])


def _totals(
    config: SearchConfig,
    found: Measured,
    work: Sequence[Step],
    begun: Cost,
    space: SearchSpace,
    known_before: int,
    candidates: int,
    *,
    others: Iterable[str],
    seconds: float,
    say: Callable[[str], None],
) -> list[Total]:
    """Sum up: the search as configured, the other way of racing, and the same for other optimizers."""
    items = next(known(step.items) for step in work if step.phase == "candidates")
    own = config.optimizer.name
    result: list[Total] = []
    for name in dict.fromkeys((own, *others)):
        options, scalarization = _options(config, name)
        say(f"asking {name}")
        cost = asking(
            *(name, options, space.dimensions, items),
            scalarization=scalarization,
            known=known_before,
            candidates=candidates,
            seed=config.seed,
            seconds=seconds,
        )
        for raced in (config.racing.enabled, not config.racing.enabled):
            result.append(
                total(
                    *(found, work),
                    start=begun,
                    optimizer=name,
                    asking=cost,
                    racing=config.racing.settings if raced else None,
                )
            )
    return result


def _options(config: SearchConfig, name: str) -> tuple[Mapping[str, Any], str]:
    """Return an optimizer's options and scalarization: as configured, or as its file in conf/ has them."""
    if name == config.optimizer.name:
        return config.optimizer.options, config.optimizer.scalarization
    file = conf_dir() / "optimizer" / f"{name}.yaml"
    if not file.is_file():
        known_names = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise UsageError(f"optimizer {name!r} is unknown; known: {known_names}")
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    return data["options"], data["scalarization"]


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


def _notes(
    config: SearchConfig,
    absent: Sequence[str],
    found: Measured | None,
    candidates: int | None,
    counts: Mapping[Split, Mapping[str, int | None]],
) -> Iterable[str]:
    if absent:
        yield f"{len(absent)} of the models are not on this machine: their shape is that of models.shape, no seconds"
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
