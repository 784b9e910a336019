"""The families of tests/checkpoints, for merging."""

from tests.checkpoints.conftest import family, float32, sharded, tied

__all__ = ["family", "float32", "sharded", "tied"]
