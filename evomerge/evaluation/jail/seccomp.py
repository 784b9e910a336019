"""A filter of system calls: what no honest program needs and what would reach beyond a program's own processes.

It closes what namespaces and Landlock leave open: sockets of every kind (a pair of connected ones stays allowed, event
loops need it), tracing, new namespaces, shared memory and queues that outlive a process, keys, priorities, and calls
that go round the other rules. For 64-bit x86 and ARM; a call in another machine's numbering ends the process.
"""

import ctypes
import os
import struct
from dataclasses import dataclass

from .linux import PR_SET_SECCOMP, check, libc

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the tables below, audit number
X32 = 0x40000000  # the bit of x86's third numbering

#: name -> number on (x86_64, aarch64); None: no such call there
REFUSED = {
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
}
#: Changes of files that Landlock does not know; refused where no mount is read-only.
CHANGES_OF_FILES = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "truncate": (76, 45),
}
#: Signals to others; refused where nothing else holds them back.
SIGNALS = {"tkill": (200, 130)}
KILL, TGKILL, SIGQUEUE, TGSIGQUEUE = (62, 129), (234, 131), (129, 138), (297, 240)
PRLIMIT, FCNTL, CLONE, CLONE3 = (302, 261), (72, 25), (56, 220), (435, 435)
SETS_OWNER = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: signals to others in a roundabout way
NEW_NAMESPACES = 0x7E020080

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, MACHINE, ARGUMENT = 0, 4, 16  # offsets in the kernel's struct seccomp_data
ALLOW, REFUSE, NO_SUCH_CALL, END = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
ME = 0x7AFE0BAD  # stands in the filter for the process's own number, which is not known before it is there


@dataclass(frozen=True)
class Filter:
    """A filter to be put on a process; `template` is the kernel's program with `ME` where its number belongs."""

    template: bytes

    def enforce(self) -> None:
        """Put this process and all it starts under the filter, for good; needs `forbid_new_rights` before."""
        code = self.template.replace(struct.pack("<I", ME), struct.pack("<I", os.getpid()))
        program = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(program))
        check(libc.prctl(PR_SET_SECCOMP, 2, header, 0, 0), "seccomp")


def build(*, files: bool, signals: bool) -> Filter | None:
    """Return the filter, None on a machine whose numbers are not known here.

    Args:
        files: refuse changes of the mode, owner, times and attributes of files too.
        signals: refuse signals to other processes too, a program's own children among them.
    """
    machine = os.uname().machine
    if machine not in MACHINES or struct.calcsize("P") != 8:
        return None
    column, audit = MACHINES[machine]
    code = [(LOAD, 0, 0, MACHINE), (EQUAL, 1, 0, audit), (RETURN, 0, 0, END), (LOAD, 0, 0, NUMBER)]
    code += [(AT_LEAST, 0, 1, X32), (RETURN, 0, 0, END)] if column == 0 else []
    refused = REFUSED | (CHANGES_OF_FILES if files else {}) | (SIGNALS if signals else {})
    for numbers in refused.values():
        if (number := numbers[column]) is not None:
            code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    code += [(EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, NO_SUCH_CALL)]  # the C library then takes `clone`
    code += argument(CLONE[column], 0, [(ANY_BIT, 0, 1, NEW_NAMESPACES), (RETURN, 0, 0, REFUSE)])
    code += argument(PRLIMIT[column], 0, only(0, ME))
    if signals:
        code += argument(KILL[column], 0, only(0, ME))
        for numbers in (TGKILL, SIGQUEUE, TGSIGQUEUE):
            code += argument(numbers[column], 0, only(ME))
        code += argument(FCNTL[column], 1, [line for value in SETS_OWNER for line in is_refused(value)])
    code.append((RETURN, 0, 0, ALLOW))
    return Filter(b"".join(struct.pack("<HBBI", *line) for line in code))


Line = tuple[int, int, int, int]


def argument(number: int, which: int, lines: list[Line]) -> list[Line]:
    """Return lines that look at the low half of an argument of one call; what they do not refuse goes on."""
    return [
        (EQUAL, 0, len(lines) + 2, number),
        (LOAD, 0, 0, ARGUMENT + 8 * which),
        *lines,
        (LOAD, 0, 0, NUMBER),
    ]


def only(*values: int) -> list[Line]:
    """Return lines that refuse every value but these."""
    tests = [(EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [*tests, (RETURN, 0, 0, REFUSE)]


def is_refused(value: int) -> list[Line]:
    """Return lines that refuse one value."""
    return [(EQUAL, 0, 1, value), (RETURN, 0, 0, REFUSE)]
