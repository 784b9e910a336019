"""Which kind of workers a configuration means. This file knows nothing about what they do."""

from evomerge.errors import UsageError
from evomerge.search.config import SearchConfig
from evomerge.search.workers.base import WorkerPool
from evomerge.search.workers.in_process import InProcessPool
from evomerge.search.workers.placing import apart, devices_of
from evomerge.search.workers.ray_pool import RayPool
from evomerge.search.workers.spawned import SpawnedPool


def choose(config: SearchConfig) -> tuple[WorkerPool, list[str]]:
    """Return the pool, not yet started, and a device for each of its workers; `UsageError` if it cannot be had."""
    workers = config.workers
    if workers.name == "ray":
        pool = RayPool(workers.ray, patience=workers.patience, job_seconds=workers.job_seconds)
        return pool, pool.connect(workers.devices, config.evaluation)
    devices = devices_of(workers.devices, config.evaluation)
    own = len(devices) > 1 or apart(devices[0], config.evaluation)
    if workers.name == "spawned" or (workers.name == "auto" and own):
        return SpawnedPool(patience=workers.patience, job_seconds=workers.job_seconds), devices
    if own:
        named = f"{len(devices)}" if len(devices) > 1 else f"on {devices[0]} alone"
        raise UsageError(f"workers.name: in_process is one worker, not {named}; write workers=spawned")
    return InProcessPool(), devices
