"""Landlock: the kernel's rules (Linux 5.13 and later) by which a process without rights gives up the file system.

Under these rules a program reads nothing but the paths it is given and writes nothing but one folder; it executes no
file, binds and connects no TCP socket (from interface version 4 on), and reaches no abstract socket and no process of
others by a signal (from version 6 on). Not covered by any version: changing the mode, owner, times and attributes of
files, and asking whether a path exists. Source: Documentation/userspace-api/landlock.rst of the kernel.
"""

import os
import struct
from collections.abc import Iterable

from .linux import check, libc

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
ALL_FILE_RIGHTS = {1: 2**13 - 1, 2: 2**14 - 1, 3: 2**15 - 1, 5: 2**16 - 1}  # by the version that brought the last
TRUNCATE = 1 << 14
ALL_NETWORK_RIGHTS = 0b11  # bind and connect TCP, version 4
ALL_SCOPES = 0b11  # abstract sockets and signals, version 6


def version() -> int:
    """Return the version of the kernel's interface, 0 where there is none."""
    return max(0, int(libc.syscall(CREATE_RULESET, None, 0, 1)))


def build(readable: Iterable[str], devices: Iterable[str], scratch: str) -> int:
    """Return a file descriptor of rules: read what is below `readable`, read and write `devices`, all in `scratch`.

    A directory whose path ends in "/" may be listed, with all below it, and no more. Raises `RefusedError`.
    """
    here = version()
    rights = ALL_FILE_RIGHTS[max([known for known in ALL_FILE_RIGHTS if known <= here], default=1)]
    attributes = struct.pack("QQQ", rights, ALL_NETWORK_RIGHTS * (here >= 4), ALL_SCOPES * (here >= 6))
    rules = check(libc.syscall(CREATE_RULESET, attributes, len(attributes), 0), "Landlock")
    for path in readable:
        if path.endswith("/"):
            allow(rules, path, READ_DIR)
        else:
            allow(rules, path, READ_FILE | READ_DIR if os.path.isdir(path) else READ_FILE)
    for path in devices:
        allow(rules, path, rights & (READ_FILE | WRITE_FILE | TRUNCATE))
    allow(rules, scratch, rights & ~EXECUTE)
    return rules


def allow(rules: int, path: str, rights: int) -> None:
    """Add one rule; a path that does not exist is none."""
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    check(libc.syscall(ADD_RULE, rules, 1, struct.pack("=Qi", rights, file), 0), f"Landlock {path}")
    os.close(file)


def enforce(rules: int) -> None:
    """Put this process and all it starts under the rules, for good; needs `forbid_new_rights` before."""
    check(libc.syscall(RESTRICT_SELF, rules, 0), "Landlock")
