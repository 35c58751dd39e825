"""A graph as the walk sees it. Each runtime's reader makes one from its own format."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple


class Tensor(NamedTuple):
    """A constant."""

    name: str
    dims: Tuple[int, ...]
    contents: Optional[List[Any]]  # of few numbers, else None


class Node(NamedTuple):
    """One operator. Tensors are known by their names; "" is an input that is left out."""

    operator: str
    domain: str
    name: str
    inputs: List[str]
    outputs: List[str]
    attributes: Dict[str, Any]


class Graph(NamedTuple):
    """`inputs`: names and sizes: a number, a symbol's name, or None; no sizes where not even the rank is there."""

    nodes: List[Node]
    constants: List[Tensor]
    inputs: List[Tuple[str, Optional[List[Any]]]]
    outputs: List[str]


class Function(NamedTuple):
    inputs: List[str]
    outputs: List[str]
    nodes: List[Node]
    versions: Dict[str, int]


class Model(NamedTuple):
    """`versions` of the operators by domain; functions by domain and name."""

    graph: Graph
    versions: Dict[str, int]
    functions: Dict[Tuple[str, str], Function]


class Reference(NamedTuple):
    """An attribute in a function's body whose value is the caller's."""

    name: str
