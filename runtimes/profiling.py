"""What a profile of a model contains, in one form for every framework.

Each runtime can have two modules beside its `runtime.py`, which run in its environment and outside of a worker:

    graph.py        def read_graph(model: Model, signature: str) -> List[GraphNode]
    operators.py    def time_operators(model: Model, inputs: Dict[str, ndarray], signature: str) -> OperatorProfile

`model` is what the runtime's `load` returned. Nodes have the same names in both.
"""

from typing import Any, Dict, NamedTuple, Optional, Tuple


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
    operators      by start
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
