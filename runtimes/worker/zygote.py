"""Starts workers as copies of this process, which has imported the framework, and loads no model itself.

A copy shares the memory of what was imported, and starts in milliseconds. Only a process with one thread is copied: the
others, with the locks that they hold, would be missing from the copy.
"""

import gc
import json
import os
import random
import select
import socket
import struct
import sys
import tempfile
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from runtimes.contract import first_line
from runtimes.leash import die_with_parent
from runtimes.sandbox.box import Box, rehearse
from runtimes.sandbox.kernel import drop_capabilities, forbid_new_privileges
from runtimes.worker.heap import return_free_memory
from runtimes.worker.start import import_runtime

MAX_REQUEST_BYTES = 1 << 20
_PID = struct.Struct("i")
_OUTPUT, _CONTROL, _LISTENER, _REPORTS = range(4)  # positions of a request's descriptors
# How long a thread that has ended may still be listed, in looks at the list.
_LOOKS = 100


class Order(NamedTuple):
    """What a worker is started with. reports: see Box; its descriptor is already in `box`."""

    control: socket.socket
    listener: socket.socket
    status_path: str
    box: Optional[Box]


def serve_forks(supervisor: int, requests: socket.socket, runtime: str, boxed: bool) -> Order:
    """Import a runtime, then start a worker for each request. Returns in the workers only; this process ends with its
    supervisor. That one is told when the import is done, or why this process must not be copied; workers tell it their
    pids.

    runtime: the folder of runtime.py
    boxed: whether the workers have boxes, so that this process can give up privileges as well
    """
    if boxed:
        forbid_new_privileges()
        drop_capabilities()
    try:
        module = import_runtime(runtime)
        if hasattr(module, "before_forks"):
            module.before_forks()
        if boxed:
            rehearse()
        end_idle_threads()
        why = obstacle(requests.fileno())
    except Exception as error:  # noqa: BLE001 - a worker that imports it for itself reports it better
        why = "the framework cannot be imported: " + first_line(error)
    if why:
        _refuse(requests, why, True)
        os._exit(0)
    gc.collect()
    return_free_memory()
    if hasattr(gc, "freeze"):  # Python 3.7
        gc.freeze()  # collections in workers would write to the pages of all these objects
    _answer(requests, {})
    while True:
        request, descriptors = _receive(requests)
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            is_copy = _fork(requests)
        except OSError as error:
            _refuse(requests, "no process can be started: %s" % error.strerror, False)
            is_copy = False
        if is_copy:
            return _become_worker(supervisor, request, descriptors, module)
        for each in descriptors:
            os.close(each)


def end_idle_threads() -> None:
    """End the threads of libraries that end theirs before a fork, and start them again when they need them.

    numpy's OpenBLAS is one. It starts its threads when it is imported.
    """
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def obstacle(own: int) -> str:
    """Return why this process must not be copied; "" if it may.

    own: descriptor that copies close
    """
    threads = _count_threads()
    if threads > 1:
        return "importing the framework starts threads (%d)" % (threads - 1)
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and int(name) != own:
                return "importing the framework opens what copies would share: " + os.readlink("/proc/self/fd/" + name)
        except OSError:
            pass  # the descriptor of the list itself
    with open("/proc/self/maps") as maps:
        for line in maps:
            _, modes, _, _, _, *path = line.split(None, 5)
            if modes == "rw-s":
                return "importing the framework maps memory that copies would share: " + "".join(path).strip()
    return ""


def _count_threads() -> int:
    for _ in range(_LOOKS):
        if len(os.listdir("/proc/self/task")) == 1:
            return 1
        select.select([], [], [], 0.001)  # the kernel may still list a thread that has been joined
    return len(os.listdir("/proc/self/task"))


def _fork(requests: socket.socket) -> bool:
    """Return whether this is a new process, which has told the supervisor its pid.

    It is no child of this process, but of the nearest subreaper. So its exit status goes to the supervisor, and it does
    not end with this process. The supervisor hears of it from itself, because this process may end before it could say
    so. Raises OSError.
    """
    between = os.fork()
    if not between:
        between = os.getpid()
        try:
            child = os.fork()
        except OSError:
            child = -1
        if child:
            os._exit(child < 0)
        while os.getppid() == between:
            select.select([], [], [], 0.0001)
        os.setsid()
        try:
            _answer(requests, {"pid": os.getpid()})
        except OSError:  # the supervisor has given up
            os._exit(1)
        requests.close()
        return True
    _, status = os.waitpid(between, 0)
    if os.WIFSIGNALED(status):
        os._exit(1)  # nobody knows whether there is a new process
    if status:
        raise OSError(0, "the worker's process could not be started")
    return False


def _become_worker(supervisor: int, request: Dict[str, Any], descriptors: List[int], module: Any) -> Order:
    for standard in (1, 2):
        os.dup2(descriptors[_OUTPUT], standard)
    os.close(descriptors[_OUTPUT])
    control = socket.socket(fileno=descriptors[_CONTROL])
    listener = socket.socket(fileno=descriptors[_LISTENER])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # it remembers TMPDIR
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.poll()  # LOAD, which is sent when the supervisor is this process's parent
    die_with_parent(supervisor)
    _reseed(module)
    box = Box.from_json(request["box"]) if request["box"] else None
    if box is not None and len(descriptors) > _REPORTS:
        box = box._replace(reports=descriptors[_REPORTS])
    return Order(control, listener, request["status"], box)


def _reseed(module: Any) -> None:
    """Give this process random numbers of its own, and its own key for connections of multiprocessing."""
    random.seed()
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)  # type: ignore[attr-defined]
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()  # type: ignore[attr-defined]
    if hasattr(module, "after_fork"):
        module.after_fork(int.from_bytes(os.urandom(4), "little") >> 1)


def _receive(requests: socket.socket) -> Tuple[Dict[str, Any], List[int]]:
    """Return the next request and its descriptors. Ends the process when the supervisor has closed the socket."""
    size = 4 * _PID.size
    data, ancillary, _, _ = requests.recvmsg(MAX_REQUEST_BYTES, socket.CMSG_SPACE(size))
    if not data:
        os._exit(0)
    descriptors: List[int] = []
    for _, _, raw in ancillary:
        descriptors += struct.unpack("%di" % (len(raw) // _PID.size), raw[: len(raw) // _PID.size * _PID.size])
    return json.loads(data.decode()), descriptors


def _refuse(requests: socket.socket, why: str, for_good: bool) -> None:
    _answer(requests, {"error": why, "for_good": for_good})


def _answer(requests: socket.socket, answer: Dict[str, Any]) -> None:
    requests.sendall(json.dumps(answer).encode())
