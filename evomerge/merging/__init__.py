"""Building merged models: methods, the DARE mask, the resident engine, export."""

from evomerge.merging.engine import AppliedMerge, MergeEngine
from evomerge.merging.export import ExportReport, export
from evomerge.merging.methods import METHODS, density, get, parameter_defaults
from evomerge.merging.settings import check
from evomerge.merging.stream import stream

__all__ = [
    "METHODS",
    "AppliedMerge",
    "ExportReport",
    "MergeEngine",
    "check",
    "density",
    "export",
    "get",
    "parameter_defaults",
    "stream",
]
