"""A copy of the process that has imported the framework: from the fork to the order that makes it a worker.

A copy that is made in advance, a spare, does before its order what does not depend on the model.
"""

import contextlib
import gc
import io
import json
import os
import random
import select
import socket
import struct
import sys
import tempfile
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from runtimes.leash import die_with_parent
from runtimes.sandbox import box as boxes
from runtimes.sandbox.box import Box
from runtimes.worker.heap import return_free_memory
from runtimes.worker.start import rehearse

MAX_REQUEST_BYTES = 1 << 20
_DESCRIPTOR = struct.Struct("i")
_OUTPUT, _CONTROL, _LISTENER, _REPORTS = range(4)  # positions of an order's descriptors
# How long a thread that has ended may still be listed, in looks at the list.
_LOOKS = 100


class Order(NamedTuple):
    """What a worker is started with. reports: see Box; its descriptor is already in `box`."""

    control: socket.socket
    listener: socket.socket
    status_path: str
    box: Optional[Box]


def await_order(supervisor: int, orders: socket.socket, module: Any, is_spare: bool, boxed: bool) -> Order:
    """Return the order that makes this copy a worker. The process ends if the supervisor closes the socket before.

    module: the imported runtime.py
    """
    die_with_parent(supervisor)
    _reseed(module)
    if is_spare:
        _prepare(orders, module, boxed)
    received = receive(orders)
    if received is None:
        os._exit(0)
    with orders:
        orders.sendall(b"{}")
    order, descriptors = received
    for standard in (1, 2):
        os.dup2(descriptors[_OUTPUT], standard)
    os.close(descriptors[_OUTPUT])
    control = socket.socket(fileno=descriptors[_CONTROL])
    listener = socket.socket(fileno=descriptors[_LISTENER])
    os.environ.clear()
    os.environ.update(order["environment"])
    tempfile.tempdir = None  # it remembers TMPDIR
    box = Box.from_json(order["box"]) if order["box"] else None
    if box is not None and len(descriptors) > _REPORTS:
        box = box._replace(reports=descriptors[_REPORTS])
    return Order(control, listener, order["status"], box)


def _prepare(orders: socket.socket, module: Any, boxed: bool) -> None:
    """Do what does not depend on the model, and tell the supervisor that this spare waits for its order.

    The box applies to this thread and those that it starts, so there must be no other.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # what it says of its model is no news
        rehearse(module)
    if boxed:
        boxes.prepare()
    why = _threads() or _shared_memory()
    if why:
        print("no worker can be prepared: a load without a model %s" % why)
        os._exit(1)
    gc.collect()
    return_free_memory()
    if hasattr(gc, "freeze"):  # Python 3.7
        gc.freeze()
    orders.sendall(b"{}")


def obstacle(own: int) -> str:
    """Return why this process must not be copied; "" if it may.

    own: descriptor that copies close
    """
    why = _threads()
    if why:
        return "importing the framework " + why
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and int(name) != own:
                return "importing the framework opens what copies would share: " + os.readlink("/proc/self/fd/" + name)
        except OSError:
            pass  # the descriptor of the list itself
    why = _shared_memory()
    return "importing the framework " + why if why else ""


def _threads() -> str:
    threads = _count_threads()
    return "starts threads (%d)" % (threads - 1) if threads > 1 else ""


def _shared_memory() -> str:
    with open("/proc/self/maps") as maps:
        for line in maps:
            _, modes, _, _, _, *path = line.split(None, 5)
            if modes == "rw-s":
                return "maps memory that copies would share: " + "".join(path).strip()
    return ""


def _count_threads() -> int:
    for _ in range(_LOOKS):
        if len(os.listdir("/proc/self/task")) == 1:
            return 1
        select.select([], [], [], 0.001)  # the kernel may still list a thread that has been joined
    return len(os.listdir("/proc/self/task"))


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


def receive(messages: socket.socket) -> Optional[Tuple[Dict[str, Any], List[int]]]:
    """Return the next message and its descriptors; None if the supervisor has closed the socket."""
    size = 4 * _DESCRIPTOR.size
    data, ancillary, _, _ = messages.recvmsg(MAX_REQUEST_BYTES, socket.CMSG_SPACE(size))
    if not data:
        return None
    descriptors: List[int] = []
    for _, _, raw in ancillary:
        count = len(raw) // _DESCRIPTOR.size
        descriptors += struct.unpack("%di" % count, raw[: count * _DESCRIPTOR.size])
    return json.loads(data.decode()), descriptors
