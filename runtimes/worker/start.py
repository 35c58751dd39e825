"""From LOAD to READY: load the model, settle how it is batched, warm it up, then loop."""

import gc
import importlib
import os
import re
import socket
import sys
import traceback
import types
from typing import Any, Dict, List, Tuple

from runtimes import wire
from runtimes.contract import LoadError, LoadOptions, Model, first_line
from runtimes.worker import probe
from runtimes.worker.batcher import Batching
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor
from runtimes.worker.loop import Loop
from runtimes.worker.reshape import reshaped
from runtimes.worker.status import StatusPage


def serve(control: socket.socket, listener: socket.socket, status_path: str) -> int:
    """The worker's whole life; the exit code. A model that cannot load is told as FAILED, not as a crash."""
    order = _receive_load(control)
    try:
        model = load_model(order)
        model.signatures = probe.with_free_rows(model.signatures, order["batching"]["sizes"], order["batching"]["dim"])
        batching, note = _settle_batching(model, order["batching"])
        took = _warm_up(model, batching, order["warmup"])
    except LoadError as error:
        return _fail(control, str(error))
    except Exception as error:  # noqa: BLE001 - frameworks raise anything, and the user must read why
        traceback.print_exc()
        return _fail(control, _without_paths(first_line(error)))
    ready = {
        "signatures": model.signatures,
        "max_batch_size": batching.max_rows,
        # One batch runs and the next gathers; of a pipelined model, two are under way.
        "window": (3 if model.pipelined else 2) * max(batching.max_rows, 1),
        "note": note,
    }
    control.sendall(wire.pack_json(wire.READY, ready))
    executor = Executor(model, batching, order["max_response_bytes"])
    loop = Loop(executor, listener, Connection(control), StatusPage(status_path))
    for rows, seconds in took:
        loop.learn(rows, seconds)
    if hasattr(gc, "freeze"):  # Python 3.7
        gc.collect()
        gc.freeze()  # the framework's objects stay; no collection shall walk through them again
    loop.run()
    model.close()
    return 0


def _receive_load(control: socket.socket) -> Dict[str, Any]:
    reader = wire.FrameReader()
    while True:
        data = control.recv(1 << 16)
        if not data:
            os._exit(0)
        for frame in reader.feed(data):
            return wire.unpack_json(frame.body)


def load_model(order: Dict[str, Any]) -> Model:
    """The model of a LOAD frame, as clients see it. Raises what the runtime's `load` raises."""
    # A package of its own, so that a runtime may have more files: `from . import tables`.
    package = types.ModuleType("modelport_runtime")
    package.__path__ = [order["runtime"]]
    sys.modules[package.__name__] = package
    module = importlib.import_module("modelport_runtime.runtime")
    options = LoadOptions(
        artifact=order["artifact"],
        inputs=wire.specs_from_json(order["inputs"]),
        outputs=wire.specs_from_json(order["outputs"]),
        device=order["device"],
        threads=order["threads"],
        parameters=order["parameters"],
    )
    model = module.load(options)
    if not model.signatures:
        raise LoadError("the model has no signature that can be served")
    return reshaped(model, order["reshape"])


def _settle_batching(model: Model, wanted: Dict[str, Any]) -> Any:
    """(Batching, a sentence for the log). `max_rows` is None when model.toml does not say."""
    max_rows, dim, sizes = wanted["max_rows"], wanted["dim"], tuple(sorted(wanted["sizes"]))
    target = wanted["target"]
    if sizes and max_rows is None:
        max_rows = sizes[-1]  # who declares sizes declares batching
    if max_rows == 0:
        return Batching(target=target), "batching is off: max_batch_size = 0 is configured"
    if wanted["stateful"]:
        return Batching(target=target), "batching is off: the model is declared stateful"
    verdict = probe.declared(model, dim) if max_rows else probe.detect(model)
    if not verdict.signatures:
        if max_rows:
            raise LoadError("max_batch_size = %d is configured, but %s" % (max_rows, verdict.reason))
        return Batching(target=target), "batching is off: " + verdict.reason
    rows = max_rows or probe.DEFAULT_MAX_ROWS
    if sizes:
        rows = min(rows, sizes[-1])  # the model may see declared sizes only
    batching = Batching(rows, verdict.signatures, dim, wanted["delay"], sizes, target)
    return batching, "batching up to %d rows" % rows


def _warm_up(model: Model, batching: Batching, runs: int) -> List[Tuple[int, float]]:
    """(rows, seconds) of the runs. With a latency target, sizes up to the largest: their cost is known at once then."""
    if not runs:
        return []
    sizes = batching.sizes
    if batching.target:
        runs = max(runs, 2)  # the first of a size may set things up
        if not sizes and batching.max_rows:
            sizes = tuple(1 << power for power in range((batching.max_rows - 1).bit_length())) + (batching.max_rows,)
    took, why = probe.warm_up(model, sizes, batching.dim, runs)
    if why:
        print("not warmed up: " + why)
    return took


def _without_paths(text: str) -> str:
    """A reason is shown to clients, to whom the server's folders are no business."""
    return re.sub(r"(?<![\w.])(/[^\s'\":,;]+)+/", "", text)


def _fail(control: socket.socket, reason: str) -> int:
    control.sendall(wire.pack_json(wire.FAILED, {"reason": reason}))
    return 0
