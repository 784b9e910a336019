"""Reading models: references, checkpoints and adapters, and the pool of a base and its experts."""

from evomerge.checkpoints.adapter import Adapter
from evomerge.checkpoints.checkpoint import Checkpoint, file_sha256
from evomerge.checkpoints.model import Model
from evomerge.checkpoints.pool import ModelPool
from evomerge.checkpoints.reference import ModelReference, resolve
from evomerge.checkpoints.source import TensorSource

__all__ = ["Adapter", "Checkpoint", "Model", "ModelPool", "ModelReference", "TensorSource", "file_sha256", "resolve"]
