"""Whether models merge and what will go wrong, before anything heavy starts: facts, measured task vectors, verdicts."""

from evomerge.doctor.diagnose import Diagnosis, diagnose
from evomerge.doctor.findings import Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
