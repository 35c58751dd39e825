"""Adapts a .tflite to LiteRT.js, which supports only fixed sizes, three datatypes, and not every operator."""

from typing import Any, List

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from runtimes.conversion import Refused, Step

# Of LiteRT.js 2.5.3: the datatypes are those in src/datatypes.ts, and these operators were found to fail.
_DATATYPES = {schema.TensorType.FLOAT32, schema.TensorType.INT32, schema.TensorType.UINT8}
_UNSUPPORTED = {
    schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM: "a fused LSTM",
    schema.BuiltinOperator.BIDIRECTIONAL_SEQUENCE_LSTM: "a fused LSTM",
}


def fit_litertjs(step: Step) -> None:
    """Fix the sizes of the model to a batch of one. Raises Refused if LiteRT.js could not run it."""
    model = flatbuffer_utils.read_model(step.source)
    for code in model.operatorCodes:
        if code.builtinCode in _UNSUPPORTED:
            raise Refused("the model has %s, which LiteRT.js does not support" % _UNSUPPORTED[code.builtinCode])
    graph = model.subgraphs[0]
    for kind, indices in (("input", graph.inputs), ("output", graph.outputs)):
        for index in indices:
            _check(kind, graph.tensors[index], step)
    for each in model.subgraphs:
        for tensor in each.tensors:
            tensor.shapeSignature = None
    flatbuffer_utils.write_model(model, step.destination)


def _check(kind: str, tensor: Any, step: Step) -> None:
    name = tensor.name.decode() if isinstance(tensor.name, bytes) else tensor.name
    if tensor.type not in _DATATYPES:
        datatype = {number: word for word, number in vars(schema.TensorType).items()}[tensor.type]
        raise Refused("%s '%s' is %s; LiteRT.js supports only FLOAT32, INT32 and UINT8" % (kind, name, datatype))
    shape: List[int] = [] if tensor.shape is None else list(tensor.shape)
    served = list(step.shapes.get(name, shape))
    if kind == "input" and shape != served:
        raise Refused(
            "input '%s' has shape %s in the file, and LiteRT.js cannot resize it to %s" % (name, shape, served)
        )
