"""Times the operators of an MXNet model with mx.profiler.

The profiler names operators, not nodes. They are the nodes of the symbol that MXNet has optimized, in its order,
because while profiled each operator waits until the one before it has ended.
"""

import json
import os
import tempfile
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np

from runtimes.contract import Model
from runtimes.profiled_runs import Span, lanes, median_run, self_times, unprofiled, within
from runtimes.profiling import OperatorProfile, OperatorTime

from .graph import read_graph
from .runtime import MxnetModel

_BULK = "MXNET_EXEC_BULK_EXEC_INFERENCE"
_WAIT = "WaitForVar"  # the caller waits for a result with it, at the end of each inference
_LIMITS = (
    "MXNet's profiler counts whole microseconds.",
    "MXNet usually runs several operators in one step, or at the same time, and while profiled one after the other.",
)


class _Node(NamedTuple):
    """A node that MXNet runs. joined: the names of the other nodes that it computes."""

    name: str
    operator: str
    joined: Tuple[str, ...]


def time_operators(model: Model, inputs: Dict[str, np.ndarray], signature: str) -> OperatorProfile:
    assert isinstance(model, MxnetModel)
    unprofiled_us, count = unprofiled(lambda: model.infer(inputs, (), signature))
    inferences = []
    with _one_by_one(model), tempfile.TemporaryDirectory(prefix="modelport-profile-") as folder:
        path = os.path.join(folder, "profile.json")
        model.infer(inputs, (), signature)
        for executor in model.executors.values():
            executor.set_monitor_callback(_wait)  # called after each operator
        for _ in range(3):
            model.infer(inputs, (), signature)
        mx.profiler.set_config(filename=path, profile_symbolic=True, profile_imperative=True)
        mx.profiler.set_state("run")
        for _ in range(count):
            began = time.time()  # MXNet's clock
            model.infer(inputs, (), signature)
            inferences.append(Span(None, began * 1e6, (time.time() - began) * 1e6))
        mx.profiler.set_state("stop")
        mx.profiler.dump()
        nodes = _nodes(model, inputs, signature)
        with open(path) as file:
            events = json.load(file)["traceEvents"]
    duration, inference = median_run([(each.duration_us, each) for each in inferences])
    return OperatorProfile(
        profiler="mx.profiler of MXNet %s" % mx.__version__,
        operators=tuple(_operators(within(_spans(events), inference), nodes, inference)),
        duration_us=duration,
        unprofiled_us=unprofiled_us,
        runs=count,
        limits=_LIMITS,
    )


def _wait(name: Any, array: Any) -> None:
    mx.nd.waitall()


@contextmanager
def _one_by_one(model: MxnetModel) -> Iterator[None]:
    """Let MXNet run each operator in a step of its own, in executors that are made within the block."""
    before = os.environ.get(_BULK)
    os.environ[_BULK] = "0"
    model.executors.clear()
    try:
        yield
    finally:
        model.executors.clear()
        if before is None:
            del os.environ[_BULK]
        else:
            os.environ[_BULK] = before


def _nodes(model: MxnetModel, inputs: Dict[str, np.ndarray], signature: str) -> List[_Node]:
    """Return the nodes that MXNet runs, in its order, with the names that they have in the graph of a profile."""
    original = [node["name"] for node in json.loads(model.symbol.tojson())["nodes"]]
    named = dict(zip(original, [node.name for node in read_graph(model, signature)]))
    executor = next(reversed(model.executors.values()))
    found = []
    for node in json.loads(executor.get_optimized_symbol().tojson())["nodes"]:
        inner = [part["name"] for graph in node.get("subgraphs", []) for part in graph["nodes"] if part["op"] != "null"]
        parts = [named[name] for name in inner if name in named]
        if node["op"] != "null":
            own = named.get(node["name"]) or (parts.pop() if parts else "")
            found.append(_Node(own, node["op"], tuple(parts)))
    return found


def _spans(events: Sequence[Dict[str, Any]]) -> List[Span]:
    """Return the operators among the events of a trace, with their names and devices as keys."""
    devices = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    spans, begun = [], {}  # type: List[Span], Dict[Any, Any]
    for event in events:
        key = event.get("tid"), event["pid"], event["name"]
        if event["ph"] == "B":
            begun[key] = event["ts"]
        elif event["ph"] == "E" and event["name"] != _WAIT:
            start = begun.pop(key)
            name = (event["name"], devices.get(event["pid"], "cpu/0"))
            spans.append(Span(name, float(start), float(event["ts"] - start), event["tid"]))
    return spans


def _operators(spans: Sequence[Span], nodes: Sequence[_Node], inference: Span) -> Iterator[OperatorTime]:
    waiting = {}  # type: Dict[str, List[_Node]]
    for node in nodes:
        waiting.setdefault(node.operator, []).append(node)
    found = self_times(spans)
    lane = lanes([span.thread for span in found])
    for span in found:
        operator, place = span.key
        left = waiting.get(operator)
        node = left.pop(0) if left else _Node("", operator, ())
        yield OperatorTime(
            node.name or operator,
            operator,
            span.start_us - inference.start_us,
            span.own_us,
            span.duration_us,
            place.replace("gpu/", "cuda:") if place.startswith("gpu/") else "cpu",
            lane[span.thread],
            node.joined,
            "" if node.name else "it belongs to no node: MXNet copies or converts with it",
        )
