"""Whom a candidate races against, and what is known when it sets out: kept up as results come in, never gathered anew.

Of a hundred thousand complete trials few matter: those that a candidate must be as good as, and the latest, from which
its scores are foretold. This file knows nothing about how a race is run.
"""

from collections import deque

from evomerge.search.racing import Race, RacingSettings, References, Rule
from evomerge.search.record import Record, Trial
from evomerge.search.results import objectives
from evomerge.threads import one_thread

#: Scores are foretold from so many complete trials, the latest: a search comes to where these lie.
KNOWN = 256


class Rivals:
    """The rivals of one stage's candidates.

    Args:
        record: of the search, with base and experts scored.
        settings: of the races.
        rule: how candidates are compared.
        seed: of the search.
    """

    def __init__(self, record: Record, settings: RacingSettings, rule: Rule, seed: int) -> None:
        self._record, self._settings, self._rule, self._seed = record, settings, rule, seed
        self._goals = objectives(record, "search")
        self._references = References(self._goals, rule, settings.references)
        self._latest: deque[Trial] = deque(maxlen=KNOWN)
        self._seen = 0

    @one_thread()
    def race(self, number: int) -> Race:
        """Return the race of a candidate against what was known when it was asked for; call it in the order of asks."""
        for trial in self._record.complete_before(number, since=self._seen):
            self._seen += 1
            self._latest.append(trial)
            scores = trial.scores["search"].values()
            self._references.add(trial.number, [float(score.array.mean()) for score in scores])
        references, latest = self._references.now(), {trial.number: trial for trial in self._latest}
        known = {rival: self._record.trials[rival] for rival in references if rival not in latest} | latest
        return Race(
            self._settings,
            self._goals,
            rule=self._rule,
            known={
                trial.number: [score.array for score in trial.scores["search"].values()] for trial in known.values()
            },
            references=references,
            seed=self._seed << 32 | number,
        )
