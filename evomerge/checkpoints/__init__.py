"""Reading models: references, checkpoints, and the pool of a base and its experts."""

from evomerge.checkpoints.checkpoint import Checkpoint, file_sha256
from evomerge.checkpoints.pool import ModelPool
from evomerge.checkpoints.reference import ModelReference, resolve

__all__ = ["Checkpoint", "ModelPool", "ModelReference", "file_sha256", "resolve"]
