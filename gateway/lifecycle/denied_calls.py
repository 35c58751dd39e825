"""Denies the system calls that a worker's box forbids, and logs what the model tried.

The kernel stops the calling thread and reports the call (SECCOMP_RET_USER_NOTIF); the answer is that the call is not
permitted. Calls that list a folder are reported as well and go on: Landlock denies them, but frameworks may hide that.
What is read from the worker's memory is only for the log: the worker could change it meanwhile.
"""

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import json
import logging
import os
import platform
import select
import socket
import struct
import time

from runtimes.sandbox.system_calls import ARCHITECTURES, BY_THREAD

_RECEIVE, _SEND, _ADD_DESCRIPTOR = 0xC0502100, 0xC0182101, 0x40182103  # ioctls
_CALL = struct.Struct("=QIIiIQ6Q")  # id, thread, flags; then number, architecture, instruction pointer, arguments
_ANSWER = struct.Struct("=QqiI")  # id, value, error, flags
_DESCRIPTOR = struct.Struct("=QIIII")  # id, flags, ours, theirs, flags of theirs
_ADD_AND_ANSWER = 1 << 1
_CONTINUE = 1  # a flag of the answer
# Where frameworks look for hardware. It is denied, but says nothing about the model.
_HARDWARE = ("/sys", "/proc/driver")
# How many calls of a worker the log names. A larger number fills the log when a model tries in a loop; a smaller one
# may miss what it tries later.
_MAX_LOGGED = 20
# How many calls of a worker are answered at once, and how many per second after that. The thread that makes them waits.
# More would let a model that calls in a loop take the supervisor's time; fewer would delay imports, which list folders.
_BURST, _PER_SECOND = 5000, 200.0
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # Linux
_MAX_TEXT = 1000  # bytes of a path
_AT_CWD = -100 & 0xFFFFFFFF
_PAGE = 4096


class DeniedCalls:
    """Denies and logs the calls of one worker."""

    def __init__(self, reports: socket.socket, log: logging.Logger) -> None:
        """`reports`: where the worker sends the descriptor for its calls, which is then closed here."""
        self._logged = 0
        self._allowance, self._updated = float(_BURST), time.monotonic()
        self._later: asyncio.TimerHandle | None = None
        self._readable: list[str] = []
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._reports: socket.socket | None = reports
        self._calls = -1
        reports.setblocking(False)
        self._loop.add_reader(reports.fileno(), self._on_descriptor)

    def close(self) -> None:
        if self._reports is not None:
            self._loop.remove_reader(self._reports.fileno())
            self._reports.close()
            self._reports = None
        if self._later is not None:
            self._later.cancel()
        if self._calls >= 0:
            self._loop.remove_reader(self._calls)
            os.close(self._calls)
            self._calls = -1

    def _on_descriptor(self) -> None:
        assert self._reports is not None
        descriptors: list[int] = []
        with contextlib.suppress(OSError, ValueError):
            paths, descriptors, _, _ = socket.recv_fds(self._reports, 1 << 20, 1, _CLOSE_ON_EXEC)
            self._readable = json.loads(paths) if paths else []
        self.close()
        if descriptors:
            self._calls = descriptors[0]
            self._watch()

    def _watch(self) -> None:
        self._later = None
        self._loop.add_reader(self._calls, self._on_call)

    def _take_allowance(self) -> None:
        """Count a call, and look at no further one until there is an allowance for it."""
        now = time.monotonic()
        self._allowance = min(_BURST, self._allowance + (now - self._updated) * _PER_SECOND) - 1
        self._updated = now
        if self._allowance < 1:
            self._loop.remove_reader(self._calls)
            self._later = self._loop.call_later((1 - self._allowance) / _PER_SECOND, self._watch)

    def _on_call(self) -> None:
        poll = select.poll()
        poll.register(self._calls, select.POLLIN)
        events = poll.poll(0)
        if not events:
            return
        if not events[0][1] & select.POLLIN:  # the worker has ended
            self.close()
            return
        call = bytearray(_CALL.size)
        try:
            fcntl.ioctl(self._calls, _RECEIVE, call)
        except OSError:
            return  # the thread has ended meanwhile
        number, thread, _, system_call, _, _, *arguments = _CALL.unpack(call)
        name = _NAMES.get(system_call, f"number {system_call}")
        with contextlib.suppress(OSError):  # the thread may have ended
            if name in ("open", "openat"):
                folder = _folder(name, arguments, thread)
                if not any(f"{folder}/".startswith(each.rstrip("/") + "/") for each in (*self._readable, *_HARDWARE)):
                    self._log_attempt(f"it tried to list the folder {folder!r}")
                fcntl.ioctl(self._calls, _SEND, _ANSWER.pack(number, 0, 0, _CONTINUE))
            elif name in BY_THREAD and os.path.exists(f"/proc/{thread}/task/{arguments[0] & 0xFFFFFFFF}"):
                fcntl.ioctl(self._calls, _SEND, _ANSWER.pack(number, 0, 0, _CONTINUE))
            else:
                self._log_attempt(describe(name, arguments, thread))
                is_stream = name == "socket" and arguments[1] & 0xF == socket.SOCK_STREAM
                if not (is_stream and self._give_socket(number)):
                    fcntl.ioctl(self._calls, _SEND, _ANSWER.pack(number, 0, -errno.EPERM, 0))
        self._take_allowance()

    def _log_attempt(self, what: str) -> None:
        self._logged += 1
        if self._logged <= _MAX_LOGGED:
            self._log.warning("the sandbox stopped the model: %s", what)
        if self._logged == _MAX_LOGGED:
            self._log.warning("the sandbox stops further attempts of this worker as well, without a line here")

    def _give_socket(self, number: int) -> bool:
        """Answer the call for a socket with one that leads nowhere, so that `connect` shows whereto it should lead."""
        ours, other = socket.socketpair()
        other.close()
        with ours, contextlib.suppress(OSError):  # before Linux 5.14
            added = _DESCRIPTOR.pack(number, _ADD_AND_ANSWER, ours.fileno(), 0, os.O_CLOEXEC)
            fcntl.ioctl(self._calls, _ADD_DESCRIPTOR, added)
            return True
        return False


