"""A Ray actor for each worker, on one host or on several: how it is made, reached and ended.

`supervised.py` watches over them: that an actor is replaced, and when a job is tried once more, is not left to Ray,
which would try a candidate that kills its worker again and again. Weights never travel, and nothing is kept in Ray's
object store. A worker that finds no place in the cluster waits for one, while the others go on. This file knows nothing
about scoring.
"""

import contextlib
import importlib.util
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.errors import UsageError, WorkError
from evomerge.memory import SHARING
from evomerge.search.config import Evaluation, RaySettings
from evomerge.search.workers.base import Factory, Job
from evomerge.search.workers.placing import gpus_each
from evomerge.search.workers.ray_worker import RayWorker, Sign
from evomerge.search.workers.supervised import LOOK, Ending, SupervisedPool, Worker

#: Seconds after which it is said that a worker still waits for its place.
WAITS = 15.0
#: Seconds between two calls at the head, and after which it counts as gone: after a minute Ray ends this process.
CALL, GONE = 5.0, 20.0
#: Bytes of the object store of a cluster that is begun here: answers only pass through.
STORE = 256 * 2**20
#: What a worker is told of the search's environment, where its host says nothing of its own.
TOLD = ("HF_", "TRANSFORMERS_", "TOKENIZERS_", "EVOMERGE_")


@dataclass(kw_only=True)
class RayActor(Worker):
    """A worker, its actor, and what is awaited of it.

    Attributes:
        actor: Ray's handle.
        answer: of the scorer's building, or of a job; None while it has nothing to do.
        sign: of life, which it has been asked for.
        host: where it lives, "" as long as it has no place.
        begun: when it was made (monotonic), and `waits`, whether it was said that it has no place yet.
        error: Ray's, when it is dead.
    """

    actor: Any
    answer: Any
    sign: Any
    begun: float
    host: str = ""
    waits: bool = False
    error: Exception | None = None


