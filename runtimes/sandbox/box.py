"""A worker's box: `confine` before the framework is imported, `seal` before the model is loaded."""

import functools
import glob
import json
import os
import platform
import re
import socket
import struct
import sys
from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Tuple

from runtimes.sandbox import landlock, seccomp
from runtimes.sandbox.kernel import IS_LINUX, drop_capabilities, forbid_new_privileges

# What the C library and frameworks read, found by tracing all runtimes.
_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/gnu/store",
    "/etc/ld.so.cache", "/etc/localtime", "/etc/ssl/openssl.cnf",
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/filesystems",
    "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/osrelease", "/proc/sys/kernel/ngroups_max",
    "/sys/bus", "/sys/class", "/sys/devices", "/sys/fs/cgroup", "/sys/kernel/mm",
)  # fmt: skip
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
# For names and certificates.
_NETWORK = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services",
    "/etc/ssl/certs", "/etc/pki", "/etc/ca-certificates",
)  # fmt: skip
# The driver's own files.
_GPU = ("/sys", "/proc/driver", "/proc/devices", "/proc/modules", "/proc/sys/vm", "/etc/nvidia", "/etc/vulkan")
# Where drivers and their libraries are installed beside other things that a model may not read.
_GPU_FOLDERS = ("/opt/nvidia*", "/opt/cuda*", "/opt/rocm*", "/opt/amdgpu*")
_GPU_DEVICES = ("/dev/nvidia*", "/dev/nvhost*", "/dev/nvmap", "/dev/dri", "/dev/dxg", "/dev/kfd")
_THREADS = "/proc/self/task"  # CUDA writes the names of its threads there, and does not start without

_DENIED = re.compile("permission denied", re.IGNORECASE)
_MAX_PRINTED = 20


class Box(NamedTuple):
    """What one worker may do beyond what every worker needs.

    read     files and folders, besides those of the interpreter and the system
    write    the same, for reading and writing: the worker's scratch folder
    network  whether it may connect and listen
    gpu      whether it uses a card
    reports  descriptor of the socket on which the supervisor gets the descriptor for denied calls; -1: nobody does
    """

    read: Tuple[str, ...] = ()
    write: Tuple[str, ...] = ()
    network: bool = False
    gpu: bool = False
    reports: int = -1

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, raw: Dict[str, Any]) -> "Box":
        box = cls(**raw)
        return box._replace(read=tuple(box.read), write=tuple(box.write))


# What `prepare` has made: the rules of this process without those that depend on the model.
_prepared: List[Tuple[Box, landlock.Ruleset]] = []


def prepare() -> None:
    """Do what `confine` and `seal` do for every box without network and cards, but take nothing away.

    It is of use to this process only: rules and filter are about its own id. Raises OSError.
    """
    box = Box()
    if landlock.version():
        _prepared.append((box, _rules(box)))
    if seccomp.supports_filters():
        reported = seccomp.supports_reports()
        seccomp.code(platform.machine(), box.network, box.gpu, reported, reported and landlock.version() > 0)


def confine(box: Box) -> None:
    """Leave this process only the files that `box` names and those that every worker needs. Raises OSError.

    No thread may have been started, because the rules apply to this thread and those that it starts.
    """
    if not IS_LINUX:
        return
    forbid_new_privileges()
    drop_capabilities()
    prepared = _prepared.pop() if _prepared else None
    if prepared is not None and prepared[0] == box._replace(read=(), write=(), reports=-1):
        _allow(prepared[1], box)
        prepared[1].enforce()
        return
    if prepared is not None:
        prepared[1].close()
    if landlock.version():
        _rules(box).enforce()


def _rules(box: Box) -> landlock.Ruleset:
    rules = landlock.Ruleset(box.network)
    rules.allow(_common(box), landlock.READ)
    rules.allow(DEVICES, landlock.DEVICE)
    if box.gpu:
        rules.allow([path for pattern in _GPU_DEVICES for path in glob.glob(pattern)], landlock.DEVICE)
        rules.allow([_THREADS], landlock.READ | landlock.WRITE)
    _allow(rules, box)
    return rules


