"""Times the operators of an ONNX model with ONNX Runtime's own profiler, in a session of its own.

Nodes are those of the graph that ONNX Runtime has optimized, as `graph.py` reads it. The profiler names a node by its
name, which need not be unique, so nodes of the same name and operator are told apart by the order in which they run.
"""

import json
import os
import tempfile
import time
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple, Union

import numpy as np
import onnxruntime as ort

from runtimes.contract import LoadOptions, Model
from runtimes.dataflow.graph import Node
from runtimes.profiled_runs import Span, lanes, median_run, self_times, unprofiled, within
from runtimes.profiling import OperatorProfile, OperatorTime

from .graph import optimized
from .private import private_copy
from .providers import CUDA, TENSORRT
from .runtime import OnnxModel, in_session

_SUFFIX = "_kernel_time"
_LIMITS = ("ONNX Runtime's profiler counts whole microseconds.",)
_ON_DEVICE = "On a GPU, its times are those of launching a node's kernels on the CPU, not of the kernels themselves."


def time_operators(model: Model, inputs: Dict[str, np.ndarray], signature: str) -> OperatorProfile:
    assert isinstance(model, OnnxModel)
    with private_copy(model.options.artifact) as path:
        return profile_of(path, model.options, model, inputs)


def profile_of(
    content: Union[str, bytes], options: LoadOptions, model: Model, inputs: Dict[str, np.ndarray]
) -> OperatorProfile:
    """Profile a file, or the bytes of a translated model. model: the same, as it is served."""
    unprofiled_us, count = unprofiled(lambda: model.infer(inputs, (), ""))
    settings = ort.SessionOptions()
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="modelport-profile-") as folder:
        settings.profile_file_prefix = os.path.join(folder, "profile")
        session, _, named = optimized(content, options, settings)
        profiled = in_session(session, content, options)
        started = session.get_profiling_start_time_ns()
        # It is said to be monotonic, but is the time of day on Linux (findings/onnxruntime-profile-starts-by-…).
        clock = min((time.monotonic_ns, time.time_ns), key=lambda clock: abs(clock() - started))
        for _ in range(3):
            profiled.infer(inputs, (), "")
        inferences = []
        for _ in range(count):
            began = clock()
            profiled.infer(inputs, (), "")
            inferences.append(Span(None, (began - started) / 1e3, (clock() - began) / 1e3))
        with open(session.end_profiling()) as file:
            events = json.load(file)
    spans = [_span(event) for event in events if event["cat"] == "Node" and event["name"].endswith(_SUFFIX)]
    duration, inference = median_run([(each.duration_us, each) for each in inferences])
    operators = _operators(within(spans, inference), _Nodes(spans, named), inference)
    on_device = any(span.key.provider in (CUDA, TENSORRT) for span in spans)
    return OperatorProfile(
        profiler="the profiler of ONNX Runtime %s" % ort.__version__,
        operators=tuple(operators),
        duration_us=duration,
        unprofiled_us=unprofiled_us,
        runs=count,
        limits=_LIMITS + ((_ON_DEVICE,) if on_device else ()),
    )


class _Key(NamedTuple):
    """What the profiler says about a node. index: unique within one graph only, so a body can have that of another."""

    name: str
    operator: str
    index: str
    provider: str


def _span(event: Dict[str, Any]) -> Span:
    about = event["args"]
    key = _Key(
        name=event["name"][: -len(_SUFFIX)],
        operator=about.get("op_name", ""),
        index=str(about.get("node_index", "")),
        provider=about.get("provider", ""),
    )
    return Span(key, float(event["ts"]), float(event["dur"]), event["tid"])


class _Nodes:
    """Finds the nodes that events are about. spans: those of several inferences."""

    def __init__(self, spans: Sequence[Span], named: Sequence[Tuple[Node, str]]) -> None:
        self._candidates: Dict[Tuple[str, str], List[str]] = {}
        for node, name in named:
            self._candidates.setdefault((node.name, node.operator), []).append(name)
        self._seen: Dict[Tuple[str, str], List[str]] = {}  # indices in the order in which they ran
        for span in sorted(spans, key=lambda each: each.start_us):
            seen = self._seen.setdefault(self._named(span.key), [])
            if span.key.index not in seen:
                seen.append(span.key.index)

    def of(self, key: _Key) -> Tuple[str, str]:
        """Return the node, or what there is of its name and why there is none."""
        named = self._named(key)
        candidates, seen = self._candidates.get(named, []), self._seen[named]
        if len(candidates) == 1:
            return candidates[0], ""
        if len(candidates) == len(seen):
            return candidates[seen.index(key.index)], ""
        if candidates:
            return key.name.strip(), "several nodes have this name, and the profiler does not tell which of them it is"
        return key.name.strip(), "ONNX Runtime added it when it optimized the graph"

    def _named(self, key: _Key) -> Tuple[str, str]:
        """Return name and operator of the node. The profiler calls a node without a name by operator and index."""
        has_name = key.name != "%s_%s" % (key.operator, key.index) or (key.name, key.operator) in self._candidates
        return key.name if has_name else "", key.operator


def _operators(spans: Sequence[Span], nodes: _Nodes, inference: Span) -> List[OperatorTime]:
    found = self_times(spans)
    lane = lanes([span.thread for span in found])
    operators = []
    for span in found:
        node, note = nodes.of(span.key)
        start = span.start_us - inference.start_us
        operators.append(
            OperatorTime(
                node, span.key.operator, start, span.own_us, span.duration_us, "cpu", lane[span.thread], note=note
            )
        )
    return operators
