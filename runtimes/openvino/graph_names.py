"""Names of the outputs of a frozen TensorFlow graph: those of the nodes that no other node reads.

OpenVINO leaves out operators that pass on their input, and names the output after what is before them.
"""

import os
from typing import Dict, Iterator, List, NamedTuple

from runtimes.protobuf import FileMessage, Malformed, fields

_NODE = 1  # of a GraphDef
_NAME, _OPERATOR, _INPUT = 1, 2, 3  # of a node


class _Node(NamedTuple):
    operator: str
    inputs: List[str]


def output_names(path: str) -> Dict[str, str]:
    """Return the names of outputs that OpenVINO names differently, by OpenVINO's, such as Softmax:0 → probabilities.

    Whatever cannot be read has no names; OpenVINO reports what is wrong with the file.
    """
    try:
        nodes = dict(_nodes(path))
    except (Malformed, UnicodeDecodeError):
        return {}
    read = {name for node in nodes.values() for name in node.inputs}
    names: Dict[str, str] = {}
    for name in nodes:
        source = _source(name, nodes)
        if name not in read and source != name:
            names[source] = names[source + ":0"] = name
    return names


def _source(name: str, nodes: Dict[str, _Node]) -> str:
    """Return the node whose result a node passes on, which may be itself."""
    seen = set()
    while name in nodes and nodes[name].operator == "Identity" and len(nodes[name].inputs) == 1 and name not in seen:
        seen.add(name)
        name = nodes[name].inputs[0]
    return name


def _nodes(path: str) -> Iterator:
    with open(path, "rb") as file:
        for number, _, node in fields(FileMessage(file, 0, os.path.getsize(path))):
            if number != _NODE:
                continue
            texts: Dict[int, List[str]] = {_NAME: [""], _OPERATOR: [""], _INPUT: []}
            for field, _, value in fields(node):
                if field in texts:
                    texts[field].append(bytes(value).decode())
            # "^name" only orders nodes, and "name:0" is the same as "name".
            inputs = [each[:-2] if each.endswith(":0") else each for each in texts[_INPUT] if each[:1] != "^"]
            yield texts[_NAME][-1], _Node(texts[_OPERATOR][-1], inputs)
