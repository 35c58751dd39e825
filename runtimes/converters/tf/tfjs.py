"""From a SavedModel to a graph model of TensorFlow.js."""

import base64
import json
import os
import re
import sys
import tempfile
import types
from typing import Any, Dict, List

from modelport_converter.from_savedmodel import save_plain

from runtimes.conversion import Refused, Step

_WEIGHTS = {"float16": {"float16": True}, "dynamic": {"uint8": True}}
# The only numbers that TensorFlow.js has.
_DATATYPES = {"FP32": "DT_FLOAT", "FP64": "DT_FLOAT", "FP16": "DT_FLOAT", "BOOL": "DT_BOOL"}


def savedmodel_to_tfjs(step: Step) -> None:
    """options: quantize ("", "float16", "dynamic": weights in 8 bits).

    The served model's names are the signature's, by which TensorFlow.js takes and gives tensors.
    """
    with tempfile.TemporaryDirectory(dir=os.path.dirname(step.destination)) as folder:
        save_plain(step, folder)
        _convert()(
            folder,
            step.destination,
            quantization_dtype_map=_WEIGHTS.get(step.options.get("quantize", "")),
            control_flow_v2=True,  # the other form has no dynamic lengths: LSTMs
            strip_debug_ops=True,
        )
    path = os.path.join(step.destination, "model.json")
    with open(path) as file:
        model = json.load(file)
    signature = model["signature"]
    for kind, specs in (("inputs", step.inputs), ("outputs", step.outputs)):
        # The converter finds names by shape, which two may share; the nodes tell the places.
        told = {_place(entry["name"]): entry for entry in signature[kind].values()}
        lost = [spec.name for place, spec in enumerate(specs) if place not in told]
        if lost:
            raise Refused("the converter removed '%s' from the model" % "', '".join(lost))
        signature[kind] = {
            spec.name: dict(told[place], dtype=_DATATYPES.get(spec.datatype, "DT_INT32"))
            for place, spec in enumerate(specs)
        }
    _avoid_fused_transpose(model["modelTopology"])
    with open(path, "w") as file:
        json.dump(model, file)


def _place(node: str) -> int:
    """input_002:0 and Identity_2:0 are the third, Identity:0 is the first."""
    digits = re.search(r"_([0-9]+)(:0)?$", node)
    return int(digits[1]) if digits else 0


def _convert() -> Any:
    import tensorflow_hub  # noqa: F401
    import tf_keras  # noqa: F401

    # Imported by the converter, and used only for models that are none of ours.
    for name in ("tensorflow_decision_forests", "jax", "jax.experimental", "jax.experimental.jax2tf"):
        sys.modules.setdefault(name, types.ModuleType(name))
    from tensorflowjs.converters.tf_saved_model_conversion_v2 import convert_tf_saved_model

    return convert_tf_saved_model


def _avoid_fused_transpose(topology: Dict[str, Any]) -> None:
    """tfjs-backend-wasm 4.22.0 computes a fused product wrongly whose second matrix is transposed: unfuse these."""
    functions = [function["nodeDef"] for function in topology.get("library", {}).get("function", ())]
    for nodes in (topology["node"], *functions):
        nodes[:] = [made for node in nodes for made in (_unfused(node) if _is_wrong(node) else [node])]


def _is_wrong(node: Dict[str, Any]) -> bool:
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
