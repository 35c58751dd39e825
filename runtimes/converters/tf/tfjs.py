"""Converts a SavedModel to a TensorFlow.js graph model."""

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
# TensorFlow.js has no other numbers than float32 and int32.
_DATATYPES = {"FP32": "DT_FLOAT", "FP64": "DT_FLOAT", "FP16": "DT_FLOAT", "BOOL": "DT_BOOL"}


def savedmodel_to_tfjs(step: Step) -> None:
    """options: quantize ("", "float16", "dynamic": weights in 8 bits).

    The signature, whose names TensorFlow.js uses for its inputs and outputs, has the served model's names.
    """
    with tempfile.TemporaryDirectory(dir=os.path.dirname(step.destination)) as folder:
        save_plain(step, folder)
        try:
            _convert()(
                folder,
                step.destination,
                quantization_dtype_map=_WEIGHTS.get(step.options.get("quantize", "")),
                control_flow_v2=True,  # TensorFlow 1's control flow does not support dynamic lengths, as in LSTMs
                strip_debug_ops=True,
            )
        except ValueError as error:
            if "_GrapplerSpecializedFunc" not in str(error):
                raise
            raise Refused(
                "TensorFlow specializes functions of this model, as in convolutional networks in FP16, in a way that "
                "TensorFlow.js's converter cannot read: export it to onnx, which runs in browsers, too"
            ) from error
    path = os.path.join(step.destination, "model.json")
    with open(path) as file:
        model = json.load(file)
    signature = model["signature"]
    for kind, specs in (("inputs", step.inputs), ("outputs", step.outputs)):
        # The converter matches names by shape, which is ambiguous if two shapes are equal. The nodes' names contain
        # the position.
        entries = {_position(entry["name"]): entry for entry in signature[kind].values()}
        lost = [spec.name for position, spec in enumerate(specs) if position not in entries]
        if lost:
            raise Refused("the converter removed '%s' from the model" % "', '".join(lost))
        signature[kind] = {
            spec.name: dict(entries[position], dtype=_DATATYPES.get(spec.datatype, "DT_INT32"))
            for position, spec in enumerate(specs)
        }
    unfuse(model)
    with open(path, "w") as file:
        json.dump(model, file)


def _position(node: str) -> int:
    """Return the position in a node's name: 2 for input_002:0 and Identity_2:0, 0 for Identity:0."""
    digits = re.search(r"_([0-9]+)(:0)?$", node)
    return int(digits[1]) if digits else 0


def _convert() -> Any:
    import tensorflow_hub  # noqa: F401
    import tf_keras  # noqa: F401

    # The converter imports these, but only uses them for other kinds of models.
    for name in ("tensorflow_decision_forests", "jax", "jax.experimental", "jax.experimental.jax2tf"):
        sys.modules.setdefault(name, types.ModuleType(name))
    from tensorflowjs.converters.tf_saved_model_conversion_v2 import convert_tf_saved_model

    return convert_tf_saved_model
