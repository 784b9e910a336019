"""The system calls that Python does not offer, and what the files of this folder share. Linux only."""

import ctypes
import os
import struct
from dataclasses import dataclass

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 8, 22, 36, 38
CAPABILITY_VERSION = 0x20080522
CAP_DAC_READ_SEARCH = 2
MEGABYTE = 2**20
PATIENCE = 4  # times its seconds that a program may take by the clock where it did not get the processor for them

libc = ctypes.CDLL(None, use_errno=True)


class RefusedError(Exception):
    """The kernel does not grant what a level of the sandbox needs; the message says what."""


@dataclass(frozen=True)
class Limits:
    """What a program may use: seconds of wall clock and CPU, megabytes of memory and of a file, processes."""

    seconds: float
    memory_mb: int
    file_mb: int
    processes: int


@dataclass
class Isolation:
    """How far programs are cut off from their host.

    Attributes:
        network: they reach no network.
        processes: they see no process but their own.
        signals: they can signal no process but their own.
        writing: they can write nothing but a scratch folder.
        reading: they can read nothing but Python's library and what it needs.
        user: they run as a user of their own.
        calls: a filter refuses the system calls that no honest program needs.
    """

    network: bool = False
    processes: bool = False
    signals: bool = False
    writing: bool = False
    reading: bool = False
    user: bool = False
    calls: bool = False


def check(result: int, what: str) -> int:
    """Return the result of a system call; raises `RefusedError` if it failed."""
    if result < 0:
        raise RefusedError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def forbid_new_rights() -> None:
    """Give up for good that executing a file can bring rights."""
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def set_capabilities(*kept: int) -> None:
    """Give up all capabilities but these."""
    mask = sum(1 << capability for capability in kept)
    header = struct.pack("Ii", CAPABILITY_VERSION, 0)
    check(libc.capset(header, struct.pack("6I", mask, mask, 0, 0, 0, 0)), "capabilities")


def become(user: int, *capabilities: int) -> None:
    """Go on as this user and group, with no capabilities but these."""
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    set_capabilities(*capabilities)
