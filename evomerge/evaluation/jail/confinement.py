"""Cuts a helper off from its host as far as its level says, and each program further than its helper.

A helper calls `confine` once, at its start: it enters namespaces where its level has them, makes the scratch folder,
and prepares what is put on every program after its fork (`Confinement.enforce`): a user of its own where the helper is
root, no capabilities, Landlock, and the filter of system calls.
"""

import os
import signal
import struct
import sys
import tempfile
from dataclasses import dataclass

from . import landlock, seccomp
from .folder import FILES, bytes_in
from .linux import (
    CAP_DAC_READ_SEARCH,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    Isolation,
    Limits,
    RefusedError,
    become,
    check,
    forbid_new_rights,
    libc,
    set_capabilities,
)

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 1 << 27, 1 << 28, 1 << 29, 1 << 30
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
SYS_MOUNT_SETATTR, MOUNT_ATTR_RDONLY, AT_FDCWD, AT_RECURSIVE = 442, 1, -100, 0x8000
NOBODY = 65534

SYSTEM = ["/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/localtime"]
SYSTEM += ["/usr/share/zoneinfo", "/usr/share/locale", "/usr/share/i18n", "/dev/zero", "/dev/random", "/dev/urandom"]
DEVICES = ["/dev/null"]


@dataclass(frozen=True)
class Confinement:
    """What holds the programs of a helper.

    Attributes:
        isolation: what is reached with it.
        scratch: the folder in which a program's own folder is made.
        on_host: the scratch folder is one of the host's, to be removed at the end.
        own_processes: the helper is the first process of a process namespace.
        user: the user as whom programs run, None for the helper's own.
        capabilities: what they keep of root's rights: where their user could not read Python's library otherwise, the
            right to read, within the other rules.
        rules, filter: Landlock's rules (a file descriptor) and the filter of system calls, None without.
    """

    isolation: Isolation
    scratch: str
    on_host: bool
    own_processes: bool
    user: int | None
    capabilities: tuple[int, ...]
    rules: int | None
    filter: seccomp.Filter | None

    def enforce(self) -> None:
        """Put all this on the calling process, for good."""
        if self.user is None:
            set_capabilities()
        else:
            become(self.user, *self.capabilities)
        forbid_new_rights()
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if self.rules is not None:
            landlock.enforce(self.rules)
            os.close(self.rules)
        if self.filter is not None:
            self.filter.enforce()


def confine(level: str, limits: Limits, user_number: int) -> Confinement:
    """Cut this process off from its host as the level says; returns in the process that is to go on.

    Args:
        level: "bwrap" (this process has been started by it), "userns+landlock", "landlock" or "rlimits".
        limits: what a program may use.
        user_number: the user as whom programs are to run, where this process may choose.

    Raises `RefusedError` if the kernel does not grant what the level needs.
    """
    own_user_namespace = False
    if level == "bwrap":
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        scratch = "/tmp"
    elif level == "userns+landlock":
        own_user_namespace = enter_namespaces()
        enter_process_namespace()
        scratch = close_file_system(limits)
    else:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        scratch = tempfile.mkdtemp(prefix="evomerge-sandbox-")
    os.chmod(scratch, 0o711)
    inside = level in ("bwrap", "userns+landlock")
    locked = level != "rlimits" and landlock.version() > 0
    if not locked and level in ("userns+landlock", "landlock"):
        raise RefusedError("Landlock: not in this kernel, or not switched on")
    user: int | None = None
    capabilities: tuple[int, ...] = ()
    if os.geteuid() == 0 and not own_user_namespace:
        user, capabilities = choose_user(user_number)
    scoped = locked and landlock.version() >= 6
    call_filter = seccomp.build(files=not inside, signals=not (inside or scoped))
    if level == "landlock" and call_filter is None:
        raise RefusedError("seccomp: not on this machine")
    isolation = Isolation(
        network=inside or call_filter is not None,
        processes=inside or locked,
        signals=inside or scoped or user is not None or call_filter is not None,
        writing=inside or locked,
        reading=level == "bwrap" or locked,
        user=user is not None,
        calls=call_filter is not None,
    )
    rules = landlock.build(library() + SYSTEM, DEVICES, scratch) if locked else None
    return Confinement(isolation, scratch, not inside, inside, user, capabilities, rules, call_filter)


