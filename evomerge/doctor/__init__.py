"""Whether models merge and what will go wrong, before anything heavy starts: facts, measured task vectors, verdicts."""

from evomerge.doctor.diagnose import Diagnosis, diagnose
from evomerge.doctor.findings import Finding
from evomerge.doctor.sizes import Sizes, measure_sizes

__all__ = ["Diagnosis", "Finding", "Sizes", "diagnose", "measure_sizes"]
