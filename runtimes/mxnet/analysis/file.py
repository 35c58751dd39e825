"""A symbol's JSON, as `Symbol.tojson` writes it, as the walk sees it."""

import ast
import json
from typing import Any, Dict, List, Sequence, Tuple

from runtimes.dataflow.graph import Graph, Model, Node, Tensor


def of_json(text: str, shapes: Dict[str, Sequence[int]], inputs: Sequence[str]) -> Model:
    """`shapes` are those of the parameters. What is neither one nor an input is a label, of which nothing is known.

    Raises ValueError for what is no symbol.
    """
    told = json.loads(text)
    ends, nodes = told["node_row_ptr"], told["nodes"]
    names = []  # type: List[List[str]]
    graph = Graph([], [], [(name, None) for name in inputs], [])
    for index, node in enumerate(nodes):
        if node["op"] == "null":
            names.append([node["name"]])
            continue
        names.append(["%d:%d" % (index, place) for place in range(ends[index + 1] - ends[index])])
        given = [names[each[0]][each[1]] for each in node["inputs"]]
        written = node.get("attrs") or node.get("attr") or node.get("param") or {}
        attributes = {key: _parsed(value) for key, value in written.items()}
        graph.nodes.append(Node(node["op"], "", node["name"], given, names[-1], attributes))
    graph.constants.extend(Tensor(name, tuple(shape), None) for name, shape in shapes.items())
    graph.outputs.extend(names[each[0]][each[1]] for each in told["heads"])
    return Model(graph, {}, {})


def labels(text: str, known: Sequence[str]) -> List[str]:
    """The variables that are not among the `known`."""
    return [node["name"] for node in json.loads(text)["nodes"] if node["op"] == "null" and node["name"] not in known]


def _parsed(text: str) -> Any:
    """Attributes are written as Python has them, but for words: "(0, -1)", "True", "NCHW"."""
    if text.lower() in ("true", "false"):  # other languages write them in small letters
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def numbers(value: Any) -> Tuple[int, ...]:
    """A shape or axes, where one number may stand alone."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (tuple, list)) else (int(value),)
