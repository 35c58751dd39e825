"""Reads the graph of an MXNet symbol for a profile.

Gluon joins the names of blocks with underscores, and ends each with a number, so a name is divided after these:
resnetv10_stage1_conv0_weight becomes resnetv10/stage1/conv0/weight.
"""

import json
import re
from typing import List

from runtimes.contract import Model
from runtimes.profiling import GraphNode, Names

from .runtime import MxnetModel

_BLOCK = re.compile(r"(?<=[0-9])_(?=[A-Za-z])")


def read_graph(model: Model, signature: str) -> List[GraphNode]:
    assert isinstance(model, MxnetModel)
    names, found = Names(), []  # type: Names, List[GraphNode]
    shapes, stored = model.shapes_inside(), model.stored()
    for node in json.loads(model.symbol.tojson())["nodes"]:
        operator = node["op"]
        if operator == "null":
            operator = "Const" if node["name"] in stored else "Placeholder"
        inputs = tuple(found[each[0]].name for each in node["inputs"])
        shape = (
            shapes.get(node["name"]) or shapes.get(node["name"] + "_output") or shapes.get(node["name"] + "_output0")
        )
        texts = node.get("attrs") or node.get("attr") or node.get("param") or {}
        found.append(GraphNode(names.unique(_BLOCK.sub("/", node["name"])), operator, inputs, shape, dict(texts)))
    return found
