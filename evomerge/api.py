"""evomerge in a notebook or a script: start a search, open a run, look at it, get its models.

    run = evomerge.search("experiment=quickstart")       # or evomerge.Run.open("runs/quickstart-map-seed0")
    run.front                                            # a pandas data frame
    model = run.merge()                                  # a live transformers model

This file only puts together what the other rooms do; the command line does the same things with the same words.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from evomerge.checkpoints import ModelPool
from evomerge.config import compose, conf_dir
from evomerge.errors import UsageError, WorkError
from evomerge.evaluation import EvalTask, OutcomeStore, find_task_config, load_model, load_tasks
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.types import SPLITS, Split
from evomerge.merging import ExportReport, MergeEngine
from evomerge.merging.export import SHARD_BYTES
from evomerge.optimizers import OPTIMIZERS
from evomerge.recipes import Recipe
from evomerge.search.config import SearchConfig
from evomerge.search.directory import RunDirectory, outcomes_of
from evomerge.search.evaluate import summary
from evomerge.search.export import export_recipe, export_trial
from evomerge.search.frames import outcomes_frame, parameters_frame, scores_frame, trials_frame
from evomerge.search.opening import inherit, open_tasks, pick_items
from evomerge.search.predicted import Predicted
from evomerge.search.preferred import predicted_choice
from evomerge.search.record import Record
from evomerge.search.results import selected
from evomerge.search.scorer import load_chat, load_scorer, pick_device, start_sandbox
from evomerge.search.show import pick_trial
from evomerge.search.start import run_search

#: Which model: a candidate's or baseline's number, "best" (on the selection split), "knee" (of the front), or a recipe.
Pick = int | str | Recipe


def search(
    *overrides: str,
    base: str | None = None,
    experts: Mapping[str, str] | None = None,
    tasks: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    method: str | None = None,
    space: str | None = None,
    optimizer: str | None = None,
    candidates: int | None = None,
    seed: int | None = None,
    run_dir: str | Path | None = None,
    open_report: bool = True,
) -> "Run":
    """Run or resume a search, as `evomerge search` does, and return its run.

    Args:
        overrides: of the configuration, as on the command line: "experiment=quickstart", "items.search=64", ...
        base: the base model: a directory, `org/name@revision` or `zoo:name`; goes with `experts`.
        experts: label -> model, in place of those of the configuration.
        tasks: names (of `conf/tasks`, of lm-eval, or paths of YAML files), or name -> keys as in `conf/tasks`.
        method, space, optimizer: a file of that group in `conf/`; an optimizer may also be one of your own, registered
            in `evomerge.optimizers.OPTIMIZERS`.
        candidates: how many the search may propose (`budget.candidates`).
        seed: of the optimizer.
        run_dir: where to; a search that was begun there goes on. None: as on the command line, `runs/...`.
        open_report: score the chosen candidate and the baselines on the report items at the end. False where several
            searches are compared: open the report of the one that you choose, by the same call with True.

    Raises `UsageError` if something asked for makes no sense, `WorkError` if the search fails.
    """
    if (base is None) != (experts is None):
        raise UsageError("search: base and experts go together; give both or neither")
    groups = {"method": method, "space": space, "budget.candidates": candidates, "seed": seed}
    words = [f"{key}={value}" for key, value in groups.items() if value is not None]
    data, directory = compose([*overrides, *words, *_optimizer_words(optimizer)])
    if base is not None and experts is not None:
        data["models"].pop("shape", None)  # of the models that these take the place of
        data["models"] |= {"base": str(base), "experts": {label: str(model) for label, model in experts.items()}}
    if tasks is not None:
        data["tasks"] = _task_keys(tasks)
    config = SearchConfig.from_dict(data)
    path = Path(run_dir) if run_dir is not None else directory
    with undisturbed():
        run_search(config, data, path, open_report=open_report)
    return Run.open(path)


@dataclass(frozen=True, repr=False)
class Run:
    """A run as it was when it was opened; open it again to see what has come since.

    Wherever a method takes `pick` and `prefer`, they say which model: `pick` is the number of a candidate or baseline,
    "best" (on the selection split), "knee" (of the front), or any recipe of these models; `prefer`, task -> weight,
    means the front's best by weighted scores.

    Attributes:
        path: its directory.
        config: its configuration, as plain data.
        record: everything that its ledger says.
    """

    path: Path
    config: Mapping[str, Any]
    record: Record

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open a run directory, finished or not; `UsageError` if there is no run, or nothing in it yet."""
        directory = RunDirectory(Path(path))
        record = directory.read()
        if not record.trials:
            raise UsageError(f"{path}: this run has not begun to score yet")
        return cls(directory.path, config=directory.read_config(), record=record)

    def __repr__(self) -> str:
        """Say where the run is and how far it has come."""
        return f"<Run {self.path}: {len(self.record.candidates)} candidates scored, best {self.best}>"

    # ---- what was found ----------------------------------------------------------------------------------------------

    @property
    def best(self) -> int | None:
        """The number of the candidate that is best on the selection split; None before any was scored there."""
        return next((trial.number for trial in selected(self.record)), None)

    @property
    def front(self) -> pd.DataFrame:
        """The rows of `trials` that no other candidate beats on every task, what their scores are worth best first."""
        trials = self.trials
        return trials[trials.front].sort_values("worth", ascending=False, kind="stable")

    @property
    def trials(self) -> pd.DataFrame:
        """One row a baseline or candidate, by number, with its mean score on each split and task.

        `split/mean normalised` joins the tasks: 0 is the base, 1 the best experts. `worth` is what the search score is
        worth: shrunk, since the best of many has been lucky, too.
        """
        return trials_frame(self.record)

    @property
    def scores(self) -> pd.DataFrame:
        """One row a trial, split and task: the mean with its 95 % interval, how sound the answers are, the gain over
        the best expert and the part of it that is health.
        """
        return scores_frame(self.record)

    @property
    def parameters(self) -> pd.DataFrame:
        """One row a candidate, by number: the values of its recipe, in columns `parameter/expert/group`."""
        return parameters_frame(self.record)

    @property
    def outcomes(self) -> pd.DataFrame:
        """One row a trial, split, task and item: score, what is wrong with the answer, and the answer.

        Reads the tasks' data, to name the items, and every answer of the run.
        """
        config = SearchConfig.from_dict(self.config)
        with undisturbed():
            _, items = open_tasks(config, self._pool(self.record.trials[0].recipe))
        store = OutcomeStore(outcomes_of(RunDirectory(self.path), self.config), read_also=inherit(config)[0])
        keys = {trial.fingerprint for trial in self.record.of_kind() if trial.fingerprint is not None}
        return outcomes_frame(self.record, items, {key: store.of_model(key) for key in sorted(keys)})

    @property
    def report_path(self) -> Path:
        """The page with all figures, `report.html`; written when a search ends, and by `evomerge report`."""
        return RunDirectory(self.path).page

    # ---- one candidate -----------------------------------------------------------------------------------------------

    def recipe(self, pick: Pick = "best", *, prefer: Mapping[str, float] | None = None) -> Recipe:
        """Return the recipe of a candidate or baseline."""
        return self._chosen(pick, prefer)[0]

    def predicted(self, prefer: Mapping[str, float] | None = None) -> tuple[Recipe, Predicted]:
        """Return the recipe that the run predicts to be the best for a preference, and what is promised of it.

        Nobody has scored it: `evaluate(recipe)` does.

        Args:
            prefer: task -> weight; None: the weights that the run was started with.

        Raises `UsageError` where the run has no predictions yet, or none that can be trusted.
        """
        return predicted_choice(self.path, prefer or {})

    def merge(
        self,
        pick: Pick = "best",
        *,
        prefer: Mapping[str, float] | None = None,
        dtype: str | None = None,
        device: str = "auto",
    ) -> PreTrainedModel:
        """Return a candidate's model, merged in memory; nothing is written to the disk.

        Args:
            pick, prefer: which.
            dtype: of the loaded model: None for the recipe's own, or float32, which holds the same numbers.
            device: auto, cpu, cuda, cuda:1, ...

        Raises `WorkError` if its weights are not those that were scored.
        """
        recipe, scored = self._chosen(pick, prefer)
        where = pick_device(device)
        pool = self._pool(recipe)
        with pool.live_directory() as (path, weights):
            model, _ = load_model(path, dtype=dtype or recipe.dtype, device=where, weights=weights)
        built = MergeEngine(pool, model, memory="files").apply(recipe).fingerprint
        if scored not in (None, built):
            raise WorkError(
                f"{self.path}: the recipe of {pick} now builds other weights than those that were scored "
                f"({built}, was {scored}); a model file must have changed"
            )
        return model

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer of the run's merged models."""
        with undisturbed(), self._pool(self.record.trials[0].recipe).live_directory() as (path, _):
            return AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)

    def evaluate(
        self,
        pick: Pick = "best",
        *,
        prefer: Mapping[str, float] | None = None,
        tasks: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
        split: Split = "selection",
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Score a candidate on a split, one row a task, by the run's own settings.

        Answers that the run has are not made again.

        Args:
            pick, prefer: which.
            tasks: others than the run's, as in `search`; None: the run's, on the items that the run uses.
            split: search, selection or report. What is chosen by its score on a split has no honest score there: keep
                the report items for the end.
            limit: the first so many items of each task.
        """
        recipe, config = self.recipe(pick, prefer=prefer), SearchConfig.from_dict(self.config)
        if split not in SPLITS:
            raise UsageError(f"split {split!r} is none of {', '.join(SPLITS)}")
        if limit is not None and limit < 1:
            raise UsageError(f"limit {limit}: must be 1 or more")
        begun = self.record.begin or {}
        pool = self._pool(recipe)
        store = OutcomeStore(outcomes_of(RunDirectory(self.path), self.config))
        with undisturbed():
            loaded = self._tasks(config, config.tasks if tasks is None else _task_keys(tasks))
            most = getattr(config.items, split) if tasks is None else None
            items = {name: ids[:limit] for name, ids in pick_items(loaded, split, most).items()}
            start_sandbox(loaded.values(), config.evaluation)
            engine, evaluator = load_scorer(
                *(pool, loaded, config.evaluation, pick_device(config.evaluation.device), store),
                memory=config.workers.memory,
                batching=begun.get("backend", {}).get("batching"),
            )
            try:
                key = engine.apply(recipe).fingerprint
                found = {name: summary(loaded[name], evaluator.score(name, ids, key)) for name, ids in items.items()}
            finally:
                store.close()
        rows = [
            {key: value for key, value in result.items() if key not in ("health", "outcomes")} | result["health"]
            for result in found.values()
        ]
        return pd.DataFrame(rows, index=pd.Index(found, name="task"))

    def export(
        self,
        out: str | Path,
        pick: Pick = "best",
        *,
        prefer: Mapping[str, float] | None = None,
        shard_bytes: int = SHARD_BYTES,
        tokenizer_from: str | None = None,
        threads: int = 0,
    ) -> ExportReport:
        """Write a model to an empty or new directory, with its card, checked bit for bit against what was scored.

        Args:
            out: the directory.
            pick, prefer: which.
            shard_bytes: no file of weights is larger.
            tokenizer_from: label of the expert whose tokenizer and chat template to take; None: the base's.
            threads: how many merge; 0: as many as there are processors.
        """
        how: dict[str, Any] = {
            "threads": threads or len(os.sched_getaffinity(0)),
            "shard_bytes": shard_bytes,
            "tokenizer_from": tokenizer_from,
        }
        if isinstance(pick, Recipe):
            return export_recipe(pick, Path(out), **how)
        return export_trial(self.path, Path(out), pick=str(pick), prefer=prefer or {}, **how)

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _chosen(self, pick: Pick, prefer: Mapping[str, float] | None) -> tuple[Recipe, str | None]:
        """Return a recipe, and the fingerprint of the weights that were scored, if any were."""
        if isinstance(pick, Recipe):
            return pick, None
        if not self.record.candidates:
            raise UsageError(f"{self.path}: no candidate has been scored yet")
        trial = pick_trial(self.record, str(pick), prefer or {})
        return trial.recipe, trial.fingerprint

    def _pool(self, recipe: Recipe) -> ModelPool:
        return ModelPool.open(recipe.base, recipe.experts, vocabulary=recipe.vocabulary, check_weights=False)

    def _tasks(self, config: SearchConfig, keys: Mapping[str, Mapping[str, Any]]) -> dict[str, EvalTask]:
        chat = load_chat(keys, self._pool(self.record.trials[0].recipe))
        return load_tasks(keys, split_seed=config.evaluation.split_seed, chat=chat)


def _optimizer_words(name: str | None) -> list[str]:
    """Return the overrides that choose an optimizer: a file of conf/optimizer, or a registered one that has no file."""
    if name is None:
        return []
    if name in OPTIMIZERS and not (conf_dir() / "optimizer" / f"{name}.yaml").exists():
        return ["optimizer=random", f"optimizer.name={name}"]  # random: a file without options
    return [f"optimizer={name}"]


def _task_keys(tasks: Sequence[str] | Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    if isinstance(tasks, str):
        raise UsageError(f"tasks: write a list, [{tasks!r}]")
    if isinstance(tasks, Mapping):
        return {name: dict(keys) for name, keys in tasks.items()}
    return {name: keys for task in tasks for name, keys in find_task_config(task).items()}