class RayPool(SupervisedPool[RayActor]):
    """One Ray actor a worker.

    Args:
        settings: which cluster, and what a worker takes of it.
        patience: seconds without a sign of life after which a worker counts as hung.
        job_seconds: seconds after which a job is given up; None: found from how long others took.
    """

    def __init__(self, settings: RaySettings, *, patience: float = 60.0, job_seconds: float | None = None) -> None:
        super().__init__(patience=patience, job_seconds=job_seconds)
        self._takes, self._ours, self._gpus = settings, False, 0.0
        self._beside = 1  # workers a host, as they share its memory
        self._asked = 0.0  # when all were last asked for a sign of life
        self._called, self._silent = 0.0, 0.0  # when the head was last called, and since when it does not answer

    def connect(self, wanted: str | int | Sequence[str], evaluation: Evaluation) -> list[str]:
        """Join the cluster, or begin one on this host; returns a device for each worker, as it will see it.

        Args:
            wanted: `workers.devices`. "auto": as many workers as the cluster has GPUs for, without any one a host; or
                their number.
            evaluation: how a worker scores: on which device, over how many GPUs.

        Raises `UsageError` if there is no Ray, no such cluster, or no sense in what is wanted.
        """
        self._ours = _join(self._takes.address)
        import ray

        self._head = str(ray.get_runtime_context().gcs_address)
        total = ray.cluster_resources()
        has_gpus = total.get("GPU", 0.0) >= 1 and evaluation.device in ("auto", "cuda")
        each = gpus_each(evaluation)
        if self._takes.gpus is not None:
            self._gpus = self._takes.gpus
            if each is not None and 0 < self._gpus < each != 1:
                raise UsageError(f"workers.ray.gpus: {self._gpus:g}: a worker has a model over {each}")
        elif has_gpus:
            if each is None:
                raise UsageError("workers.ray.gpus: say how many GPUs a worker spreads its model over")
            self._gpus = float(each)
        hosts = sum(node["Alive"] and node["Resources"].get("CPU", 0.0) > 0 for node in ray.nodes())
        if wanted == "auto":
            count = int(total.get("GPU", 0.0) // self._gpus) if self._gpus else hosts
        elif isinstance(wanted, int) and not isinstance(wanted, bool):
            count = wanted
        else:
            raise UsageError(f"workers.devices: {wanted!r}: with Ray, write auto or a number of workers")
        if count < 1:
            raise UsageError("workers.devices: the Ray cluster has no place for a worker; a number would wait for it")
        self._beside = -(-count // max(1, hosts))
        device = evaluation.device if evaluation.device != "auto" else "cuda" if self._gpus else "cpu"
        return [device] * count

    def start(self, factory: Factory, devices: Sequence[str], say: Callable[[str], None]) -> Mapping[str, Any]:
        """Make one worker a device, of those that `connect` returned."""
        import ray

        kind = ray.remote(concurrency_groups={"signs": 1})(RayWorker)
        options = {"num_cpus": self._takes.cpus, "num_gpus": self._gpus, "resources": dict(self._takes.resources)}
        self._kind = kind.options(**options, max_restarts=0, max_task_retries=0)
        return super().start(factory, devices, say)

    def close(self) -> None:
        """End the workers, and the cluster if it was begun for them."""
        import ray

        for worker in self._workers.values() if not self._silent else ():  # without a head they end by themselves
            with contextlib.suppress(ray.exceptions.RayError):  # dead already
                ray.kill(worker.actor)
        self._workers = {}
        if self._ours:
            ray.shutdown()

    # ---- one worker --------------------------------------------------------------------------------------------------

    def _make(self, name: str, device: str) -> RayActor:
        environment = {name: value for name, value in os.environ.items() if name.startswith(TOLD)}
        environment[SHARING] = str(self._beside)
        actor = self._kind.remote(os.getcwd(), environment)
        built = actor.build.remote(pickle.dumps(self._factory), device)
        return RayActor(
            *(name, device, False), actor=actor, answer=built, sign=_asked_for_sign(actor), begun=time.monotonic()
        )

    def _send(self, worker: RayActor, job: Job) -> None:
        worker.answer = worker.actor.score.remote(job)

    def _listen(self, seconds: float) -> None:
        import ray

        by_answer = {worker.answer: worker for worker in self._workers.values() if worker.answer is not None}
        awaited = list(by_answer)
        if not awaited:
            time.sleep(min(seconds, LOOK))
        elif ray.wait(awaited, num_returns=1, timeout=seconds)[0]:
            for answer in ray.wait(awaited, num_returns=len(awaited), timeout=0)[0]:
                self._take_answer(by_answer[answer], answer)
        if time.monotonic() - self._asked >= LOOK:
            self._asked = time.monotonic()
            by_sign = {worker.sign: worker for worker in self._workers.values()}
            for sign in ray.wait(list(by_sign), num_returns=len(by_sign), timeout=0)[0]:
                self._take_sign(by_sign[sign])
            self._tell_of_waiting()
            self._call_head()

    def _call_head(self) -> None:
        """Raise `WorkError` if the cluster has lost its head: others go on for a while, and then all ends at once."""
        now = time.monotonic()
        if now - self._called < CALL:
            return
        self._called = now
        if _reached(self._head) is None:
            self._silent = 0.0
        elif not self._silent:
            self._silent = now
        elif now - self._silent > GONE:
            raise WorkError(
                f"the head of the Ray cluster, {self._head}, does not answer any more; what was recorded is safe: "
                "start a cluster, and the same command goes on from there"
            )

    def _take_answer(self, worker: RayActor, answer: Any) -> None:
        import ray

        if not worker.ready and ray.wait([worker.sign], timeout=LOOK)[0]:
            self._take_sign(worker)  # which may have things to say that came before
        if self._workers[worker.name] is worker:
            worker.answer = None
            for kind, value in self._get(worker, answer) or []:
                self._hear(worker, kind, value)

    def _take_sign(self, worker: RayActor) -> None:
        """Take a sign of life that has come, and ask for the next."""
        found: Sign | None = self._get(worker, worker.sign)
        if found is not None:
            worker.placed, worker.host = True, found.host
            for line in found.lines:
                self._hear(worker, "say", line)
            self._hear(worker, "alive", None)
            worker.sign = _asked_for_sign(worker.actor)

    def _tell_of_waiting(self) -> None:
        for worker in self._workers.values():
            if not worker.placed and not worker.waits and time.monotonic() - worker.begun > WAITS:
                worker.waits = True
                self._say(f"worker {worker.name} is not there yet: Ray has to find {self._needs()} for it and start it")

    def _get(self, worker: RayActor, reference: Any) -> Any:
        """Return what came; None if the worker is dead, and then it is replaced."""
        import ray

        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise WorkError(f"worker {worker.name}: {' '.join(str(error.cause).split())}") from None
        except ray.exceptions.RayError as error:
            worker.error = error
            self._replace(worker, None)
            return None

    def _end(self, worker: RayActor) -> Ending:
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(worker.actor)  # after some seconds by SIGKILL, if it does not hear
        on = f" on {worker.host}" if worker.host else ""
        if isinstance(worker.error, ray.exceptions.ActorUnavailableError):
            return Ending(f"cannot be reached any more{on}", own=False)
        if "node has died" in str(worker.error):
            return Ending(f"was lost{on}, which is gone", own=False)
        if isinstance(worker.error, ray.exceptions.OutOfMemoryError):
            return Ending(f"was ended by Ray{on}, where memory was short", memory=True)
        return Ending(f"died{on} (out of memory?)")

    def _needs(self) -> str:
        takes = {"CPU": self._takes.cpus, "GPU": self._gpus, **self._takes.resources}
        return ", ".join(f"{amount:g} {name}" for name, amount in takes.items() if amount)


def _asked_for_sign(actor: Any) -> Any:
    return actor.sign.options(concurrency_group="signs").remote()


def _join(address: str | None) -> bool:
    """Join a cluster, or begin one on this host if none was named and none is there; says whether it was begun."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError("workers=ray needs Ray; install it with: pip install 'evomerge[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that it was used
    import ray

    ray._private.worker._worker_logs_enabled = False  # of a dead worker it would say many lines in the midst of ours
    if ray.is_initialized():
        return False
    quietly: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None and address != "local":
        _must_answer(address)
    with _own_signals():
        if address != "local":
            try:
                ray.init(address=address or "auto", **quietly)
                return False
            except ConnectionError as error:
                if address is not None:
                    raise UsageError(f"workers.ray.address: {address}: {' '.join(str(error).split())[:200]}") from None
        ray.init(address="local", include_dashboard=False, object_store_memory=STORE, **quietly)
    return True


def _must_answer(address: str) -> None:
    """Raise `UsageError` where nobody listens: Ray would try for a minute, and then end the process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"workers.ray.address: {address!r}: write HOST:PORT, local, or null")
    error = _reached(address)
    if error is not None:
        raise UsageError(f"workers.ray.address: no Ray cluster answers at {address}: {error}")


def _reached(address: str) -> Exception | None:
    """Return why nobody can be reached at HOST:PORT; None if somebody is."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        return error
    return None


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's way to end on SIGTERM, which Ray would replace by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
