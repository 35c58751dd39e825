"""From LOAD to READY: load the model, settle how it is batched, warm it up, then loop."""

import gc
import importlib
import os
import socket
import sys
import traceback
import types
from typing import List, Sequence, Tuple

from runtimes import wire
from runtimes.contract import LoadError, LoadOptions, Model, TensorSpec, first_line
from runtimes.control import AuditOptions, BatchingOptions, Failed, Load
from runtimes.redaction import redacted
from runtimes.status_page import StatusPage
from runtimes.worker import probe
from runtimes.worker.batcher import Batching
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor
from runtimes.worker.facts import Facts
from runtimes.worker.loop import Loop
from runtimes.worker.refusal import refusal
from runtimes.worker.reshape import reshaped
from runtimes.worker.settle import Settled, settle, with_free_rows


def serve(control: socket.socket, listener: socket.socket, status_path: str) -> int:
    """The worker's whole life; the exit code. A model that cannot load is told as FAILED, not as a crash."""
    load = _receive_load(control)
    try:
        model = load_model(load)
        wanted, fixed = load.batching, model.signatures
        model.signatures = with_free_rows(fixed, wanted.sizes, wanted.dim)
        on_card = load.device != "cpu"
        settled = settle(model, wanted, on_card)
        batching = settled.batching
        if not batching.max_rows:
            model.signatures = fixed
        took, refused = _warm_up(model, batching, load.warmup, settled.writing, on_card)
    except LoadError as error:
        return _fail(control, str(error))
    except Exception as error:  # noqa: BLE001 - frameworks raise anything, and the user must read why
        traceback.print_exc()
        return _fail(control, redacted(first_line(error)))
    facts = Facts(model.signatures, fixed, model.pipelined, batching, settled.reason, settled.note)
    control.sendall(wire.pack_json(wire.READY, facts.ready().to_json()))
    executor = Executor(model, batching, load.max_response_bytes)
    executor.refusal = refused
    loop = Loop(
        executor, listener, Connection(control), StatusPage(status_path), facts, _audit_share(load.audit, settled)
    )
    for rows, seconds in took:
        loop.learn(rows, seconds)
    if hasattr(gc, "freeze"):  # Python 3.7
        gc.collect()
        gc.freeze()  # the framework's objects stay; no collection shall walk through them again
    loop.run()
    model.close()
    return 0


def _receive_load(control: socket.socket) -> Load:
    reader = wire.FrameReader()
    while True:
        data = control.recv(1 << 16)
        if not data:
            os._exit(0)
        for frame in reader.feed(data):
            return Load.from_json(wire.unpack_json(frame.body))


def load_model(load: Load) -> Model:
    """The model as clients see it. Raises what the runtime's `load` raises."""
    # A package of its own, so that a runtime may have more files: `from . import tables`.
    package = types.ModuleType("modelport_runtime")
    package.__path__ = [load.runtime]
    sys.modules[package.__name__] = package
    module = importlib.import_module("modelport_runtime.runtime")
    options = LoadOptions(
        artifact=load.artifact,
        inputs=_of_one_size(load.inputs, load.batching),
        outputs=load.outputs,
        device=load.device,
        threads=load.threads,
        parameters=load.parameters,
    )
    model = module.load(options)
    if not model.signatures:
        raise LoadError("the model has no signature that can be served")
    return reshaped(model, load.reshape)


def _of_one_size(specs: Sequence[TensorSpec], batching: BatchingOptions) -> Tuple[TensorSpec, ...]:
    """An open batch that is declared beside one batch size is that size to the model, which may have no other."""
    dim, sizes = batching.dim, batching.sizes

    def sized(spec: TensorSpec) -> TensorSpec:
        if spec.shape is None or len(spec.shape) <= dim or spec.shape[dim] != -1:
            return spec
        return spec._replace(shape=spec.shape[:dim] + (sizes[0],) + spec.shape[dim + 1 :])

    return tuple(map(sized, specs)) if len(sizes) == 1 else tuple(specs)


def _warm_up(
    model: Model, batching: Batching, runs: int, writing: Sequence[str], on_card: bool
) -> Tuple[List[Tuple[int, float]], str]:
    """(rows, seconds) of the runs, and the words with which the model refuses whatever it is sent.

    With a latency target, sizes up to the largest run: their cost is known at once then.
    """
    if not runs:
        return [], ""
    if next(iter(model.signatures)) in writing:
        print("not warmed up: a run changes the model's state")
        return [], ""
    sizes = batching.sizes
    if batching.target:
        runs = max(runs, 2)  # the first of a size may set things up
        if not sizes and batching.max_rows:
            sizes = tuple(1 << power for power in range((batching.max_rows - 1).bit_length())) + (batching.max_rows,)
    took, why = probe.warm_up(model, sizes, batching.dim, runs)
    if not why:
        return took, ""
    print("not warmed up: " + why)
    refused = refusal(model, batching.dim, on_card)
    if refused:
        print("the model refuses whatever it is sent, so until it takes something, this refusal is a failure (500)")
    return took, refused


def _audit_share(audit: AuditOptions, settled: Settled) -> float:
    """Where the graph shows that rows do not influence each other, audits sleep, unless model.toml asks for them."""
    return 0.0 if settled.independent and not audit.always else audit.share


def _fail(control: socket.socket, reason: str) -> int:
    control.sendall(wire.pack_json(wire.FAILED, dict(Failed(reason)._asdict())))
    return 0
