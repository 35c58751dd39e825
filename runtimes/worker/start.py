"""From LOAD to READY: loads the model, decides how it is batched, warms it up, then runs the loop."""

import gc
import importlib
import os
import socket
import sys
import traceback
import types
from typing import Any, Callable, List, Optional, Sequence, Tuple

from runtimes import memory, wire
from runtimes.contract import LoadError, LoadOptions, Model, TensorSpec, numpy_dtype
from runtimes.control import AuditOptions, BatchingOptions, Failed, Load
from runtimes.redaction import reason_of
from runtimes.sandbox.box import Box, Denials, seal
from runtimes.status_page import StatusPage
from runtimes.worker import probe
from runtimes.worker.batcher import Batching
from runtimes.worker.batching_decision import BatchingDecision, decide_batching, with_free_rows
from runtimes.worker.calls import Calls
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor
from runtimes.worker.facts import Facts
from runtimes.worker.heap import return_free_memory
from runtimes.worker.loop import Loop
from runtimes.worker.refusal import common_refusal
from runtimes.worker.reshape import reshaped
from runtimes.worker.sequence_model import Joined, SequenceModel, decide_sequence_batching, with_sequence_tensors


def serve(control: socket.socket, listener: socket.socket, status: StatusPage, box: Optional[Box] = None) -> int:
    """Run the worker and return its exit code. A model that cannot be loaded is reported as FAILED, not as a crash.

    box: what confines this process already; it is sealed when the framework has been imported
    """
    load, denials = _receive_load(control), Denials()

    def on_import() -> None:
        if box is not None:
            seal(box)
        if load.memory_limit:
            memory.limit(load.memory_limit, load.threads)

    def on_failure(error: BaseException) -> None:
        if box is not None:
            denials.observe(error)
        if load.memory_limit and memory.is_exhausted(error):
            print("an allocation failed: memory_limit = " + memory.written(load.memory_limit))

    try:
        calls = Calls(load.max_body_bytes)
        model = load_model(load, on_import, calls)
        if load.sequence is not None:
            model = Joined(model, load.sequence, load.batching)
        options, fixed, execution = load.batching, model.signatures, model.execution
        model.signatures = with_free_rows(fixed, options.sizes, options.dim)
        on_card = load.device != "cpu"
        if isinstance(model, Joined):
            decision = decide_sequence_batching(model, options, on_card)
        else:
            decision = decide_batching(model, options, on_card)
        batching = decision.batching
        if not batching.max_rows:
            model.signatures = fixed
        return_free_memory()  # before the warm-up, because the runs allocate what requests will need
        durations, refusal_words = _warm_up(model, batching, load.warmup, decision.stateful, on_card)
        if isinstance(model, Joined):
            model = SequenceModel(model, load, batching)
            fixed = model.visible(fixed)
    except Exception as error:  # noqa: BLE001 - frameworks raise anything, and the user needs the reason
        on_failure(error)
        if load.memory_limit and memory.is_exhausted(error):
            return _fail(control, memory.too_small(load.memory_limit))
        if isinstance(error, LoadError) and str(error).strip():
            return _fail(control, str(error))
        traceback.print_exc()
        return _fail(control, reason_of(error))
    facts = Facts(
        model.signatures,
        fixed,
        model.pipelined,
        batching,
        decision.reason,
        decision.note,
        model.decoupled,
        takes_context=model.takes_requests or load.sequence is not None,
        calls_models=model.calls_models,
        varies=decision.varies,
        execution=execution,
    )
    control.sendall(wire.pack_json(wire.READY, facts.ready().to_json()))
    executor = Executor(model, batching, load.max_response_bytes)
    executor.refusal = refusal_words
    executor.on_failure = on_failure
    # Audits run requests again that no client waits for any more, so that a model that needs others cannot answer them.
    share = 0.0 if model.takes_requests or model.calls_models else _audit_share(load.audit, decision)
    loop = Loop(executor, listener, Connection(control), status, facts, share, calls)
    for rows, seconds in durations:
        loop.seed_cost(rows, seconds)
    if hasattr(gc, "freeze"):  # Python 3.7
        gc.collect()
        gc.freeze()  # the framework's objects stay for good, so exclude them from future collections
    loop.run()
    loop.close()
    model.close()
    return 0


def rehearse(module: Any) -> None:
    """Do what `serve` does until READY, with the tiny model that a runtime may have for this, and forget it.

    The model that comes then finds memory that is this process's own already, and code that has run once. Raises what
    loading raises.

    module: the imported runtime.py
    """
    if not hasattr(module, "rehearsal"):
        return
    import tempfile  # a spare has time

    with tempfile.TemporaryDirectory(prefix="modelport-rehearsal-") as folder:
        load = Load(os.path.dirname(module.__file__), module.rehearsal(folder))
        model = load_model(load)
        decision = decide_batching(model, load.batching)
        _warm_up(model, decision.batching, load.warmup, decision.stateful, False)
        facts = Facts(
            model.signatures, model.signatures, model.pipelined, decision.batching, decision.reason, decision.note
        )
        wire.FrameReader().feed(wire.pack_json(wire.READY, facts.ready().to_json()))
        Executor(model, decision.batching, load.max_response_bytes)
        model.close()


