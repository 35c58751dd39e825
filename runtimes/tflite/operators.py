"""Times the operators of a TensorFlow Lite model with LiteRT's profiler, which only its C interface has.

XNNPACK runs most operators. It names them in its own way and knows no nodes, but runs them in the order of the graph.
"""

from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np
from ai_edge_litert import __version__ as version

from runtimes.checks import check_input
from runtimes.contract import Model
from runtimes.profiled_runs import duration_us, median_run, unprofiled, without_operators
from runtimes.profiling import GraphNode, OperatorProfile, OperatorTime

from .entries import UNSIGNED
from .graph import read_graph
from .native import Event, NativeError, ProfiledModel
from .runtime import LiteRtModel

# LiteRtProfilerEventType
_STEP, _OPERATOR, _OF_DELEGATE = 1, 2, (4, 8)
_INVOKE = "Invoke"
# What XNNPACK calls an operator → the operators of TensorFlow Lite that it may compute.
_XNNPACK = {
    "Add": ("ADD",),
    "Argmax Pooling": ("ARG_MAX",),
    "Average Pooling": ("AVERAGE_POOL_2D", "MEAN"),
    "Batch Matrix Multiply": ("BATCH_MATMUL",),
    "Clamp": ("RELU", "RELU6", "RELU_N1_TO_1"),
    "Concatenate": ("CONCATENATION",),
    "Constant Pad": ("PAD", "PADV2"),
    "Convert": ("QUANTIZE", "DEQUANTIZE", "CAST"),
    "Convolution": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "Copy": ("RESHAPE", "EXPAND_DIMS", "SQUEEZE"),
    "Deconvolution": ("TRANSPOSE_CONV",),
    "Divide": ("DIV",),
    "Fully Connected": ("FULLY_CONNECTED",),
    "Dynamic Fully Connected": ("FULLY_CONNECTED", "BATCH_MATMUL"),
    "Global Average Pooling": ("MEAN", "AVERAGE_POOL_2D"),
    "Leaky ReLU": ("LEAKY_RELU",),
    "Max Pooling": ("MAX_POOL_2D",),
    "Maximum": ("MAXIMUM",),
    "Mean": ("MEAN",),
    "Minimum": ("MINIMUM",),
    "Multiply": ("MUL",),
    "Negate": ("NEG",),
    "Resize Bilinear": ("RESIZE_BILINEAR",),
    "Sigmoid": ("LOGISTIC",),
    "Slice": ("SLICE", "STRIDED_SLICE"),
    "Softmax": ("SOFTMAX",),
    "Split": ("SPLIT",),
    "Square": ("SQUARE",),
    "Square Root": ("SQRT",),
    "Static Reshape": ("RESHAPE", "EXPAND_DIMS", "SQUEEZE"),
    "Subtract": ("SUB",),
    "Tanh": ("TANH",),
    "Transpose": ("TRANSPOSE",),
}
# XNNPACK may leave these out, or compute them within their neighbours.
_LEFT_OUT = ("RESHAPE", "EXPAND_DIMS", "SQUEEZE", "RELU", "RELU6", "RELU_N1_TO_1", "PAD", "QUANTIZE", "DEQUANTIZE")
_LIMITS = (
    "LiteRT's profiler counts whole microseconds.",
    "XNNPACK does not tell which nodes it runs, nor when: they are found by their kind and order.",
)
_WITHOUT = "LiteRT's profiler, which needs another interface than the one that serves, cannot run this model: %s."


def time_operators(model: Model, inputs: Dict[str, np.ndarray], signature: str) -> OperatorProfile:
    assert isinstance(model, LiteRtModel)
    unprofiled_us, count = unprofiled(lambda: model.infer(inputs, (), signature))
    entry, specs = model.entries[signature], model.signatures[signature].inputs
    given = {entry.inputs[spec.name]: check_input(spec, inputs) for spec in specs}
    results = {entry.outputs[name]: array for name, array in model.infer(inputs, (), signature).items()}
    profiler = "the profiler of LiteRT %s" % version
    try:
        key = "" if signature == UNSIGNED else signature
        profiled = ProfiledModel(model.content, key, model.options.threads, given, results)
        for _ in range(3):
            profiled.run()
        runs = [_profiled(profiled) for _ in range(count)]
    except NativeError as error:
        return without_operators(profiler, unprofiled_us, count, _WITHOUT % error)
    duration, events = median_run(runs)
    operators = _operators(events, read_graph(model, signature), entry.subgraph)
    return OperatorProfile(profiler, tuple(operators), duration, unprofiled_us, count, _LIMITS)


def _profiled(model: ProfiledModel) -> Tuple[float, List[Event]]:
    model.start()
    duration = duration_us(model.run)
    return duration, model.stop()


def _operators(events: Sequence[Event], graph: Sequence[GraphNode], subgraph: int) -> Iterator[OperatorTime]:
    nodes = _Nodes([node for node in graph if node.operator not in ("Const", "Placeholder")], subgraph)
    began = now = events[0].start_us if events else 0
    for event in events:
        if event.kind in _OF_DELEGATE:
            node, note = nodes.of_delegate(event)
            start, now = now, now + event.elapsed_us
        elif event.kind == _OPERATOR and not nodes.is_delegate(event):
            node, note = nodes.own(event)
            start, now = event.start_us, event.start_us + event.elapsed_us
        else:
            now = max(now, event.start_us)  # what a delegate does begins here
            continue
        elapsed = float(event.elapsed_us)
        yield OperatorTime(node, event.tag, float(start - began), elapsed, elapsed, note=note)


class _Nodes:
    """Finds the nodes that events are about: the nodes of a subgraph, in its order."""

    def __init__(self, nodes: Sequence[GraphNode], subgraph: int) -> None:
        self._nodes, self._subgraph = nodes, subgraph
        self._next = 0

    def is_delegate(self, event: Event) -> bool:
        """Return whether an operator stands for what a delegate runs. It is numbered after all nodes."""
        return event.subgraph == self._subgraph and event.index >= len(self._nodes)

    def own(self, event: Event) -> Tuple[str, str]:
        """Return the node that LiteRT itself runs, or the operator and why there is no node."""
        if event.subgraph != self._subgraph:
            return event.tag, "it is in the body of a branch or a loop, which the graph does not show"
        self._next = max(self._next, event.index + 1)
        return self._nodes[event.index].name, ""

    def of_delegate(self, event: Event) -> Tuple[str, str]:
        """Return the next node of that kind, or the operator and why there is no node."""
        kinds = _XNNPACK.get(event.tag.partition(" (")[0], ())
        for index in range(self._next, len(self._nodes)):
            if self._nodes[index].operator in kinds:
                self._next = index + 1
                return self._nodes[index].name, ""
            if self._nodes[index].operator not in _LEFT_OUT:
                break
        return event.tag, "XNNPACK does not tell which node it belongs to"
