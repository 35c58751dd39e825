"""From a SavedModel to a graph model of TensorFlow.js."""

import json
import os
import re
import sys
import tempfile
import types
from typing import Any

from modelport_converter.from_savedmodel import save_plain
from modelport_converter.unfuse import unfuse

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
    unfuse(model)
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
