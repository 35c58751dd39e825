"""tfjs-backend-wasm 4.22.0 computes a fused product wrongly whose second matrix is transposed: it is taken apart."""

import base64
from typing import Any, Dict, List

from runtimes.conversion import Refused


def unfuse(topology: Dict[str, Any]) -> None:
    """Change the graph in place. Raises Refused."""
    functions = [function["nodeDef"] for function in topology.get("library", {}).get("function", ())]
    for nodes in (topology["node"], *functions):
        nodes[:] = [made for node in nodes for made in (_unfused(node) if is_wrong(node) else [node])]


def is_wrong(node: Dict[str, Any]) -> bool:
    return node["op"] == "_FusedMatMul" and node["attr"].get("transpose_b", {}).get("b", False)


def _unfused(node: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The product, and what was fused with it, the last of them by the node's own name."""
    attributes, inputs = node["attr"], list(node["input"])
    kind = {"T": attributes["T"]}
    fused = [base64.b64decode(each).decode() for each in attributes["fused_ops"]["list"]["s"]]
    parts = [
        _node("MatMul", inputs[:2], dict(kind, **{key: attributes[key] for key in ("transpose_a", "transpose_b")}))
    ]
    for operator in fused:
        extra = dict(kind)
        given = [inputs[2]] if operator == "BiasAdd" else []
        if operator == "LeakyRelu":
            extra["alpha"] = attributes["leakyrelu_alpha"]
        elif operator not in ("BiasAdd", "Relu", "Relu6", "Elu", "Sigmoid", "Tanh"):
            raise Refused("the model has a product fused with %s, which TensorFlow.js computes wrongly" % operator)
        parts.append(_node(operator, given, extra))
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        part["name"] = node["name"] if last else "%s/unfused_%d" % (node["name"], place)
        if place:
            part["input"].insert(0, parts[place - 1]["name"])
    return parts


def _node(operator: str, inputs: List[str], attributes: Dict[str, Any]) -> Dict[str, Any]:
    return {"name": "", "op": operator, "input": inputs, "attr": attributes}
