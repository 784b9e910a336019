"""mergekit's configurations, to and from recipes and experiments."""

from evomerge.mergekit.export import to_mergekit
from evomerge.mergekit.files import export_file, export_text, import_file
from evomerge.mergekit.genome import from_genome
from evomerge.mergekit.reading import from_mergekit

__all__ = ["export_file", "export_text", "from_genome", "from_mergekit", "import_file", "to_mergekit"]
