"""The search: baselines first, then ask, build, score, tell until the budget ends; then selection, then the report.

A search may have stages, each in a finer space than the one before; a stage's optimizer starts from all that was scored
before. Where candidates race, one is scored block by block, and no further once it is clearly worse than the best.
Everything that happens is a line in the ledger before anything depends on it. A search that is started again in its
run directory replays the ledger: the optimizer is asked and told in the recorded order, must propose what it
proposed, and goes on from there; a snapshot of its state spares it what came before (`snapshot.py`). This file knows
nothing about merging, tasks or optimizers beyond their contracts.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from evomerge import __version__
from evomerge.errors import UsageError, WorkError
from evomerge.evaluation.types import Split
from evomerge.optimizers import create
from evomerge.optimizers.base import Failure, Optimizer, Problem, Proposal, Result
from evomerge.recipes import Recipe, SearchSpace
from evomerge.reporting.versions import versions
from evomerge.search.baselines import Baseline
from evomerge.search.config import SearchConfig
from evomerge.search.finalists import finalists, reported
from evomerge.search.ledger import LEDGER_VERSION, Ledger
from evomerge.search.racing import Rule
from evomerge.search.record import Record, Trial
from evomerge.search.results import objectives
from evomerge.search.rivals import Rivals
from evomerge.search.scales import doubtful_scales
from evomerge.search.snapshot import Snapshots
from evomerge.search.track import ItemIds, Track
from evomerge.search.workers.base import Job, Scored, WorkerPool

#: This many failures of one kind in a row are no accident of a candidate.
MAX_FAILURES = 5


@dataclass(frozen=True)
class Stage:
    """A search space and the share of the budget that is spent in it and those before it, from 0 to 1."""

    space: SearchSpace
    until: float


class Search:
    """One search over one ledger.

    Args:
        config: the configuration.
        stages: the search spaces, from coarse to fine.
        baselines: the models scored first, numbered from 0.
        items: split -> task -> the ids of the items to be scored.
        facts: what must be the same whenever the run goes on (hashes of items and prompts, ...), as plain data.
        pool: started workers.
        ledger: the open ledger.
        record: what it says, where that was read before; it grows with the ledger.
        watch: called with the record so far, after every event and at the start of a run that goes on.
        say: is told what a person should know, a line at a time.
    """

    def __init__(
        self,
        config: SearchConfig,
        *,
        stages: Sequence[Stage],
        baselines: list[Baseline],
        items: Mapping[Split, ItemIds],
        facts: Mapping[str, Any],
        pool: WorkerPool,
        ledger: Ledger,
        record: Record | None = None,
        watch: Callable[[Record], None] = lambda record: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config, self.stages, self.baselines, self.items = config, stages, baselines, items
        self.pool, self.ledger, self.watch, self.say = pool, ledger, watch, say
        self.record = Record.of(ledger.events()) if record is None else record
        self.snapshots = Snapshots(ledger)
        begin = {"event": "begin", "version": LEDGER_VERSION, "evomerge": __version__, "versions": versions(), **facts}
        if self.record.begin is None:
            self._write(begin)
        else:
            for key, value in facts.items():
                if self.record.begin.get(key) != value:
                    raise UsageError(
                        f"{ledger.path.parent}: {key} changed since this run began (was "
                        f"{self.record.begin.get(key)}, is {value}); start a new run"
                    )
            self.watch(self.record)

    def run(self) -> Record:
        """Run to the end of the budget and score the finalists on the selection split. Returns the record."""
        self._score_baselines("base", "expert")  # by their scores all others are normalised
        for scale in doubtful_scales(self.record):
            keep = f"'+objectives={{{scale.task}: {{weight: 0}}}}' keeps the task on the front and out of the mean"
            self.say(f"advice: {scale}: give it more items, or {keep}")
        self._score_baselines("uniform", "untuned", "random")
        if self.config.racing.enabled:
            self._check_racing()
        for number in range(self.record.stage, len(self.stages)):
            if number > self.record.stage:
                self._write({"event": "stage", "stage": number})
            self._optimise(number)
        if not self.record.candidates:
            raise WorkError("no candidate could be scored; the ledger says why (events 'fail')")
        numbers = [trial.number for trial in finalists(self.record, self.config.selection)]
        self._score(self._missing(numbers, "selection"), "selection")
        return self.record

    def report(self) -> dict[int, Scored]:
        """Score all that the report shows on the report split: base, experts, the best of each kind, the chosen ones.

        Returns their outcomes by number. Those that the ledger has are built once more too, from the outcome store.
        """
        numbers = [trial.number for trial in reported(self.record, self.config.selection)]
        if tuple(numbers) != self.record.reported:
            self._write({"event": "report", "opening": self.record.openings + 1, "numbers": numbers})
            self.ledger.sync()
        return self._score(numbers, "report")

    def _score_baselines(self, *kinds: str) -> None:
        numbers = [number for number, baseline in enumerate(self.baselines) if baseline.kind in kinds]
        for number in numbers:
            if number not in self.record.trials:
                baseline = self.baselines[number]
                trial = Trial(number, baseline.kind, baseline.name, baseline.recipe, baseline.vector)
                self._write(trial.ask_event())
        self._score(self._missing(numbers, "search"), "search")

    # ---- the optimizer's part ------------------------------------------------------------------------------------

    def _optimise(self, stage: int) -> None:
        """Search in one space until its share of the budget is spent and all results are in."""
        optimizer, waiting = self._resume(stage)
        self._propose_and_score(optimizer, waiting, stage)
        if self._budget_left(stage):
            raise WorkError(
                f"optimizer {self.config.optimizer.name} has nothing more to propose before the budget ends"
            )

    def _propose_and_score(self, optimizer: Optimizer, waiting: list[int], stage: int) -> None:
        """Keep all workers busy until the budget is spent and all results are in."""
        in_flight: dict[int, Track] = {}
        rivals = self._rivals(optimizer)
        failures = 0
        while True:
            for worker in self.pool.idle():
                if waiting:
                    number = waiting.pop(0)
                elif self._budget_left(stage):
                    proposals = optimizer.ask(1)
                    if not proposals:
                        break
                    number = self._announce(proposals[0], stage)
                else:
                    break
                if number not in in_flight:
                    in_flight[number] = Track(self.items["search"], rivals.race(number) if rivals else None)
                track = in_flight[number]
                assert track.block is not None
                self.pool.submit(worker, Job(number, self.record.trials[number].recipe, "search", track.block))
            if not in_flight:
                break
            for job, outcome in self._poll(optimizer, stage):
                track = in_flight[job.number]
                if isinstance(outcome, Scored):
                    track.take(outcome.fingerprint, outcome.outcomes, outcome.seconds)
                    if track.block is not None:
                        waiting.insert(0, job.number)  # goes on at once, with its weights still in place
                        continue
                    self._tell(job, track)
                else:
                    self._tell(job, outcome)
                del in_flight[job.number]
                trial = self.record.trials[job.number]
                optimizer.tell(*_told(trial, optimizer))
                failures = failures + 1 if trial.failure else 0
                if trial.failure and failures >= MAX_FAILURES:
                    raise WorkError(f"{failures} candidates in a row failed, the last with: {trial.failure.message}")

    def _optimizer(self, stage: int) -> Optimizer:
        """Build the optimizer of a stage and tell it all that was scored before and lies in its space."""
        earlier = [trial for trial in self.record.of_kind() if trial.kind != "candidate" or trial.stage < stage]
        space = self.stages[stage].space
        optimizer = create(
            self.config.optimizer.name,
            Problem(space.dimensions, objectives(self.record, "search"), self.config.seed, len(earlier)),
            scalarization=self.config.optimizer.scalarization,
            **self.config.optimizer.options,
        )
        left = self.config.budget.candidates
        for line in optimizer.describe(None if left is None else round(left * self.stages[stage].until)):
            self.say(line)
        for trial in earlier:
            vector = trial.vector if stage == 0 else space.vector(self._place(trial))
            outcome = _outcome(trial, optimizer)
            if vector is not None and outcome is not None:
                optimizer.tell(Proposal(trial.number, vector), outcome)
        return optimizer

    def _place(self, trial: Trial) -> Recipe:
        """Return the recipe by which a trial is found in a space."""
        return self.baselines[trial.number].place if trial.number < len(self.baselines) else trial.recipe

    def _poll(self, optimizer: Optimizer, stage: int) -> list[tuple[Job, Scored | Failure]]:
        """Wait for results; what was written so far is on disk by then, and now and then a snapshot too.

        One is also written where the wait is interrupted: the optimizer has been told all that the ledger has.
        """
        self.ledger.sync()
        if self.snapshots.due():
            self._snapshot(optimizer, stage)
        try:
            return self.pool.poll()
        except BaseException:
            self._snapshot(optimizer, stage)
            raise

    def _snapshot(self, optimizer: Optimizer, stage: int) -> None:
        state = optimizer.snapshot()
        if state is not None:
            self.snapshots.write(state, self._snapshot_facts(stage))

    def _snapshot_facts(self, stage: int) -> dict[str, Any]:
        """Return what a snapshot of the optimizer must agree with, besides the ledger."""
        chosen = self.config.optimizer
        return {
            "stage": stage,
            "seed": self.config.seed,
            "optimizer": [chosen.name, chosen.scalarization, dict(chosen.options)],
            "dimensions": [repr(dimension) for dimension in self.stages[stage].space.dimensions],
        }

    def _resume(self, stage: int) -> tuple[Optimizer, list[int]]:
        """Return the optimizer of a stage as the record leaves it, and what was asked for but never told.

        Where a snapshot fits the ledger, only what came after it is asked and told once more.
        """
        optimizer, mine = self._optimizer(stage), []
        waiting: dict[int, None] = {}
        for what, number in self.record.order:
            trial = self.record.trials[number]
            if trial.kind == "candidate" and trial.stage == stage:
                mine.append((what == "ask", trial))
                if what == "ask":
                    waiting[number] = None
                else:
                    del waiting[number]
        state = self.snapshots.read(self._snapshot_facts(stage)) if mine else None
        known = 0
        if state is not None:
            known = int(state["events"])
            past = (_proposal(trial) if asked else _told(trial, optimizer) for asked, trial in mine[:known])
            try:
                optimizer.restore(state, past)
            except (ValueError, TypeError, LookupError, AttributeError):  # not what this optimizer writes
                optimizer, known = self._optimizer(stage), 0
        for asked, trial in mine[known:]:
            if asked:
                self._ask_again(optimizer, trial)
            else:
                optimizer.tell(*_told(trial, optimizer))
        return optimizer, list(waiting)

    def _ask_again(self, optimizer: Optimizer, trial: Trial) -> None:
        try:
            optimizer.replay(_proposal(trial))
        except WorkError:
            raise WorkError(
                f"{self.ledger.path.parent}: candidate {trial.number} is not what {self.config.optimizer.name} "
                "proposes now (another version of a library?); fork_from=RUN starts a new run from its outcomes"
            ) from None

    def _announce(self, proposal: Proposal, stage: int) -> int:
        number, recipe = proposal.number, self.stages[stage].space.recipe(proposal.vector)
        trial = Trial(number, "candidate", f"candidate {number}", recipe, proposal.vector, stage=stage)
        self._write(trial.ask_event(), recipe)
        return number

    def _rivals(self, optimizer: Optimizer) -> Rivals | None:
        """Return whom a stage's candidates race against: the best of what is known, None where there are no races."""
        if not self.config.racing.enabled:
            return None
        front = optimizer.multi_objective and len(self.items["search"]) > 1
        rule = cast(Rule, "front" if front else self.config.optimizer.scalarization)
        return Rivals(self.record, self.config.racing.settings, rule, self.config.seed)

    def _check_racing(self) -> None:
        """Raise `UsageError` if a task's items have scores that a race cannot bound."""
        for trial in self.record.of_kind():
            for task, score in trial.scores.get("search", {}).items():
                if not all(0.0 <= value <= 1.0 for value in score.scores):
                    raise UsageError(f"racing: items of {task} have scores outside [0, 1]; write racing.enabled=false")

    def _budget_left(self, stage: int) -> bool:
        """Say whether a stage may go on: whether its share of the budget and that of those before is not spent."""
        budget, until, totals = self.config.budget, self.stages[stage].until, self.record.totals
        candidates = None if budget.candidates is None else round(budget.candidates * until)
        spent = (
            (totals.asked["candidate"], candidates, 1.0),
            (totals.items["search"], budget.items, until),
            (totals.seconds, budget.seconds, until),
        )
        return all(limit is None or used < limit * share for used, limit, share in spent)

    # ---- scoring -------------------------------------------------------------------------------------------------

    def _score(self, numbers: list[int], split: Split) -> dict[int, Scored]:
        """Score trials on a split, in order, as workers come free; return what was found by number."""
        todo, in_flight, found = list(dict.fromkeys(numbers)), 0, {}
        items = self.items[split]
        while todo or in_flight:
            for worker in self.pool.idle():
                if todo:
                    number = todo.pop(0)
                    self.pool.submit(worker, Job(number, self.record.trials[number].recipe, split, items))
                    in_flight += 1
            self.ledger.sync()
            for job, outcome in self.pool.poll():
                in_flight -= 1
                if isinstance(outcome, Failure):
                    self._tell(job, outcome)
                    continue
                track = Track(items)
                track.take(outcome.fingerprint, outcome.outcomes, outcome.seconds)
                self._tell(job, track)
                found[job.number] = outcome
        return found

    def _missing(self, numbers: list[int], split: Split) -> list[int]:
        """Return those that neither have a score on a split nor have failed.

        Jobs of a sweep that share outcomes begin at different places, so that what one has scored another finds.
        """
        first = 0
        if self.config.evaluation.outcomes is not None and numbers:
            first = zlib.crc32(f"{self.config.optimizer.name} {self.config.seed}".encode()) % len(numbers)
        trials = (self.record.trials[number] for number in numbers[first:] + numbers[:first])
        return [trial.number for trial in trials if split not in trial.scores and trial.failure is None]

    def _tell(self, job: Job, outcome: Track | Failure) -> None:
        trial = self.record.trials[job.number]
        if isinstance(outcome, Failure):
            if job.split != "search" or trial.kind not in ("candidate", "random"):  # it is needed: tried next time
                raise WorkError(f"{trial.name!r} could not be scored on {job.split}: {outcome.message}")
            self._write({"event": "fail", "number": job.number, "kind": outcome.kind, "message": outcome.message})
            return
        expected = trial.fingerprint
        if expected not in (None, outcome.fingerprint):
            raise WorkError(
                f"trial {job.number}: its recipe now builds other weights than the ones scored before "
                f"({outcome.fingerprint}, was {expected}); a model file must have changed"
            )
        scores = outcome.scores()
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
                **({} if outcome.beaten_by is None else {"beaten_by": outcome.beaten_by}),
            }
        )

    def _write(self, event: dict[str, Any], recipe: Recipe | None = None) -> None:
        self.ledger.append(event)
        self.record.take(event, recipe=recipe)
        self.watch(self.record)


def _proposal(trial: Trial) -> Proposal:
    assert trial.proposal is not None
    return trial.proposal


def _told(trial: Trial, optimizer: Optimizer) -> tuple[Proposal, Result | Failure]:
    """Return a candidate and what its optimizer is told of it."""
    outcome = _outcome(trial, optimizer)
    assert outcome is not None
    return _proposal(trial), outcome


def _outcome(trial: Trial, optimizer: Optimizer) -> Result | Failure | None:
    return trial.outcome_by_item if optimizer.wants_items else trial.outcome
