"""mergekit's configurations, to and from recipes and experiments."""

from evomerge.recipes.mergekit.export import to_mergekit
from evomerge.recipes.mergekit.files import export_file, import_file
from evomerge.recipes.mergekit.genome import from_genome
from evomerge.recipes.mergekit.reading import from_mergekit

__all__ = ["export_file", "from_genome", "from_mergekit", "import_file", "to_mergekit"]
