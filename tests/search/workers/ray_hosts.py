"""A Ray cluster on this machine whose hosts are node processes of their own, as `ray start` makes them."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: Without the token that hosts of a cluster share, and without a word to Ray's makers.
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


class Hosts:
    """A head without processors, and any number of hosts with one each."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self._folder = tempfile.TemporaryDirectory(prefix="ray-")  # short: it has sockets
        self._running: list[subprocess.Popen[bytes]] = []
        head = [
            "--head",
            f"--port={port}",
            "--num-cpus=0",
            "--include-dashboard=false",
            f"--temp-dir={self._folder.name}",
        ]
        self._start(*head)

    def add(self, *words: str) -> subprocess.Popen[bytes]:
        """Start one more host."""
        return self._start(f"--address={self.address}", *(words or ["--num-cpus=1"]))

    def kill(self, host: subprocess.Popen[bytes]) -> None:
        """End all processes of a host at once, its workers too."""
        import psutil

        family = psutil.Process(host.pid).children(recursive=True)
        for process in [psutil.Process(host.pid), *family]:
            process.kill()
        host.wait()
        self._running.remove(host)

    def kill_head(self) -> None:
        """End the head, and leave the other hosts alone."""
        self.kill(self._running[0])

    def close(self) -> None:
        """End the cluster."""
        for host in list(self._running)[::-1]:
            self.kill(host)
        self._folder.cleanup()

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address=127.0.0.1"]
        store = ["--object-store-memory=100000000", "--disable-usage-stats"] if "--head" in words else []
        out = Path(self._folder.name) / f"host-{len(self._running)}-{time.monotonic_ns()}.txt"
        with out.open("wb") as file:
            host = subprocess.Popen(
                [*command, *store, *words], stdout=file, stderr=file, env={**os.environ, **ENVIRONMENT}
            )
        self._running.append(host)
        end = time.monotonic() + 90
        while b"Ray runtime started" not in out.read_bytes():
            assert host.poll() is None, out.read_text()
            assert time.monotonic() < end, out.read_text()
            time.sleep(0.2)
        return host
