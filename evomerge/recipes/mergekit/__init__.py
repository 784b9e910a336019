"""mergekit's configurations, to and from recipes and experiments."""

from evomerge.recipes.mergekit.document import load_yaml
from evomerge.recipes.mergekit.export import to_mergekit
from evomerge.recipes.mergekit.reading import from_mergekit, models_of, needs_layout

__all__ = ["from_mergekit", "load_yaml", "models_of", "needs_layout", "to_mergekit"]
