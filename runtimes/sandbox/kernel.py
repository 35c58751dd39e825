"""Calls into the Linux kernel, by ctypes: the environments of frameworks have no package for them."""

import ctypes
import functools
import os
import sys
from typing import Any, Sequence

IS_LINUX = sys.platform.startswith("linux")
_PR_SET_NO_NEW_PRIVS = 38


@functools.lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def system_call(number: int, *arguments: Any) -> int:
    """Return the result of a system call; pointers are given as ctypes objects. Raises OSError."""
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = _libc().syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def forbid_new_privileges() -> None:
    """Have programs that this process starts gain no privileges, which Landlock and seccomp require. Raises OSError."""
    if _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# Root may read files of other users. Model repositories often belong to one, so a worker keeps this.
CAP_DAC_READ_SEARCH = 2
# The same for writing, and the use of ports below 1024.
CAP_DAC_OVERRIDE, CAP_NET_BIND_SERVICE = 1, 10
_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


_TwoData = _Data * 2


def drop_capabilities(kept: Sequence[int] = (CAP_DAC_READ_SEARCH,)) -> None:
    """Give up root's privileges but for these. Raises OSError."""
    libc, header, data = _libc(), _Header(_CAPABILITY_VERSION_3, 0), _TwoData()
    if not libc.capget(ctypes.byref(header), data):
        bits = data[0].permitted & sum([1 << each for each in kept])
        data[0], data[1] = _Data(data[0].effective & bits, bits, 0), _Data(0, 0, 0)
        if not libc.capset(ctypes.byref(header), data):
            return
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
