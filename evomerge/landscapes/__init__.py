"""Landscapes: test problems for optimizers and races, with known optima and fronts."""

from evomerge.landscapes.items import Thresholds, Traits
from evomerge.landscapes.landscape import Landscape, Sample
from evomerge.landscapes.recorded import FittedLandscape, GridLandscape
from evomerge.landscapes.registry import RECORDED, SYNTHETIC, landscape
from evomerge.landscapes.solve import Solution
from evomerge.landscapes.synthetic import MergeLandscape

__all__ = [
    "RECORDED",
    "SYNTHETIC",
    "FittedLandscape",
    "GridLandscape",
    "Landscape",
    "MergeLandscape",
    "Sample",
    "Solution",
    "Thresholds",
    "Traits",
    "landscape",
]