def enter_namespaces() -> bool:
    """Enter namespaces of our own; returns whether a user namespace was needed for it."""
    wanted = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and libc.unshare(wanted) == 0:
        return False
    check(libc.unshare(wanted | CLONE_NEWUSER), "user namespaces")
    try:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError as error:
        raise RefusedError(f"user namespaces: {error}") from None
    return True


def enter_process_namespace() -> None:
    """Go on as the first process of the new process namespace; the one outside only waits, and dies with it."""
    inner = os.fork()
    if inner:
        os.close(0)
        os.close(1)
        os.waitpid(inner, 0)
        os._exit(0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def close_file_system(limits: Limits) -> str:
    """Make every mount read-only but a scratch folder in memory; returns that folder."""
    check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "a mount namespace")
    libc.mount(b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV, None)  # where it may not, the host's /proc stays
    attributes = struct.pack("QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
    changed = libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, attributes, len(attributes))
    check(changed, "a read-only file system")
    needed = [os.path.realpath(path) for path in sys.path if path]
    for folder in ("/tmp", "/var/tmp", "/mnt", "/media"):
        hides = any(os.path.commonpath([folder, path]) == folder for path in needed)
        options = f"size={bytes_in(limits)},mode=711,nr_inodes={FILES}".encode()
        flags = MS_NOSUID | MS_NODEV
        if os.path.isdir(folder) and not hides and libc.mount(b"tmpfs", folder.encode(), b"tmpfs", flags, options) == 0:
            move_library(folder)
            return folder
    raise RefusedError("a scratch folder in memory: no place for it")


def move_library(folder: str) -> None:
    """Mount Python's library under `folder` too and use it there: it may be in a home that nobody else may enter."""
    moved = {}
    for number, path in enumerate(sys.path):
        place = f"{folder}/python{number}"
        if os.path.isdir(path):
            os.mkdir(place)
            if libc.mount(path.encode(), place.encode(), None, MS_BIND, None) == 0:
                moved[path] = place
    sys.path[:] = [moved.get(path, path) for path in sys.path]
    for module in list(sys.modules.values()):
        if hasattr(module, "__path__"):
            for old, new in moved.items():
                module.__path__ = [path.replace(old, new, 1) for path in module.__path__]


def library() -> list[str]:
    """Return the paths of Python's standard library and the shared libraries beside it, without installed packages."""
    paths = []
    for folder in filter(os.path.isdir, sys.path):
        paths.append(folder + "/")
        paths += [f"{folder}/{name}" for name in os.listdir(folder) if name not in ("site-packages", "dist-packages")]
    beside = os.path.join(sys.base_prefix, "lib")
    if os.path.isdir(beside):
        paths += [f"{beside}/{name}" for name in os.listdir(beside) if ".so" in name]
    return paths


def choose_user(user: int) -> tuple[int | None, tuple[int, ...]]:
    """Return the user as whom programs of a helper that is root run, and the capabilities that it must keep.

    None where root has not the right to change its user.
    """
    for candidate in (user, NOBODY):  # a container may know few users
        for capabilities in ((), (CAP_DAC_READ_SEARCH,)):
            if may_become(candidate, capabilities):
                return candidate, capabilities
    return None, ()


def may_become(user: int, capabilities: tuple[int, ...]) -> bool:
    """Try in a fork whether that can be done and leaves Python's library within reach."""
    folders = [path for path in sys.path if os.path.isdir(path)]
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    try:
        become(user, *capabilities)
        for path in folders:
            os.listdir(path)
    except (OSError, RefusedError):
        os._exit(1)
    os._exit(0)
