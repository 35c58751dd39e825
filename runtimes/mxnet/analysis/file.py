"""Converts the JSON that `Symbol.tojson` writes for the dataflow walk."""

import ast
import json
from typing import Any, Dict, List, Sequence, Tuple

from runtimes.dataflow.graph import Graph, Model, Node, Tensor

# Operators whose second input is the label, which matters to gradients only.
_LOSSES = (
    "SoftmaxOutput", "LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput", "SVMOutput"
)  # fmt: skip


def of_json(text: str, shapes: Dict[str, Sequence[int]], inputs: Sequence[str]) -> Model:
    """Convert a symbol. Raises ValueError if it is not one.

    shapes  shapes of the parameters. A variable that is neither a parameter nor an input is a label
    """
    symbol = json.loads(text)
    ends, nodes = symbol["node_row_ptr"], symbol["nodes"]
    names = []  # type: List[List[str]]
    graph = Graph([], [], [(name, None) for name in inputs], [])
    for index, node in enumerate(nodes):
        if node["op"] == "null":
            names.append([node["name"]])
            continue
        names.append(["%d:%d" % (index, output) for output in range(ends[index + 1] - ends[index])])
        sources = [names[each[0]][each[1]] for each in node["inputs"]]
        # The key's name depends on the version of MXNet that wrote the file.
        texts = node.get("attrs") or node.get("attr") or node.get("param") or {}
        attributes = {key: _parsed(value) for key, value in texts.items()}
        graph.nodes.append(Node(node["op"], "", node["name"], sources, names[-1], attributes))
    graph.constants.extend(Tensor(name, tuple(shape), None) for name, shape in shapes.items())
    graph.outputs.extend(names[each[0]][each[1]] for each in symbol["heads"])
    return Model(graph, {}, {})


def labels(text: str, known: Sequence[str]) -> List[str]:
    """Return the names of the variables that are not in `known`."""
    return [node["name"] for node in json.loads(text)["nodes"] if node["op"] == "null" and node["name"] not in known]


def label_names(text: str) -> List[str]:
    """Return the variables that are labels for training: by their names, or because only losses read them, as such."""
    nodes = json.loads(text)["nodes"]
    elsewhere, as_labels = set(), set()
    for node in nodes:
        for position, (source, *_) in enumerate(node["inputs"]):
            (as_labels if node["op"] in _LOSSES and position == 1 else elsewhere).add(source)
    return [
        node["name"]
        for index, node in enumerate(nodes)
        if node["op"] == "null" and (node["name"].endswith("_label") or index in as_labels - elsewhere)
    ]


def _parsed(text: str) -> Any:
    """Parse an attribute. They are Python literals ("(0, -1)", "True"), except words, which are not quoted ("NCHW")."""
    if text.lower() in ("true", "false"):  # MXNet's interfaces for other languages write them in lower case
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def numbers(value: Any) -> Tuple[int, ...]:
    """Return a shape or axes as a tuple. A single number is written without parentheses."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (tuple, list)) else (int(value),)
