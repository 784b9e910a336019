"""The helper process of the sandbox: forks itself once a program, so that a program costs two milliseconds, not
twenty.

Run as a script by `sandbox.py`, in a fresh Python without site packages; it imports the standard library only and
never anything of evomerge. At its start it moves into namespaces of its own as far as the kernel lets it, and says
how far that was.

Frames on standard input and output: four bytes of length, big endian, and the payload. Out: JSON [isolation, scratch
folder on the host or null]. Then, for each program: in, its source; in, a token; out, JSON [passed, reason] (passed is
null if it could not be run). End of input ends the helper.

The token is the proof that a program came to its end: it enters the program's process through a pipe, after the fork,
and is read only when the last line has been executed. So a program that leaves early has not passed, whatever its
exit status.
"""

import ctypes
import json
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
from dataclasses import asdict, dataclass

# What programs import most, loaded once here instead of in every fork.
for _name in [
    "math",
    "re",
    "collections",
    "itertools",
    "functools",
    "heapq",
    "string",
    "random",
    "copy",
    "bisect",
    "operator",
    "typing",
]:
    __import__(_name)

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 1 << 27, 1 << 28, 1 << 29, 1 << 30
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
SYS_MOUNT_SETATTR, MOUNT_ATTR_RDONLY, AT_FDCWD, AT_RECURSIVE = 442, 1, -100, 0x8000
CAPABILITY_VERSION = 0x20080522
NOBODY = 65534
MEGABYTE = 2**20

libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Limits:
    """What a program may use: seconds of wall clock and CPU, megabytes of memory and of a file, processes."""

    seconds: float
    memory_mb: int
    file_mb: int
    processes: int


@dataclass
class Isolation:
    """How far the helper could be cut off from its host.

    Attributes:
        network: programs see no network but a loopback that is down.
        processes: programs see and signal no process but their own.
        files: programs can write nothing but a scratch folder in memory.
        user: programs run as the user nobody.
    """

    network: bool = False
    processes: bool = False
    files: bool = False
    user: bool = False


# -- isolation ---------------------------------------------------------------------------------------------------------


def isolate(limits: Limits) -> tuple[Isolation, str]:
    """Cut this process off from its host; returns how far, and the scratch folder, in the process that is to go on."""
    isolation = Isolation()
    own_user = enter_namespaces()
    scratch = None
    if own_user is not None:
        isolation.network = isolation.processes = True
        enter_process_namespace()
        scratch = close_file_system(limits)
        isolation.files = scratch is not None
    else:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    isolation.user = os.geteuid() == 0 and not own_user and may_become_nobody()
    return isolation, scratch or tempfile.mkdtemp(prefix="evomerge-sandbox-")


def enter_namespaces() -> bool | None:
    """Enter namespaces of our own; returns whether a user namespace was needed for it, None if the kernel refused."""
    wanted = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and libc.unshare(wanted) == 0:
        return False
    if libc.unshare(wanted | CLONE_NEWUSER) != 0:
        return None
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
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


def close_file_system(limits: Limits) -> str | None:
    """Make every mount read-only but a scratch folder in memory; returns that folder, None if it cannot be done."""
    if libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        return None
    libc.mount(b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV, None)  # where it may not, the host's /proc stays
    attributes = struct.pack("QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
    if libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, attributes, len(attributes)) != 0:
        return None
    needed = [os.path.realpath(path) for path in sys.path if path]
    for folder in ("/tmp", "/var/tmp", "/mnt", "/media"):
        hides = any(os.path.commonpath([folder, path]) == folder for path in needed)
        options = f"size={4 * limits.file_mb}m,mode=711,nr_inodes=4096".encode()
        flags = MS_NOSUID | MS_NODEV
        if os.path.isdir(folder) and not hides and libc.mount(b"tmpfs", folder.encode(), b"tmpfs", flags, options) == 0:
            move_library(folder)
            return folder
    return None


def move_library(folder: str) -> None:
    """Mount Python's library under `folder` too and use it there: it may be in a home that nobody else may enter."""
    moved = {}
    for number, path in enumerate(sys.path):
        place = f"{folder}/python{number}"
        if os.path.isdir(path):
            os.mkdir(place)
            if libc.mount(path.encode(), place.encode(), None, MS_BIND, None) == 0:
                moved[path] = place
    sys.path = [moved.get(path, path) for path in sys.path]
    for module in list(sys.modules.values()):
        if hasattr(module, "__path__"):
            for old, new in moved.items():
                module.__path__ = [path.replace(old, new, 1) for path in module.__path__]


def may_become_nobody() -> bool:
    """Try in a fork whether that can be done and leaves Python's library within reach."""
    library = [path for path in sys.path if os.path.isdir(path)]
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    try:
        become_nobody()
        for path in library:
            os.listdir(path)
    except OSError:
        os._exit(1)
    os._exit(0)


