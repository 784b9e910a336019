"""Racing: candidates are scored in blocks of items, and one that is certainly worse than the best so far is stopped.

The statistics, each in a small file: in which order the items come (`order`), what is expected of a candidate on an
item (`prediction`, `irt`), unbiased estimates from the items so far (`estimates`), a bet against "it is as good as
that one" that may be looked at after every item (`betting`), what "as good" means under each rule (`rules`), whom a
candidate runs against (`references`), and the race that joins them (`race`).

Everything here is a pure function of numbers and a seed: it knows nothing about models, files or ledgers.
"""

from evomerge.search.racing.estimates import Estimate
from evomerge.search.racing.race import Race
from evomerge.search.racing.references import References, references
from evomerge.search.racing.settings import RacingSettings, Rule

__all__ = ["Estimate", "Race", "RacingSettings", "References", "Rule", "references"]
