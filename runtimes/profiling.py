"""What a profile of a model contains, in one form for every framework.

Each runtime can have two modules beside its `runtime.py`, which run in its environment and outside of a worker:

    graph.py        def read_graph(model: Model, signature: str) -> List[GraphNode]
    operators.py    def time_operators(model: Model, inputs: Dict[str, ndarray], signature: str) -> List[OperatorTime]

`model` is what the runtime's `load` returned. Nodes have the same names in both.
"""

from typing import Dict, NamedTuple, Optional, Tuple


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

    node          the name of the node in the graph, or what the profiler says in place of it
    operator      the framework's name of the operator
    start_us      microseconds since the beginning of the inference
    duration_us   microseconds, without the operators that it calls if the profiler tells
    device, lane  where it ran: "cpu" or "cuda:0", and the number of a thread or stream
    """

    node: str
    operator: str
    start_us: float
    duration_us: float
    device: str = "cpu"
    lane: int = 0
