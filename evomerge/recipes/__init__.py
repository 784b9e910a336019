"""Recipes and the spaces they are searched in."""

from evomerge.recipes.dimension import Dimension
from evomerge.recipes.groups import Layout
from evomerge.recipes.recipe import Recipe
from evomerge.recipes.space import SearchSpace
from evomerge.recipes.stages import Stage, stages

__all__ = ["Dimension", "Layout", "Recipe", "SearchSpace", "Stage", "stages"]
