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
from .xnnpack import nodes_of

# LiteRtProfilerEventType
_STEP, _OPERATOR, _OF_DELEGATE = 1, 2, (4, 8)
_INVOKE = "Invoke"
_LIMITS = (
    "LiteRT's profiler counts whole microseconds.",
    "XNNPACK does not tell which nodes it runs, nor when: they are found by their kind and order.",
)
# By whether LiteRT itself ran the operator.
_UNKNOWN = {
    True: "it is in the body of a branch or a loop, which the graph does not show",
    False: "XNNPACK does not tell which node it belongs to",
}
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
    nodes = [node for node in graph if node.operator not in ("Const", "Placeholder")]
    began = now = events[0].start_us if events else 0
    # A delegate is an operator as well, numbered after all nodes.
    is_own = [each.kind == _OPERATOR and (each.subgraph != subgraph or each.index < len(nodes)) for each in events]
    ran = [
        (each.index if each.subgraph == subgraph else None) if own else each.tag
        for each, own in zip(events, is_own)
        if own or each.kind in _OF_DELEGATE
    ]
    found = iter(nodes_of(ran, [node.operator for node in nodes]))
    for event, own in zip(events, is_own):
        if own:
            start, now = event.start_us, event.start_us + event.elapsed_us
        elif event.kind in _OF_DELEGATE:
            start, now = now, now + event.elapsed_us
        else:
            now = max(now, event.start_us)  # what a delegate does begins here
            continue
        index, elapsed = next(found), float(event.elapsed_us)
        node, note = (event.tag, _UNKNOWN[own]) if index is None else (nodes[index].name, "")
        yield OperatorTime(node, event.tag, float(start - began), elapsed, elapsed, note=note)
