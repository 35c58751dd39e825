"""A graph in the form that the analysis reads. Each runtime's reader makes one from its own format."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple


class Tensor(NamedTuple):
    """A constant."""

    name: str
    dims: Tuple[int, ...]
    contents: Optional[List[Any]]  # None if there are many


class Node(NamedTuple):
    """One operator. Tensors are identified by their names; "" stands for an omitted input."""

    operator: str
    domain: str
    name: str
    inputs: List[str]
    outputs: List[str]
    attributes: Dict[str, Any]


class Graph(NamedTuple):
    """A graph.

    inputs    names and sizes. A size is a number, the name of a symbol, or None. The sizes are None if the rank is
              unknown
    unranked  those outputs for which the file has no sizes
    """

    nodes: List[Node]
    constants: List[Tensor]
    inputs: List[Tuple[str, Optional[List[Any]]]]
    outputs: List[str]
    unranked: Sequence[str] = ()


class Function(NamedTuple):
    """A function that nodes can call. `versions` of the operators in its body, by domain."""

    inputs: List[str]
    outputs: List[str]
    nodes: List[Node]
    versions: Dict[str, int]


class Model(NamedTuple):
    """A model. `versions` of the operators are by domain, `functions` by domain and name."""

    graph: Graph
    versions: Dict[str, int]
    functions: Dict[Tuple[str, str], Function]


class Reference(NamedTuple):
    """An attribute in the body of a function that stands for one of the caller's attributes."""

    name: str
