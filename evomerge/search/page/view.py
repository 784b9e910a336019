"""A run as a page sees it: its record, and all that is computed from it once and used in many places.

Only the ledger must be there; what else the run directory lacks is None or empty, and said in `notes`. This file knows
nothing about what a page shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evomerge.errors import UsageError
from evomerge.evaluation.types import SPLITS, Split
from evomerge.optimizers.base import Objective
from evomerge.recipes import Layout, Recipe, SearchSpace, stages
from evomerge.search.config import Selection
from evomerge.search.directory import RunDirectory
from evomerge.search.finalists import finalists
from evomerge.search.ledger import is_open
from evomerge.search.page.about import About
from evomerge.search.record import Record, Trial
from evomerge.search.results import (
    Estimate,
    anchors,
    best_of,
    best_parent,
    by_estimate,
    estimates,
    floors,
    front,
    objectives,
    selected,
    weights,
)

#: Recipes that a page holds at most.
SHOWN = 100


@dataclass(frozen=True)
class View:
    """A run that is read for a page.

    Attributes:
        path: the run directory, as the user gave it.
        events: of its ledger.
        record: what they say.
        config: its configuration as plain data, empty if there is none.
        about: what its `about.json` says; everything in it is empty if there is none.
        notes: what a reader must know, a line each.
    """

    path: Path
    events: Sequence[Mapping[str, Any]]
    record: Record
    config: Mapping[str, Any]
    about: About
    notes: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> "View":
        """Read a run directory; `UsageError` if there is no run, or its base and experts have no scores yet."""
        directory = RunDirectory(path)
        events = directory.read_events()
        record = Record.of(events)
        given = record.of_kind("base", "expert")
        wanted = 1 + len(given[0].recipe.experts) if given else 1
        if len(given) < wanted or any("search" not in trial.scores for trial in given):
            raise UsageError(f"{path}: base and experts have no scores yet; wait until the search has got so far")
        found = About.read(directory.about)
        notes = []
        if found is None:
            notes.append(
                "about.json is missing: texts of items, and what it needs the models' tensor names for, are left out."
            )
        return cls(path, events, record, _config(directory), found or About(), tuple(notes))

    # ---- from the record -----------------------------------------------------------------------------------------

    @cached_property
    def trials(self) -> list[Trial]:
        """All trials, by number."""
        return self.record.of_kind()

    @cached_property
    def splits(self) -> list[Split]:
        """The splits that some trial has a score on, the search split first."""
        return [split for split in SPLITS if any(split in trial.scores for trial in self.trials)]

    @cached_property
    def scales(self) -> list[Objective]:
        """One objective a task: zero, one, weight and floor."""
        return objectives(self.record, "search")

    @cached_property
    def tasks(self) -> list[str]:
        """The names of the tasks."""
        return [scale.name for scale in self.scales]

    @cached_property
    def anchors(self) -> dict[str, tuple[float, float]]:
        """See `results.anchors`."""
        return anchors(self.record)

    @cached_property
    def weights(self) -> dict[str, float]:
        """See `results.weights`."""
        return weights(self.record)

    @cached_property
    def floors(self) -> dict[str, float]:
        """See `results.floors`."""
        return floors(self.record)

    @cached_property
    def worth(self) -> dict[int, Estimate]:
        """What search scores are worth, by number."""
        return estimates(self.record)

    @cached_property
    def front(self) -> list[Trial]:
        """The front, by number."""
        return front(self.record, self.worth)

    @cached_property
    def selected(self) -> list[Trial]:
        """The candidates that were scored on the selection split, best there first."""
        return selected(self.record)

    @cached_property
    def best(self) -> Trial | None:
        """The candidate that is best on the selection split, None if none was scored there."""
        return next(iter(self.selected), None)

    @cached_property
    def parents(self) -> dict[Split, dict[str, Trial]]:
        """The expert that is best on a split and task, where an expert was scored there."""
        return {
            split: {task: parent for task in self.tasks if (parent := best_parent(self.record, split, task))}
            for split in self.splits
        }

    @cached_property
    def shown(self) -> list[Trial]:
        """The trials whose recipes a page holds, at most `SHOWN`, by number.

        The best, the baselines (of random points the best), the finalists, then the front's members by what their
        scores are worth.
        """
        scored = [trial for trial in self.record.of_kind("random") if "search" in trial.scores]
        random = best_of(self.record, "random") or next(iter(by_estimate(self.record, scored, self.worth)), None)
        first = [*self.selected[:1], *self.record.of_kind("base", "expert", "uniform", "untuned")]
        then = [*([random] if random else []), *self.selected, *by_estimate(self.record, self.front, self.worth)]
        chosen = {trial.number: trial for trial in [*first, *then]}
        return sorted(list(chosen.values())[:SHOWN], key=lambda trial: trial.number)

    @property
    def state(self) -> str:
        """Return running (a process holds its ledger), finished (all that it wanted to score is scored) or stopped."""
        if is_open(RunDirectory(self.path).ledger):
            return "running"
        return "finished" if self._is_done() else "stopped"

    def _is_done(self) -> bool:
        if not self.selected:
            return False
        steps = [event["event"] for event in self.events if event["event"] in ("ask", "report")]
        if steps[-1] == "report":
            return all("report" in self.record.trials[number].scores for number in self.record.reported)
        settings = self.config.get("selection")  # a job of a sweep stops at the selection split
        chosen = finalists(self.record, Selection(**settings)) if settings else self.selected
        return all("selection" in trial.scores for trial in chosen)

    # ---- the space -----------------------------------------------------------------------------------------------

    @cached_property
    def layout(self) -> Layout | None:
        """The outline of the models, None if it is not known."""
        return Layout.of(self.about.tensors) if self.about.tensors else None

    @cached_property
    def spaces(self) -> list[SearchSpace]:
        """The search spaces, coarse first; none where configuration or layout are not known, or not as they were."""
        if self.layout is None or not self.config:
            return []
        from evomerge.merging import METHODS, parameter_defaults  # here: a page without a space needs no torch

        models = self.config["models"]
        found = [
            SearchSpace(
                base=models["base"],
                experts=models["experts"],
                layout=self.layout,
                config=stage.config,
                method_parameters={name: parameter_defaults(name) for name in METHODS},
                seed=self.config["mask_seed"],
                dtype=models.get("dtype", "bfloat16"),
                vocabulary=models.get("vocabulary", "same"),
            )
            for stage in stages(self.config["space"])
        ]
        names = [[dimension.name for dimension in space.dimensions] for space in found]
        return found if names == (self.record.begin or {}).get("dimensions") else []

    @cached_property
    def vectors(self) -> dict[int, Sequence[float]]:
        """The place of each trial in the last (finest) space, by number; those outside are not there."""
        names = (self.record.begin or {}).get("dimensions") or []
        last = len(names) - 1 if names else 0
        found: dict[int, Sequence[float]] = {}
        for trial in self.trials:
            if trial.vector is None:
                continue
            if trial.stage == last:
                found[trial.number] = trial.vector
            elif self.spaces and (lifted := self.spaces[-1].vector(self._placed(trial))) is not None:
                found[trial.number] = lifted
        return found

    def _placed(self, trial: Trial) -> Recipe:
        """The recipe by which a trial is found in another space: of a baseline it is written as the first has it."""
        assert trial.vector is not None
        return trial.recipe if trial.kind == "candidate" else self.spaces[0].recipe(trial.vector)


def _config(directory: RunDirectory) -> Mapping[str, Any]:
    return directory.read_config() if directory.config.exists() else {}