def _allow(rules: landlock.Ruleset, box: Box) -> None:
    """Add what `box` names."""
    rules.allow([path for path in box.read if os.path.isabs(path)], landlock.READ)
    rules.allow(box.write, landlock.READ | landlock.WRITE)


def _common(box: Box) -> List[str]:
    """Return what each worker may read, whatever its model: modules and libraries, and the system's files."""
    paths = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *sys.path]
    paths += [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), os.path.dirname(os.path.dirname(__file__))]
    paths += [*_SYSTEM, *(_NETWORK if box.network else ()), *(_GPU if box.gpu else ())]
    paths += [path for pattern in _GPU_FOLDERS if box.gpu for path in glob.glob(pattern)]
    return [path for path in paths if os.path.isabs(path)]  # not the working directory


def seal(box: Box) -> None:
    """Take away the system calls that no model needs, from all threads, for good. Raises OSError."""
    if not seccomp.supports_filters():
        return
    reported = box.reports >= 0 and seccomp.supports_reports()
    # Found before the filter is there: from then on, opening a folder waits for the supervisor's answer, and the
    # supervisor waits for the descriptor.
    allowed = json.dumps(_allowed(box))
    descriptor = seccomp.install(box.network, box.gpu, reported, reported and landlock.version() > 0)
    if descriptor is not None:
        with socket.socket(fileno=box.reports) as reports:
            rights = struct.pack("i", descriptor)
            reports.sendmsg([allowed.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        os.close(descriptor)


def _allowed(box: Box) -> List[str]:
    paths = [*_common(box), *filter(os.path.isabs, box.read), *box.write]
    # Those of /proc/self differ between copies of a process.
    found = (_spellings(path) if path.startswith("/proc/") else _known_spellings(path) for path in paths)
    return sorted(set().union(*found))


def _spellings(path: str) -> FrozenSet[str]:
    return frozenset((os.path.abspath(path), os.path.realpath(path)))


_known_spellings = functools.lru_cache(maxsize=None)(_spellings)


def rehearse() -> None:
    """Do what `confine` and `seal` do, but take nothing away: copies of this process are quicker then."""
    box = Box()
    if landlock.version():
        _rules(box).close()
    if seccomp.supports_filters():
        seccomp.code(platform.machine(), box.network, box.gpu, True, True)
        _allowed(box)


class Denials:
    """Prints which files the box has denied, as far as errors say it: the first ones, because clients cause them."""

    def __init__(self) -> None:
        self._left = _MAX_PRINTED

    def observe(self, error: BaseException) -> None:
        """Print the file that an error is about, or the first of the errors from which it was raised."""
        found, seen = "", []  # type: str, List[BaseException]
        each: Optional[BaseException] = error
        while each is not None and not any(each is before for before in seen):  # an error may be its own cause
            seen.append(each)
            found = next((line.strip() for line in str(each).splitlines() if _DENIED.search(line)), found)
            each = each.__cause__ or each.__context__
        if found and self._left:
            self._left -= 1
            print("the sandbox stopped the model: it tried to use a file that is not its own: " + found)


def features() -> Iterator[Tuple[str, str]]:
    """Yield what a box consists of, each with why this machine does not enforce it ("" if it does)."""
    no_filters = "the kernel filters no system calls (seccomp) on %s" % platform.machine()
    if not IS_LINUX:
        no_filters = "only Linux filters system calls (seccomp)"
    filters = seccomp.supports_filters()
    yield "privileges", "" if IS_LINUX else "only Linux can forbid new privileges"
    yield "files", landlock.lacks(1)
    yield "truncation", "" if filters else landlock.lacks(3)
    yield "network", "" if filters else landlock.lacks(4)
    yield "signals", "" if filters else landlock.lacks(6)
    yield "system_calls", "" if filters else no_filters
    yield "reports", "" if seccomp.supports_reports() else "the kernel (Linux 5.0 and newer) reports no denied calls"
