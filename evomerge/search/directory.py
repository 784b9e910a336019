"""A run directory: where its files are, and how to open a finished or running one for reading.

    config.yaml      the configuration it was started with
    ledger.jsonl     every ask and tell; with outcomes/ the truth, all else can be rebuilt
    outcomes/        every answer that was scored
    front.json       the non-dominated candidates
    recipes/<n>.yaml the recipe of each front member, best/recipe.yaml the best one's
    surrogates.json  quadratics fitted to the search scores, from which a front for any preference is read
    report.json      scores, intervals and paired tests on the report split
    status.json      how far a running search is, for scripts
    log.txt          every line of the search with its time
    study.log        the Optuna mirror, for optuna-dashboard
    snapshot.npz     the optimizer's state, so that a long search goes on quickly; may be deleted
    tracker.json     under which id a tracker knows the run
    about.json       what readers need besides: tensor names, items with their texts, advice
    report.html      the page that shows it all

This file knows nothing about how a search goes on.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evomerge.durable import replacing, unwritable
from evomerge.errors import UsageError, WorkError
from evomerge.search.config import differing_key, value_at_key
from evomerge.search.fronts import front_data
from evomerge.search.ledger import check_version, parsed_events, read_events
from evomerge.search.record import Record
from evomerge.search.results import front, selected

# 2: members have health and gain on every split and task. 3: intervals, what search scores are worth, hypervolume.
FRONT_VERSION = 3


@dataclass(frozen=True)
class RunDirectory:
    """The paths of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.path / "config.yaml"

    @property
    def ledger(self) -> Path:
        """The ledger."""
        return self.path / "ledger.jsonl"

    @property
    def outcomes(self) -> Path:
        """The folder of outcome segments."""
        return self.path / "outcomes"

    @property
    def front(self) -> Path:
        """The front."""
        return self.path / "front.json"

    @property
    def best(self) -> Path:
        """The best candidate's recipe."""
        return self.path / "best" / "recipe.yaml"

    @property
    def report(self) -> Path:
        """Scores, intervals and paired tests on the report split."""
        return self.path / "report.json"

    @property
    def surrogates(self) -> Path:
        """The quadratic surrogates of the scores."""
        return self.path / "surrogates.json"

    @property
    def status(self) -> Path:
        """How far the search is, for scripts."""
        return self.path / "status.json"

    @property
    def log(self) -> Path:
        """Every line of the search with its time."""
        return self.path / "log.txt"

    @property
    def mirror(self) -> Path:
        """The Optuna study, for optuna-dashboard."""
        return self.path / "study.log"

    @property
    def snapshot(self) -> Path:
        """The optimizer's state."""
        return self.path / "snapshot.npz"

    @property
    def tracker(self) -> Path:
        """Under which id a tracker knows the run, and how far it has been told."""
        return self.path / "tracker.json"

    @property
    def about(self) -> Path:
        """What readers of the run need besides ledger and configuration."""
        return self.path / "about.json"

    @property
    def page(self) -> Path:
        """The page that shows the run."""
        return self.path / "report.html"

    def recipe(self, number: int) -> Path:
        """The recipe of a trial."""
        return self.path / "recipes" / f"{number}.yaml"

    def prepare(self, config: Mapping[str, Any]) -> None:
        """Make the directory, or check that it belongs to this configuration.

        Raises `UsageError` if another version of evomerge wrote it, or, naming the key, if the run there was started
        with another configuration, and `WorkError` if nothing can be written there.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            check_version(self.ledger)  # before its configuration, which is another version's too
            if self.config.exists():
                old = yaml.safe_load(self.config.read_text(encoding="utf-8"))
                key = differing_key(old, config)
                if key is not None:
                    was, now = value_at_key(old, key), value_at_key(config, key)
                    raise UsageError(
                        f"{self.path}: this run was started with {key}={was}, now it is {now}; give another name=... "
                        "or hydra.run.dir=..., and fork_from=RUN to take over its outcomes"
                    )
            write_text(self.config, yaml.safe_dump(dict(config), sort_keys=False))
        except (OSError, yaml.YAMLError) as error:
            raise WorkError(f"{self.path}: cannot be used as a run directory: {_reason(error)}") from None

    def read(self) -> Record:
        """Read the ledger of a run; `UsageError` if there is none."""
        try:
            return Record.of(parsed_events(self.ledger))
        except OSError:
            raise self._no_run() from None

    def read_events(self) -> list[dict[str, Any]]:
        """Read the events of a run's ledger; `UsageError` if there is none."""
        try:
            events, _ = read_events(self.ledger)
        except OSError:
            raise self._no_run() from None
        return events

    def _no_run(self) -> UsageError:
        return UsageError(f"{self.path}: no run here (ledger.jsonl is missing)")

    def read_config(self) -> dict[str, Any]:
        """Read the configuration that the run was started with."""
        try:
            data = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise UsageError(f"{self.config}: cannot be read: {_reason(error)}") from None
        if not isinstance(data, dict):
            raise UsageError(f"{self.config}: damaged; restore the file")
        return data

    def write_front(self, record: Record) -> None:
        """Write what can be read without evomerge: the front, its recipes and the recipe of the best on selection."""
        members, best = front(record), selected(record)[0]
        try:
            for trial in {t.number: t for t in [*members, best]}.values():
                write_text(self.recipe(trial.number), trial.recipe.to_yaml())
            write_text(self.best, best.recipe.to_yaml())
        except OSError as error:
            raise unwritable(self.path, error) from None
        self.write_json(self.front, {"version": FRONT_VERSION, "best": best.number, **front_data(record, members)})

    def write_json(self, path: Path, data: Mapping[str, Any]) -> None:
        """Write a JSON file of this run; `WorkError` if that fails."""
        try:
            write_text(path, json.dumps(data, indent=1) + "\n")
        except OSError as error:
            raise unwritable(path, error) from None


def outcomes_of(directory: RunDirectory, data: Mapping[str, Any]) -> Path:
    """Return where a run keeps its outcomes: its own directory, or a folder that it shares with others."""
    shared = data.get("evaluation", {}).get("outcomes")
    return directory.outcomes if shared is None else Path(shared)


def write_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old text or the new, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
