"""Landlock: which files a process may open, whether it may use TCP, and whom it may signal.

The kernel's documentation is https://docs.kernel.org/userspace-api/landlock.html. Rules hold for the process and for
everything that it starts, also for root. They cover opening and changing names, but neither the names, sizes and times
of files (stat) nor files that are open already.
"""

import ctypes
import os
import stat
import struct
from typing import Iterable, List

from runtimes.sandbox.kernel import IS_LINUX, system_call

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every architecture
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK, _TRUNCATE, _IOCTL_DEV = 1 << 6, 1 << 11, 1 << 14, 1 << 15
# How many of the bits each version of the interface (ABI) knows. Bits that a kernel does not know are left out.
_FILE_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
_ALL_FILE_BITS = 16  # since version 5
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1  # since version 4
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1 << 0, 1 << 1  # since version 6

READ_ONLY = _READ_FILE | _READ_DIR
READ = _EXECUTE | READ_ONLY
WRITE = ((1 << _ALL_FILE_BITS) - 1) & ~(_EXECUTE | _MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV)
DEVICE = _READ_FILE | _WRITE_FILE | _READ_DIR | _IOCTL_DEV
_FOR_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV


def version() -> int:
    """Return the version of the kernel's interface; 0 if it has none, or if it is switched off."""
    if not IS_LINUX:
        return 0
    try:
        return system_call(_CREATE_RULESET, 0, 0, 1)
    except OSError:
        return 0


def lacks(needed: int) -> str:
    """Return why this machine does not enforce what this version of the interface does; "" if it does."""
    known = version()
    if known >= needed:
        return ""
    has = "version %d" % known if known else "none" if IS_LINUX else "none, since this is not Linux"
    return "it needs Landlock's version %d, and the machine has %s" % (needed, has)


class Ruleset:
    """What this process may do. Everything that no rule allows is denied, once `enforce` has been called."""

    def __init__(self, network: bool) -> None:
        """`network`: whether TCP stays allowed. Raises OSError."""
        known = version()
        self._files = (1 << _FILE_BITS.get(known, _ALL_FILE_BITS)) - 1
        tcp = _BIND_TCP | _CONNECT_TCP if known >= 4 and not network else 0
        scopes = _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if known >= 6 else 0
        attributes = struct.pack("=QQQ", self._files, tcp, scopes)[: 24 if known >= 6 else 16 if known >= 4 else 8]
        self._descriptor = system_call(_CREATE_RULESET, ctypes.c_char_p(attributes), len(attributes), 0)
        # Rules belong to inodes. Those of /proc are made anew when the kernel has forgotten the name, so an open
        # descriptor has to keep it.
        self._kept: List[int] = []

    def allow(self, paths: Iterable[str], rights: int) -> None:
        """Allow these rights for files, and for everything in folders. Paths that do not exist are skipped."""
        for path in paths:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            allowed = rights & self._files & (-1 if is_folder else _FOR_A_FILE)
            rule = struct.pack("=Qi", allowed, descriptor)
            system_call(_ADD_RULE, self._descriptor, _PATH_BENEATH, ctypes.c_char_p(rule), 0)
            if path.startswith("/proc"):
                self._kept.append(descriptor)
            else:
                os.close(descriptor)

    def enforce(self) -> None:
        """Apply the rules to this thread and those that it starts. Raises OSError."""
        system_call(_RESTRICT_SELF, self._descriptor, 0)
        os.close(self._descriptor)

    def close(self) -> None:
        """Forget the rules."""
        for descriptor in (self._descriptor, *self._kept):
            os.close(descriptor)
