"""seccomp: which system calls a process may make.

The filter denies the calls of `system_calls.py` and allows all others, because the calls that frameworks and the C
library need are too many, and differ between their versions. If a supervisor watches, a denied call is reported to it
(SECCOMP_RET_USER_NOTIF) and answered by it; otherwise the kernel answers with EPERM.
"""

import ctypes
import errno
import functools
import itertools
import os
import platform
import struct
import sys
from typing import List, Optional, Tuple

from runtimes.sandbox.kernel import IS_LINUX, system_call
from runtimes.sandbox.system_calls import ARCHITECTURES, BY_THREAD, DENIED

_SET_MODE_FILTER, _GET_ACTION_AVAILABLE = 1, 2
_TSYNC, _SPECULATION_ALLOWED, _NEW_LISTENER, _TSYNC_ESRCH = 1 << 0, 1 << 2, 1 << 3, 1 << 4
_ALLOW, _ERRNO, _USER_NOTIF = 0x7FFF0000, 0x00050000, 0x7FC00000

# Instructions of the filter's machine (classic BPF): load a word, jump if equal / at least / any bit is set, return.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Offsets in struct seccomp_data: the call's number, the architecture, and the low words of the arguments.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_CLONE_THREAD = 0x10000
_X32 = 0x40000000  # numbers from here on are those of x86-64's other ABI
_MSG_FASTOPEN = 0x20000000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_NOT_STREAM = 0xE  # bits of the types of sockets other than streams, which may send to any address without `connect`
_DATAGRAM = 0x2  # the bit of datagrams and raw sockets
# By these, the kernel sends a signal of the caller's choice to any process of the user: fcntl and ioctl.
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
# They change a file that is only open for reading.
_FS_IOC_SETFLAGS, _FS_IOC_FSSETXATTR, _FS_IOC_ENABLE_VERITY = 0x40086602, 0x401C5820, 0x40806685
_PRIO_PROCESS = 0
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16

Instruction = Tuple[int, int, int, int]
_INSTRUCTION = struct.Struct("=HBBI")


def supports_filters() -> bool:
    """Return whether this machine filters system calls."""
    return _has_action(_ERRNO)


def supports_reports() -> bool:
    """Return whether denied calls can be reported to the supervisor."""
    return _has_action(_USER_NOTIF)


def _has_action(action: int) -> bool:
    if not IS_LINUX or platform.machine() not in ARCHITECTURES or sys.maxsize < 1 << 32:
        return False
    try:
        wanted = ctypes.c_uint32(action)
        system_call(ARCHITECTURES[platform.machine()].seccomp, _GET_ACTION_AVAILABLE, 0, ctypes.byref(wanted))
    except OSError:
        return False
    return True


