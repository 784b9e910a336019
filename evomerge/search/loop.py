"""The search: baselines first, then ask, build, score, tell until the budget ends; then selection, then the report.

Everything that happens is a line in the ledger before anything depends on it. A search that is started again in its
run directory replays the ledger: the optimizer is asked and told in the recorded order, must propose what it
proposed, and goes on from there. This file knows nothing about merging, tasks or optimizers beyond their contracts.
"""

from collections.abc import Callable, Mapping
from typing import Any

from evomerge import __version__
from evomerge.errors import UsageError, WorkError
from evomerge.evaluation.types import Split
from evomerge.optimizers import create
from evomerge.optimizers.base import Failure, Optimizer, Proposal
from evomerge.recipes import SearchSpace
from evomerge.search.baselines import Baseline
from evomerge.search.config import SearchConfig
from evomerge.search.ledger import LEDGER_VERSION, Ledger
from evomerge.search.record import Record, TaskScore, Trial
from evomerge.search.results import best_uniform, objectives, rank, selected
from evomerge.search.workers import Job, Scored, WorkerPool

#: This many failures of one kind in a row are no accident of a candidate.
MAX_FAILURES = 5

ItemIds = Mapping[str, tuple[str, ...]]


class Search:
    """One search over one ledger.

    Args:
        config: the configuration.
        space: the search space.
        baselines: the models scored first, numbered from 0.
        items: split -> task -> the ids of the items to be scored.
        facts: what must be the same whenever the run goes on (hashes of items and prompts, ...), as plain data.
        pool: started workers.
        ledger: the open ledger.
        watch: called after every event with the record so far, for progress.
    """

    def __init__(
        self,
        config: SearchConfig,
        *,
        space: SearchSpace,
        baselines: list[Baseline],
        items: Mapping[Split, ItemIds],
        facts: Mapping[str, Any],
        pool: WorkerPool,
        ledger: Ledger,
        watch: Callable[[Record], None] = lambda record: None,
    ) -> None:
        self.config, self.space, self.baselines, self.items = config, space, baselines, items
        self.pool, self.ledger, self.watch = pool, ledger, watch
        self.record = Record.of(ledger.events)
        begin = {"event": "begin", "version": LEDGER_VERSION, "evomerge": __version__, **facts}
        if self.record.begin is None:
            self._write(begin)
        else:
            for key, value in facts.items():
                if self.record.begin.get(key) != value:
                    raise UsageError(
                        f"{ledger.path.parent}: {key} changed since this run began (was "
                        f"{self.record.begin.get(key)}, is {value}); start a new run"
                    )

    def run(self) -> Record:
        """Run to the end of the budget and score the finalists on the selection split. Returns the record."""
        for number, baseline in enumerate(self.baselines):
            if number not in self.record.trials:
                trial = Trial(number, baseline.kind, baseline.name, baseline.recipe, baseline.vector)
                self._write(trial.ask_event())
            self._score(self._missing([number], "search"), "search")
            failure = self.record.trials[number].failure
            if failure:
                raise WorkError(f"baseline {baseline.name!r} could not be scored: {failure.message}")
        self._optimise()
        if not self.record.candidates:
            raise WorkError("no candidate could be scored; the ledger says why (events 'fail')")
        finalists = rank(self.record, self.record.candidates, "search")[: self.config.selection.finalists]
        uniform = rank(self.record, self.record.of_kind("uniform"), "search")[: self.config.selection.finalists]
        experts = self.record.of_kind("expert")
        numbers = [trial.number for trial in [*experts, *uniform, *finalists]]
        self._score(self._missing(numbers, "selection"), "selection")
        return self.record

    def report(self) -> dict[int, Scored]:
        """Score base, experts, the best uniform merge and the chosen candidates on the report split.

        Returns their outcomes by number. Those that the ledger has are built once more too, from the outcome store.
        """
        chosen = selected(self.record)[: self.config.selection.chosen]
        uniform = best_uniform(self.record)
        reported = [*self.record.of_kind("base", "expert"), *([uniform] if uniform else []), *chosen]
        numbers = [trial.number for trial in reported]
        if tuple(numbers) != self.record.reported:
            self._write({"event": "report", "opening": self.record.openings + 1, "numbers": numbers})
        return self._score(numbers, "report")

    # ---- the optimizer's part ------------------------------------------------------------------------------------

    def _optimise(self) -> None:
        optimizer = self._optimizer()
        waiting = self._replay(optimizer)
        in_flight: set[int] = set()
        failures = 0
        while True:
            for device in self.pool.idle():
                if waiting:
                    number = waiting.pop(0)
                elif self._budget_left():
                    proposals = optimizer.ask(1)
                    if not proposals:
                        break
                    number = self._announce(proposals[0])
                else:
                    break
                self._submit(device, number, "search")
                in_flight.add(number)
            if not in_flight:
                break
            for job, outcome in self.pool.poll():
                self._tell(job, outcome)
                in_flight.discard(job.number)
                trial = self.record.trials[job.number]
                assert trial.proposal is not None
                assert trial.outcome is not None
                optimizer.tell(trial.proposal, trial.outcome)
                failures = failures + 1 if trial.failure else 0
                if trial.failure and failures >= MAX_FAILURES:
                    raise WorkError(f"{failures} candidates in a row failed, the last with: {trial.failure.message}")
        if self._budget_left():
            raise WorkError(
                f"optimizer {self.config.optimizer.name} has nothing more to propose before the budget ends"
            )

    def _optimizer(self) -> Optimizer:
        """Build the optimizer and tell it the baselines that lie in the space."""
        optimizer = create(
            self.config.optimizer.name,
            self.space.dimensions,
            objectives(self.record, "search"),
            seed=self.config.seed,
            first_number=len(self.baselines),
            scalarization=self.config.optimizer.scalarization,
            **self.config.optimizer.options,
        )
        for trial in self.record.of_kind("base", "expert", "uniform"):
            if trial.proposal is not None and trial.outcome is not None:
                optimizer.tell(trial.proposal, trial.outcome)
        return optimizer

    def _replay(self, optimizer: Optimizer) -> list[int]:
        """Ask and tell in the recorded order; return the numbers that were asked for but never told."""
        waiting: list[int] = []
        for what, number in self.record.order:
            if number < len(self.baselines):
                continue
            trial = self.record.trials[number]
            assert trial.proposal is not None
            if what == "ask":
                proposals = optimizer.ask(1)
                if proposals != [trial.proposal]:
                    raise WorkError(
                        f"{self.ledger.path.parent}: candidate {number} is not what {self.config.optimizer.name} "
                        "proposes now (another version of a library?); fork_from=RUN starts a new run from its outcomes"
                    )
                waiting.append(number)
            else:
                assert trial.outcome is not None
                optimizer.tell(trial.proposal, trial.outcome)
                waiting.remove(number)
        return waiting

    def _announce(self, proposal: Proposal) -> int:
        recipe = self.space.recipe(proposal.vector)
        trial = Trial(proposal.number, "candidate", f"candidate {proposal.number}", recipe, proposal.vector)
        self._write(trial.ask_event())
        return proposal.number

    def _budget_left(self) -> bool:
        budget = self.config.budget
        trials = self.record.trials.values()
        asked = len(self.record.of_kind("candidate"))
        items = sum(score.items for trial in trials for score in trial.scores.get("search", {}).values())
        seconds = sum(trial.seconds for trial in trials)
        spent = ((asked, budget.candidates), (items, budget.items), (seconds, budget.seconds))
        return all(limit is None or used < limit for used, limit in spent)

    # ---- scoring -------------------------------------------------------------------------------------------------

    def _score(self, numbers: list[int], split: Split) -> dict[int, Scored]:
        """Score trials on a split, in order, as workers come free; return what was found by number."""
        todo, in_flight, found = list(dict.fromkeys(numbers)), 0, {}
        while todo or in_flight:
            for device in self.pool.idle():
                if todo:
                    self._submit(device, todo.pop(0), split)
                    in_flight += 1
            for job, outcome in self.pool.poll():
                in_flight -= 1
                self._tell(job, outcome)
                if isinstance(outcome, Scored):
                    found[job.number] = outcome
        return found

    def _missing(self, numbers: list[int], split: Split) -> list[int]:
        """Return those that have no score on a split yet."""
        return [number for number in numbers if split not in self.record.trials[number].scores]

    def _submit(self, device: str, number: int, split: Split) -> None:
        self.pool.submit(device, Job(number, self.record.trials[number].recipe, split, self.items[split]))

    def _tell(self, job: Job, outcome: Scored | Failure) -> None:
        if isinstance(outcome, Failure):
            if job.split != "search":
                raise WorkError(f"trial {job.number} could not be scored on {job.split}: {outcome.message}")
            self._write({"event": "fail", "number": job.number, "kind": outcome.kind, "message": outcome.message})
            return
        trial = self.record.trials[job.number]
        expected = trial.fingerprint
        if expected not in (None, outcome.fingerprint):
            raise WorkError(
                f"trial {job.number}: its recipe now builds other weights than the ones scored before "
                f"({outcome.fingerprint}, was {expected}); a model file must have changed"
            )
        scores = {task: TaskScore.of(rows) for task, rows in outcome.outcomes.items()}
        if job.split in trial.scores:
            if scores != trial.scores[job.split]:
                raise WorkError(f"trial {job.number}: the outcomes of {job.split} are not those in the ledger")
            return
        self._write(
            {
                "event": "tell",
                "number": job.number,
                "split": job.split,
                "scores": {task: score.to_dict() for task, score in scores.items()},
                "fingerprint": outcome.fingerprint,
                "seconds": outcome.seconds,
            }
        )

    def _write(self, event: dict[str, Any]) -> None:
        self.ledger.append(event)
        self.record.take(event)
        self.watch(self.record)
