"""Starts workers as copies of this process, which has imported the framework, and loads no model itself.

A copy shares the memory of what was imported, and starts in milliseconds. Only a process with one thread is copied: the
others, with the locks that they hold, would be missing from the copy.
"""

import gc
import json
import os
import select
import socket
import sys
from typing import Any, Dict

from runtimes.contract import first_line
from runtimes.sandbox.box import rehearse
from runtimes.sandbox.kernel import drop_capabilities, forbid_new_privileges
from runtimes.worker.heap import return_free_memory
from runtimes.worker.order import Order, await_order, obstacle, receive
from runtimes.worker.start import import_runtime


def serve_forks(supervisor: int, requests: socket.socket, runtime: str, boxed: bool) -> Order:
    """Import a runtime, then make a copy for each request. Returns in copies only, when they have their orders; this
    process ends with its supervisor. That one is told when the import is done, or why this process must not be copied;
    copies tell it their pids.

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
        received = receive(requests)
        if received is None:
            os._exit(0)
        request, (descriptor,) = received
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            is_copy = _fork(requests)
        except OSError as error:
            _refuse(requests, "no process can be started: %s" % error.strerror, False)
            is_copy = False
        if is_copy:
            return await_order(supervisor, socket.socket(fileno=descriptor), module, request["spare"], boxed)
        os.close(descriptor)


def end_idle_threads() -> None:
    """End the threads of libraries that end theirs before a fork, and start them again when they need them.

    numpy's OpenBLAS is one. It starts its threads when it is imported.
    """
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


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


def _refuse(requests: socket.socket, why: str, for_good: bool) -> None:
    _answer(requests, {"error": why, "for_good": for_good})


def _answer(requests: socket.socket, answer: Dict[str, Any]) -> None:
    requests.sendall(json.dumps(answer).encode())