def program(
    machine: str, network: bool, gpu: bool, reported: bool, watched: bool = False, own: int = 0
) -> List[Instruction]:
    """Return the filter's instructions.

    machine   as platform.machine() names it
    network   whether the model may use the network
    gpu       whether the model uses a card, whose driver listens on a Unix socket of its own
    reported  whether denied calls are reported to the supervisor
    watched   whether it also learns which folders are listed. Landlock denies that, but operators such as TensorFlow's
              MatchingFiles hide the error
    own       the process that it is for; by default, this one
    """
    architecture = ARCHITECTURES[machine]
    own = own or os.getpid()
    deny = [(_RETURN, 0, 0, _USER_NOTIF if reported else _ERRNO | errno.EPERM)]
    allow = [(_RETURN, 0, 0, _ALLOW)]
    families = [AF_INET, AF_INET6, AF_NETLINK] if network else []
    # A Unix socket for datagrams could reach any other.
    unix = _if_any_bit(1, _DATAGRAM, deny, allow) if gpu else deny
    # Calls whose arguments decide.
    conditions = {
        "clone": _if_any_bit(0, _CLONE_THREAD, allow, deny),
        "clone3": [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)],  # its flags are in memory; libc then calls clone
        "socket": _if_equal(0, families, allow, _if_equal(0, [AF_UNIX], unix, deny)),
        "socketpair": _if_equal(0, [AF_UNIX], _if_any_bit(1, _NOT_STREAM, deny, allow), deny),
        "fcntl": _if_equal(1, [_F_SETOWN, _F_SETSIG, _F_SETOWN_EX], deny, allow),
        "ioctl": _if_equal(
            1, [_FIOSETOWN, _SIOCSPGRP, _FS_IOC_SETFLAGS, _FS_IOC_FSSETXATTR, _FS_IOC_ENABLE_VERITY], deny, allow
        ),
        # Of other processes. A thread that names itself by its id is let through by the supervisor, if it watches.
        **{name: _if_equal(0, [0, own], allow, deny) for name in BY_THREAD},
        "setpriority": _if_equal(0, [_PRIO_PROCESS], _if_equal(1, [0, own], allow, deny), deny),
        "kill": _if_equal(0, [own], allow, deny),
        "tgkill": _if_equal(0, [own], allow, deny),
        "rt_sigqueueinfo": _if_equal(0, [own], allow, deny),
        "rt_tgsigqueueinfo": _if_equal(0, [own], allow, deny),
        "prlimit64": _if_equal(0, [0, own], allow, deny),
        "prctl": _if_equal(0, [_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE], deny, allow),
    }
    if watched:
        report = [(_RETURN, 0, 0, _USER_NOTIF)]
        conditions["open"] = _if_any_bit(1, os.O_DIRECTORY, report, allow)
        conditions["openat"] = _if_any_bit(2, os.O_DIRECTORY, report, allow)
    allowed = {"connect", "bind", "listen"} if network else {"bind", "listen"} if gpu else set()
    lines: List[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, architecture.audit),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        lines += [(_IF_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    for name in (*conditions, *DENIED):
        number = architecture.numbers.get(name)
        if number is not None and name not in allowed:
            block = conditions.get(name, deny)
            lines += [(_IF_EQUAL, 0, len(block), number), *block]
    return lines + allow


def code(machine: str, network: bool, gpu: bool, reported: bool, watched: bool) -> bytes:
    """Return the filter of this process as the kernel reads it. Arguments: see `program`."""
    return _code(machine, network, gpu, reported, watched, os.getpid())


@functools.lru_cache(maxsize=1)
def _code(machine: str, network: bool, gpu: bool, reported: bool, watched: bool, own: int) -> bytes:
    return b"".join(itertools.starmap(_INSTRUCTION.pack, program(machine, network, gpu, reported, watched, own)))


def _if_equal(
    argument: int, values: List[int], then: List[Instruction], otherwise: List[Instruction]
) -> List[Instruction]:
    lines: List[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
    for value in values:
        lines += [(_IF_EQUAL, 0, len(then), value), *then]
    return lines + otherwise


def _if_any_bit(argument: int, bits: int, then: List[Instruction], otherwise: List[Instruction]) -> List[Instruction]:
    return [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument), (_IF_ANY_BIT, 0, len(then), bits), *then, *otherwise]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


def install(network: bool, gpu: bool, reported: bool, watched: bool) -> Optional[int]:
    """Filter the calls of all threads, for good. Return the descriptor for the reports, if there are any.

    Raises OSError.
    """
    machine = platform.machine()
    instructions = code(machine, network, gpu, reported, watched)
    buffer = ctypes.create_string_buffer(instructions)
    # Without the flag, older kernels slow down the whole process, as a precaution that programs in other languages need
    # against scripts that they run.
    flags = _TSYNC | _SPECULATION_ALLOWED | (_NEW_LISTENER | _TSYNC_ESRCH if reported else 0)
    pointer = ctypes.byref(_Program(len(instructions) // _INSTRUCTION.size, ctypes.addressof(buffer)))
    result = system_call(ARCHITECTURES[machine].seccomp, _SET_MODE_FILTER, flags, pointer)
    if result and not reported:
        raise OSError(errno.EBUSY, "a thread has another filter")  # its id is the result
    return result if reported else None