def _receive_load(control: socket.socket) -> Load:
    reader = wire.FrameReader()
    while True:
        data = control.recv(1 << 16)
        if not data:
            os._exit(0)
        for frame in reader.feed(data):
            return Load.from_json(wire.unpack_json(frame.body))


def import_runtime(folder: str) -> Any:
    """Return the module runtime.py in this folder, imported with its framework. Raises what the import raises."""
    # It is imported as a package, so that it may consist of several files: `from . import tables`.
    name = "modelport_runtime"
    if name not in sys.modules:  # a zygote has imported it already
        package = types.ModuleType(name)
        package.__path__ = [folder]
        sys.modules[name] = package
    return importlib.import_module(name + ".runtime")


def load_model(load: Load, on_import: Callable[[], None] = lambda: None, calls: Optional[Calls] = None) -> Model:
    """Return the model as clients see it. Raises what the runtime's `load` raises.

    on_import: called when the framework has been imported, and before anything of the model is read
    calls: by which the model sends requests to other models
    """
    module = import_runtime(load.runtime)
    on_import()
    declared = with_sequence_tensors(load)
    options = LoadOptions(
        artifact=load.artifact,
        inputs=_with_fixed_batch(declared.inputs, load.batching),
        outputs=declared.outputs,
        device=load.device,
        threads=load.threads,
        parameters=load.parameters,
        name=load.name,
        version=load.version,
        max_rows=load.batching.max_rows,
        batches=load.batching.declares_batching,
        optional=load.optional,
        decoupled=load.decoupled,
        calls=calls,
        allow_code=load.allow_code,
    )
    model = module.load(options)
    if not model.signatures:
        raise LoadError("the model has no signature that can be served")
    for each in model.signatures.values():
        for spec in each.inputs + each.outputs:
            if spec.datatype:
                _check_dtype(spec)
    if load.decoupled and not model.decoupled:
        raise LoadError("decoupled is configured, but the model gives one answer to each request: remove it")
    default = next(iter(model.signatures.values()))
    optional = {*default.optional, *(spec.name for spec in default.unbatched)}
    for name in load.optional:
        if name not in optional:
            raise LoadError("input '%s' is declared optional, but the model needs it" % name)
    return reshaped(model, load.reshape)


def _check_dtype(spec: TensorSpec) -> None:
    try:
        numpy_dtype(spec.datatype)
    except ValueError as error:
        raise LoadError("'%s' cannot be served: %s" % (spec.name, error)) from None


def _with_fixed_batch(specs: Sequence[TensorSpec], batching: BatchingOptions) -> Tuple[TensorSpec, ...]:
    """Replace a variable batch dimension by the declared batch size if there is exactly one.

    The model may support no other size, and batches are padded to it.
    """
    dim, sizes = batching.dim, batching.sizes

    def sized(spec: TensorSpec) -> TensorSpec:
        if spec.shape is None or len(spec.shape) <= dim or spec.shape[dim] != -1:
            return spec
        return spec._replace(shape=spec.shape[:dim] + (sizes[0],) + spec.shape[dim + 1 :])

    return tuple(map(sized, specs)) if len(sizes) == 1 else tuple(specs)


def _warm_up(
    model: Model, batching: Batching, runs: int, writing: Sequence[str], on_card: bool
) -> Tuple[List[Tuple[int, float]], str]:
    """Return (rows, seconds) of each run, and the words with which the model refuses every input ("" if it does not).

    With a latency target, batches of every power of two rows run, so that their durations are known from the start.
    """
    if not runs or model.decoupled:
        return [], ""
    if next(iter(model.signatures)) in writing:
        print("not warmed up: a run changes the model's state")
        return [], ""
    sizes = batching.sizes
    if batching.target:
        runs = max(runs, 2)  # the first run of a size may include one-time setup
        if not sizes and batching.max_rows:
            sizes = tuple(1 << power for power in range((batching.max_rows - 1).bit_length())) + (batching.max_rows,)
    durations, why = probe.warm_up(model, sizes, batching.dim, runs)
    if not why:
        return durations, ""
    print("not warmed up: " + why)
    refusal_words = common_refusal(model, batching.dim, on_card)
    if refusal_words:
        print("the model refuses every input; until it accepts one, this refusal is reported as its failure (500)")
    return durations, refusal_words


def _audit_share(audit: AuditOptions, decision: BatchingDecision) -> float:
    """Return the share for audits: 0 if the graph proves rows to be independent and model.toml does not set a share."""
    return 0.0 if decision.rows_independent and not audit.always else audit.share


def _fail(control: socket.socket, reason: str) -> int:
    control.sendall(wire.pack_json(wire.FAILED, dict(Failed(reason)._asdict())))
    return 0
