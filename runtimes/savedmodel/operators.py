"""Times the operators of a SavedModel with tf.profiler.

TensorFlow optimizes a graph before it runs: an operator that it joined has the name of the last of its nodes, and one
that it added has a name that is not in the graph.
"""

import glob
import os
import re
import tempfile
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from runtimes.contract import Model
from runtimes.profiled_runs import Span, lanes, median_run, self_times, unprofiled, within
from runtimes.profiling import Names, OperatorProfile, OperatorTime

from .graph import read_graph

_INFERENCE = "modelport: inference"
_OPERATOR = re.compile(r"([A-Za-z0-9.][A-Za-z0-9_.\\/>-]*):([A-Za-z_]\w*)")
_HOST, _GPU = "/host:CPU", re.compile(r"/device:GPU:(\d+)")
_LIMITS = (
    "TensorFlow's profiler does not tell which nodes were joined into one operator, which has the name of the last.",
    "It leaves out some operators that take next to no time, such as Reshape.",
)


def time_operators(model: Model, inputs: Dict[str, np.ndarray], signature: str) -> OperatorProfile:
    unprofiled_us, count = unprofiled(lambda: model.infer(inputs, (), signature))
    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3, python_tracer_level=0)
    with tempfile.TemporaryDirectory(prefix="modelport-profile-") as folder:
        tf.profiler.experimental.start(folder, options)
        try:
            for step in range(count):
                with tf.profiler.experimental.Trace(_INFERENCE, step_num=step):
                    model.infer(inputs, (), signature)
        finally:
            tf.profiler.experimental.stop()
        planes = _planes(folder)
    host = [span for name, plane in planes for span in _spans(plane) if name == _HOST]
    inferences = [span for span in host if span.key[0] == _INFERENCE]
    duration, inference = median_run([(span.duration_us, span) for span in inferences])
    known = {node.name: node.operator for node in read_graph(model, signature)}
    operators = []  # type: List[OperatorTime]
    for name, plane in planes:
        gpu = _GPU.match(name)
        if name == _HOST or gpu:
            spans = within([span for span in _spans(plane) if _OPERATOR.fullmatch(span.key[1])], inference)
            operators += _operators(spans, inference, known, "cuda:" + gpu[1] if gpu else "cpu")
    return OperatorProfile(
        profiler="tf.profiler of TensorFlow %s" % tf.__version__,
        operators=tuple(sorted(operators, key=lambda each: each.start_us)),
        duration_us=duration,
        unprofiled_us=unprofiled_us,
        runs=count,
        limits=_LIMITS,
    )


def _operators(spans: List[Span], inference: Span, known: Dict[str, str], device: str) -> List[OperatorTime]:
    found = self_times(spans)
    lane = lanes([span.thread for span in found])
    operators = []
    for span in found:
        path, operator = span.key[1].rsplit(":", 1)
        node = _node(path, operator, known)
        operators.append(
            OperatorTime(
                node,
                span.key[0] if device != "cpu" else operator,
                span.start_us - inference.start_us,
                span.own_us,
                span.duration_us,
                device,
                lane[span.thread],
                note="" if node in known else "TensorFlow added it when it optimized the graph",
            )
        )
    return operators


def _node(path: str, operator: str, known: Dict[str, str]) -> str:
    """Return the name of a node in the graph, if it has one. known: node → operator."""
    node = Names().unique(path)
    before, _, number = node.rpartition("_")
    # A function calls a node "add_0" if it calls one of its outputs "add".
    renamed = node not in known and number.isdigit() and known.get(before) == operator
    return before if renamed else node


def _planes(folder: str) -> List[Tuple[str, Any]]:
    """Return the planes of the trace that is in a folder, by name: a plane contains the events of one device."""
    space = xplane_pb2.XSpace()
    for path in glob.glob(os.path.join(folder, "**", "*.xplane.pb"), recursive=True):
        with open(path, "rb") as file:
            space.MergeFromString(file.read())
    return [(plane.name, plane) for plane in space.planes]


def _spans(plane: Any) -> Iterator[Span]:
    """Yield the events of a plane. A key is the name and "NODE:OPERATOR", which is the name except on a GPU."""
    for line in plane.lines:
        for event in line.events:
            name = plane.event_metadata[event.metadata_id].name
            owner = name
            for stat in event.stats:
                if plane.stat_metadata[stat.metadata_id].name == "tf_op":
                    owner = stat.str_value or plane.stat_metadata[stat.ref_value].name
            start = line.timestamp_ns / 1e3 + event.offset_ps / 1e6
            yield Span((name, owner), start, event.duration_ps / 1e6, line.id)
