"""The search: baselines first, then ask, build, score, tell until the budget ends; then selection, then the report.

A search may have stages, each in a finer space than the one before; a stage's optimizer starts from all that was scored
before. Where candidates race, one is scored block by block, and no further once it is clearly worse than the best.
Everything that happens is a line in the ledger before anything depends on it. A search that is started again in its
run directory replays the ledger: the optimizer is asked and told in the recorded order, must propose what it
proposed, and goes on from there. This file knows nothing about merging, tasks or optimizers beyond their contracts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from evomerge import __version__
from evomerge.errors import UsageError, WorkError
from evomerge.evaluation.types import Split
from evomerge.optimizers import create
from evomerge.optimizers.base import Failure, Optimizer, Problem, Proposal
from evomerge.recipes import Recipe, SearchSpace
from evomerge.reporting.versions import versions
from evomerge.search.baselines import Baseline
from evomerge.search.config import SearchConfig
from evomerge.search.finalists import finalists, reported
from evomerge.search.ledger import LEDGER_VERSION, Ledger
from evomerge.search.racing import Race, Rule, references
from evomerge.search.record import Record, Trial
from evomerge.search.results import objectives
from evomerge.search.scales import doubtful_scales
from evomerge.search.track import ItemIds, Track
from evomerge.search.workers import Job, Scored, WorkerPool

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
        watch: Callable[[Record], None] = lambda record: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config, self.stages, self.baselines, self.items = config, stages, baselines, items
        self.pool, self.ledger, self.watch, self.say = pool, ledger, watch, say
        self.record = Record.of(ledger.events)
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
        for number, baseline in enumerate(self.baselines):
            if number not in self.record.trials:
                trial = Trial(number, baseline.kind, baseline.name, baseline.recipe, baseline.vector)
                self._write(trial.ask_event())
            self._score(self._missing([number], "search"), "search")
            failure = self.record.trials[number].failure
            if failure and baseline.kind != "random":
                raise WorkError(f"baseline {baseline.name!r} could not be scored: {failure.message}")
        for scale in doubtful_scales(self.record):
            keep = f"'+objectives={{{scale.task}: {{weight: 0}}}}' keeps the task on the front and out of the mean"
            self.say(f"advice: {scale}: give it more items, or {keep}")
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
        return self._score(numbers, "report")

    # ---- the optimizer's part ------------------------------------------------------------------------------------

    def _optimise(self, stage: int) -> None:
        """Search in one space until its share of the budget is spent and all results are in."""
        optimizer = self._optimizer(stage)
        waiting = self._replay(optimizer, stage)
        in_flight: dict[int, Track] = {}
        failures = 0
        while True:
            for device in self.pool.idle():
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
                    in_flight[number] = self._track(number, optimizer)
                track = in_flight[number]
                assert track.block is not None
                self.pool.submit(device, Job(number, self.record.trials[number].recipe, "search", track.block))
            if not in_flight:
                break
            for job, outcome in self.pool.poll():
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
                assert trial.proposal is not None
                assert trial.outcome is not None
                optimizer.tell(trial.proposal, trial.outcome)
                failures = failures + 1 if trial.failure else 0
                if trial.failure and failures >= MAX_FAILURES:
                    raise WorkError(f"{failures} candidates in a row failed, the last with: {trial.failure.message}")
        if self._budget_left(stage):
            raise WorkError(
                f"optimizer {self.config.optimizer.name} has nothing more to propose before the budget ends"
            )

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
            if vector is not None and trial.outcome is not None:
                optimizer.tell(Proposal(trial.number, vector), trial.outcome)
        return optimizer

    def _place(self, trial: Trial) -> Recipe:
        """Return the recipe by which a trial is found in a space."""
        return self.baselines[trial.number].place if trial.number < len(self.baselines) else trial.recipe

    def _replay(self, optimizer: Optimizer, stage: int) -> list[int]:
        """Ask and tell in the recorded order; return the numbers that were asked for but never told."""
        waiting: list[int] = []
        for what, number in self.record.order:
            trial = self.record.trials[number]
            if trial.kind != "candidate" or trial.stage != stage:
                continue
            assert trial.proposal is not None
            if what == "ask":
                try:
                    optimizer.replay(trial.proposal)
                except WorkError:
                    raise WorkError(
                        f"{self.ledger.path.parent}: candidate {number} is not what {self.config.optimizer.name} "
                        "proposes now (another version of a library?); fork_from=RUN starts a new run from its outcomes"
                    ) from None
                waiting.append(number)
            else:
                assert trial.outcome is not None
                optimizer.tell(trial.proposal, trial.outcome)
                waiting.remove(number)
        return waiting

    def _announce(self, proposal: Proposal, stage: int) -> int:
        number, recipe = proposal.number, self.stages[stage].space.recipe(proposal.vector)
        trial = Trial(number, "candidate", f"candidate {number}", recipe, proposal.vector, stage=stage)
        self._write(trial.ask_event())
        return number

    def _track(self, number: int, optimizer: Optimizer) -> Track:
        """Put a candidate on its way: against the best of what was known when it was asked for, if there is a race."""
        if not self.config.racing.enabled:
            return Track(self.items["search"])
        settings, goals = self.config.racing.settings, objectives(self.record, "search")
        front = optimizer.multi_objective and len(goals) > 1
        rule = cast(Rule, "front" if front else self.config.optimizer.scalarization)
        known = {
            trial.number: [score.array for score in trial.scores["search"].values()]
            for trial in self.record.complete_before(number)
        }
        means = {rival: [float(scores.mean()) for scores in by_task] for rival, by_task in known.items()}
        rivals = references(goals, rule, means, settings.references)
        race = Race(settings, goals, rule=rule, known=known, references=rivals, seed=self.config.seed << 32 | number)
        return Track(self.items["search"], race)

    def _check_racing(self) -> None:
        """Raise `UsageError` if a task's items have scores that a race cannot bound."""
        for trial in self.record.of_kind():
            for task, score in trial.scores.get("search", {}).items():
                if not all(0.0 <= value <= 1.0 for value in score.scores):
                    raise UsageError(f"racing: items of {task} have scores outside [0, 1]; write racing.enabled=false")

    def _budget_left(self, stage: int) -> bool:
        """Say whether a stage may go on: whether its share of the budget and that of those before is not spent."""
        budget, until = self.config.budget, self.stages[stage].until
        trials = self.record.trials.values()
        asked = len(self.record.of_kind("candidate"))
        items = sum(score.items for trial in trials for score in trial.scores.get("search", {}).values())
        seconds = sum(trial.seconds for trial in trials)
        candidates = None if budget.candidates is None else round(budget.candidates * until)
        spent = ((asked, candidates, 1.0), (items, budget.items, until), (seconds, budget.seconds, until))
        return all(limit is None or used < limit * share for used, limit, share in spent)

    # ---- scoring -------------------------------------------------------------------------------------------------

    def _score(self, numbers: list[int], split: Split) -> dict[int, Scored]:
        """Score trials on a split, in order, as workers come free; return what was found by number."""
        todo, in_flight, found = list(dict.fromkeys(numbers)), 0, {}
        items = self.items[split]
        while todo or in_flight:
            for device in self.pool.idle():
                if todo:
                    number = todo.pop(0)
                    self.pool.submit(device, Job(number, self.record.trials[number].recipe, split, items))
                    in_flight += 1
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
        """Return those that have no score on a split yet."""
        return [number for number in numbers if split not in self.record.trials[number].scores]

    def _tell(self, job: Job, outcome: Track | Failure) -> None:
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

    def _write(self, event: dict[str, Any]) -> None:
        self.ledger.append(event)
        self.record.take(event)
        self.watch(self.record)