_NAMES = (
    {number: name for name, number in ARCHITECTURES[platform.machine()].numbers.items()}
    if platform.machine() in ARCHITECTURES
    else {}
)


def describe(name: str, arguments: list[int], thread: int) -> str:
    """Return what a thread tried with a system call, in words."""
    first, second, third = arguments[:3]
    if name in ("fork", "vfork", "clone"):
        return f"it tried to start another process ({name})"
    if name in ("execve", "execveat"):
        return f"it tried to run the program {_text(thread, first if name == 'execve' else second)} ({name})"
    if name == "socket":
        kinds = _enum(socket.AddressFamily, first), _enum(socket.SocketKind, second & 0xF)
        return f"it tried to open a socket ({', '.join(kinds)})"
    if name in ("connect", "bind"):
        verb = "connect to" if name == "connect" else "listen on"
        return f"it tried to {verb} {_address(_read(thread, second, min(third, 128)))} ({name})"
    if name in ("kill", "tgkill", "tkill"):
        return f"it tried to send a signal to process {first} ({name})"
    if name in ("chmod", "chown", "lchown", "truncate", "utime", "utimes", "mknod", "setxattr", "removexattr"):
        return f"it tried to change the file {_text(thread, first)} ({name})"
    if name in ("fchmodat", "fchmodat2", "fchownat", "futimesat", "utimensat", "mknodat") and second:
        return f"it tried to change the file {_text(thread, second)} ({name})"
    return f"it made the system call {name}"


def _folder(name: str, arguments: list[int], thread: int) -> str:
    """Return the folder that a thread opens, without a look at the file system, which may be slow."""
    relative_to, path = (arguments[0] & 0xFFFFFFFF, arguments[1]) if name == "openat" else (_AT_CWD, arguments[0])
    text = _read(thread, path, _MAX_TEXT).partition(b"\0")[0].decode(errors="replace")
    if not text.startswith("/"):
        link = f"/proc/{thread}/cwd" if relative_to == _AT_CWD else f"/proc/{thread}/fd/{relative_to}"
        with contextlib.suppress(OSError):
            text = os.path.join(os.readlink(link), text)
    return os.path.normpath(text)


def _enum(kind: type[socket.AddressFamily] | type[socket.SocketKind], value: int) -> str:
    try:
        return kind(value).name
    except ValueError:
        return str(value)


def _address(raw: bytes) -> str:
    """Return the address in a struct sockaddr."""
    family = int.from_bytes(raw[:2], "little")
    if family == socket.AF_INET and len(raw) >= 8:
        return f"{ipaddress.IPv4Address(raw[4:8])}:{int.from_bytes(raw[2:4])}"
    if family == socket.AF_INET6 and len(raw) >= 24:
        return f"[{ipaddress.IPv6Address(raw[8:24])}]:{int.from_bytes(raw[2:4])}"
    if family == socket.AF_UNIX:
        return repr(raw[2:].rstrip(b"\0").decode(errors="replace"))
    return "an unknown address"


def _text(thread: int, address: int) -> str:
    return repr(_read(thread, address, _MAX_TEXT).partition(b"\0")[0].decode(errors="replace"))


def _read(thread: int, address: int, size: int) -> bytes:
    """Return bytes of a thread's memory; fewer, or none, if they cannot be read."""
    found = b""
    with contextlib.suppress(OSError, OverflowError), open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        while len(found) < size:  # page by page, because the next one may not exist
            position = address + len(found)
            part = os.pread(memory.fileno(), min(size - len(found), _PAGE - position % _PAGE), position)
            if not part:
                break
            found += part
    return found
