"""What a profile of a model contains, in one form for every framework.

Each runtime can have two modules beside its `runtime.py`, which run in its environment and outside of a worker:

    graph.py        def read_graph(model: Model, signature: str) -> List[GraphNode]
    operators.py    def time_operators(model: Model, inputs: Dict[str, ndarray], signature: str) -> OperatorProfile

`model` is what the runtime's `load` returned. A function raises Unsupported, with a sentence, if this model has nothing
of the kind. Nodes have the same names in both, and are in the order in which they run
as far as the graph has one. The graph is the artifact's own, except that of ONNX Runtime, which writes the graph that
it has optimized: its nodes are the ones that run.
"""

import re
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

# TensorFlow's names consist of these, and TensorBoard gives a meaning to others, such as ":" and "^".
_OTHERS = re.compile(r"[^A-Za-z0-9_./>\\-]+")


class GraphNode(NamedTuple):
    """One node of a model's graph.

    name        unique within the graph. Slashes divide it into scopes, as in TensorFlow
    operator    the framework's name of the operator, such as "Conv"; "Placeholder" for an input, "Const" for a weight
    inputs      the names of the nodes whose outputs it takes, in order
    shape       of its first output; None if unknown. -1 stands for any size
    attributes  further facts, as text
    """

    name: str
    operator: str
    inputs: Tuple[str, ...] = ()
    shape: Optional[Tuple[int, ...]] = None
    attributes: Dict[str, str] = {}

    @classmethod
    def from_json(cls, raw: List[Any]) -> "GraphNode":
        name, operator, inputs, shape, attributes = raw
        return cls(name, operator, tuple(inputs), None if shape is None else tuple(shape), attributes)


class OperatorTime(NamedTuple):
    """One execution of an operator, as the framework's own profiler reports it.

    node          the name of the node in the graph; the last one, if the framework joined several into one operator
    operator      the framework's name of the operator
    start_us      microseconds since the beginning of the inference
    duration_us   microseconds, without the operators that it calls
    total_us      microseconds, with them
    device, lane  where it ran: "cpu" or "cuda:0", and the number of a thread or stream, from 0
    joined        the names of the other nodes that the operator computes
    note          why `node` is not in the graph; "" if it is
    """

    node: str
    operator: str
    start_us: float
    duration_us: float
    total_us: float
    device: str = "cpu"
    lane: int = 0
    joined: Tuple[str, ...] = ()
    note: str = ""


class OperatorProfile(NamedTuple):
    """The operators of one inference, which is the one with the median duration of several, after others to warm up.

    profiler       the framework's profiler, and its version
    operators      by start; empty if the profiler tells none, for a reason in `limits`
    duration_us    of the whole inference, with the profiler. Less or more than the sum of its operators: the framework
                   works between operators, and operators may run at the same time
    unprofiled_us  the median duration without the profiler; the difference is what profiling costs
    runs           how many inferences were profiled
    limits         what this profiler does not tell, a sentence each
    """

    profiler: str
    operators: Tuple[OperatorTime, ...]
    duration_us: float
    unprofiled_us: float
    runs: int
    limits: Tuple[str, ...] = ()

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict(), operators=[list(each) for each in self.operators])

    @classmethod
    def from_json(cls, raw: Dict[str, Any]) -> "OperatorProfile":
        found = [OperatorTime(*each) for each in raw["operators"]]
        operators = tuple(each._replace(joined=tuple(each.joined)) for each in found)
        return cls(**dict(raw, operators=operators, limits=tuple(raw["limits"])))


class Names:
    """Chooses the names of a graph's nodes."""

    def __init__(self) -> None:
        self._used: Set[str] = set()
        self._counts: Dict[str, int] = {}

    def unique(self, preferred: str, scope: str = "") -> str:
        """Return a name that no other node has: `preferred` in a scope, without unusual characters, and numbered if
        it is in use."""
        whole = _OTHERS.sub("_", "%s/%s" % (scope, preferred))
        first = name = "/".join(part for part in whole.split("/") if part) or "unnamed"
        while name in self._used:
            self._counts[first] = self._counts.get(first, 0) + 1
            name = "%s_%d" % (first, self._counts[first])
        self._used.add(name)
        return name


def scope_of(name: str) -> str:
    """Return the scope of a node: all of its name but the last part."""
    return name.rpartition("/")[0]
