"""Splits fused matrix products that tfjs-backend-wasm 4.22.0 does not compute correctly.

If the second matrix is transposed, it computes a different product, and it refuses a bias with several dimensions.
"""

import base64
from typing import Any, Dict, List, Set

from runtimes.conversion import Refused


def unfuse(model: Dict[str, Any]) -> None:
    """Change a model.json in place. Raises Refused."""
    topology, vectors = model["modelTopology"], one_dimensional(model)
    functions = [function["nodeDef"] for function in topology.get("library", {}).get("function", ())]
    for nodes in (topology["node"], *functions):
        nodes[:] = [made for node in nodes for made in (_unfused(node) if is_wrong(node, vectors) else [node])]


def one_dimensional(model: Dict[str, Any]) -> Set[str]:
    """Return the names of the weights with one dimension."""
    groups = model["weightsManifest"]
    return {each["name"] for group in groups for each in group["weights"] if len(each["shape"]) == 1}


def is_wrong(node: Dict[str, Any], vectors: Set[str]) -> bool:
    if node["op"] != "_FusedMatMul":
        return False
    biased = int(node["attr"]["num_args"]["i"]) > 0
    return bool(node["attr"]["transpose_b"]["b"]) or (biased and node["input"][2] not in vectors)


def _unfused(node: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return the product and the operators fused with it as separate nodes. The last one keeps the node's name."""
    attributes, inputs = node["attr"], list(node["input"])
    kind = {"T": attributes["T"]}
    fused = [base64.b64decode(each).decode() for each in attributes["fused_ops"]["list"]["s"]]
    parts = [
        _node("MatMul", inputs[:2], dict(kind, **{key: attributes[key] for key in ("transpose_a", "transpose_b")}))
    ]
    for operator in fused:
        extra, others = dict(kind), []
        if operator == "BiasAdd":
            operator, others = "AddV2", [inputs[2]]
        elif operator == "LeakyRelu":
            extra["alpha"] = attributes["leakyrelu_alpha"]
        elif operator not in ("Relu", "Relu6", "Elu", "Sigmoid", "Tanh"):
            raise Refused("the model has a product fused with %s, which TensorFlow.js computes incorrectly" % operator)
        parts.append(_node(operator, others, extra))
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        part["name"] = node["name"] if last else "%s/unfused_%d" % (node["name"], index)
        if index:
            part["input"].insert(0, parts[index - 1]["name"])
    return parts


def _node(operator: str, inputs: List[str], attributes: Dict[str, Any]) -> Dict[str, Any]:
    return {"name": "", "op": operator, "input": inputs, "attr": attributes}