def become_nobody() -> None:
    """Give up the rights of root."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


# -- one program -------------------------------------------------------------------------------------------------------


def run(source: bytes, limits: Limits, isolation: Isolation, scratch: str) -> tuple[bool | None, str]:
    """Run one program in a fork; reads its token from standard input once it is on its way.

    Returns whether it passed and the reason; None if its limits could not be set, so that it was not run.
    """
    folder = os.path.join(scratch, "work")
    os.mkdir(folder)
    if isolation.user:
        os.chown(folder, NOBODY, NOBODY)
    from_program, to_us = os.pipe()
    from_us, to_program = os.pipe()
    pid = os.fork()
    if pid == 0:
        play(source, folder, to_us, from_us, limits, isolation)
    os.close(to_us)
    os.close(from_us)
    token = read_frame()
    os.write(to_program, token)
    os.close(to_program)
    status = wait(pid, time.monotonic() + limits.seconds)
    sweep(pid, isolation)
    os.set_blocking(from_program, False)
    try:
        said = os.read(from_program, 4096)
    except BlockingIOError:
        said = b""
    os.close(from_program)
    clear(scratch)
    if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return False, "timeout"
    if os.WIFSIGNALED(status):
        return False, signal.Signals(os.WTERMSIG(status)).name
    if said == b"passed " + token:
        return True, "passed"
    if said.startswith(b"raised ") and len(said) < 200:
        return False, said[7:].decode(errors="replace")
    if said.startswith(b"broken "):
        return None, said[7:].decode(errors="replace")
    return False, "left early"


def play(source: bytes, folder: str, to_us: int, from_us: int, limits: Limits, isolation: Isolation) -> None:
    """In the fork: execute a program under its limits and report. Does not return."""
    # Held as locals, since a program may put its own functions into the os module.
    write, read, leave, who = os.write, os.read, os._exit, os.getpid
    me = who()
    try:
        os.setsid()
        nowhere = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nowhere, standard)
        kept = sorted((to_us, from_us))
        for low, high in ((3, kept[0]), (kept[0] + 1, kept[1]), (kept[1] + 1, 65536)):
            os.closerange(low, high)
        os.chdir(folder)
        limit(limits)
        if isolation.user:
            become_nobody()
        drop_capabilities()
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
    except BaseException as error:
        write(to_us, f"broken {type(error).__name__}: {error}".encode())
        leave(1)
    try:
        exec(compile(source, "<program>", "exec"), {})
    except BaseException as error:
        try:
            if who() == me:  # not in a fork of the program's own
                write(to_us, b"raised " + type(error).__name__[:100].encode())
        finally:
            leave(1)
    if who() == me:
        write(to_us, b"passed " + read(from_us, 64))
    leave(0)


def limit(limits: Limits) -> None:
    """Set the kernel's limits on this process and all it starts."""
    cpu = max(1, int(limits.seconds + 0.999))
    for kind, soft, hard in (
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_AS, limits.memory_mb * MEGABYTE, limits.memory_mb * MEGABYTE),
        (resource.RLIMIT_FSIZE, limits.file_mb * MEGABYTE, limits.file_mb * MEGABYTE),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_NPROC, limits.processes, limits.processes),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(kind, (soft, hard))


def drop_capabilities() -> None:
    """Give up all capabilities for good, those of a user namespace too."""
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = struct.pack("Ii", CAPABILITY_VERSION, 0)
    if libc.capset(header, struct.pack("6I", 0, 0, 0, 0, 0, 0)) != 0:
        raise OSError("capabilities cannot be dropped")


def wait(pid: int, deadline: float) -> int | None:
    """Wait for a child to end; returns its status, None if it did not in time (it is left running)."""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        signal.sigtimedwait([signal.SIGCHLD], left)


def sweep(pid: int, isolation: Isolation) -> None:
    """Kill a program and everything it started, and reap it all."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if isolation.processes:
                os.kill(-1, signal.SIGKILL)
            else:
                for descendant in descendants():
                    os.kill(descendant, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        signal.sigtimedwait([signal.SIGCHLD], 0.01)
    sys.exit("a program could not be killed")


def descendants() -> list[int]:
    """Return all processes below this one (we are their subreaper, so orphans come to us)."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {os.getpid()}
    size = 0
    while len(found) > size:
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return sorted(found - {os.getpid()})


def clear(scratch: str) -> None:
    """Remove what a program left in the scratch folder, whatever it did to it; Python's library stays."""
    for name in os.listdir(scratch):
        path = os.path.join(scratch, name)
        if os.path.ismount(path):
            continue
        try:
            os.rmdir(path)
        except NotADirectoryError:
            os.remove(path)
        except OSError:
            os.chmod(path, 0o700)
            shutil.rmtree(path, onerror=lambda _, inner, __: os.chmod(os.path.dirname(inner), 0o700))
            shutil.rmtree(path, ignore_errors=True)


# -- frames ------------------------------------------------------------------------------------------------------------


def read_frame() -> bytes:
    """Read one frame from standard input; leaves at its end."""
    (length,) = struct.unpack(">I", read_exactly(4))
    return read_exactly(length)


def read_exactly(length: int) -> bytes:
    """Read so many bytes from standard input."""
    parts = []
    while length:
        part = os.read(0, min(length, MEGABYTE))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def write_frame(payload: object) -> None:
    """Write plain data as one frame to standard output."""
    data = json.dumps(payload).encode()
    os.write(1, struct.pack(">I", len(data)) + data)


def main() -> None:
    """Describe the isolation, then run programs until standard input ends."""
    limits = Limits(float(sys.argv[1]), *map(int, sys.argv[2:]))
    os.environ.clear()
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # where memory runs out, the kernel ends programs before anything of the host
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    isolation, scratch = isolate(limits)
    os.chmod(scratch, 0o711)
    write_frame([asdict(isolation), None if isolation.files else scratch])
    try:
        while True:
            write_frame(run(read_frame(), limits, isolation, scratch))
    except (EOFError, BrokenPipeError):
        pass
    finally:
        if not isolation.files:
            shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
