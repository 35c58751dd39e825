"""What LiteRT.js takes of a .tflite: sizes that are not open, three datatypes, and not every operator."""

from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from runtimes.conversion import Refused, Step

# LiteRT.js 2.5.3: src/datatypes.ts, and what it was seen to fail on.
_DATATYPES = {schema.TensorType.FLOAT32, schema.TensorType.INT32, schema.TensorType.UINT8}
_REFUSED = {
    schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM: "a fused LSTM",
    schema.BuiltinOperator.BIDIRECTIONAL_SEQUENCE_LSTM: "a fused LSTM",
}


def fit_litertjs(step: Step) -> None:
    """The same model with a batch of one. Raises Refused for what LiteRT.js could not run."""
    model = flatbuffer_utils.read_model(step.source)
    for code in model.operatorCodes:
        if code.builtinCode in _REFUSED:
            raise Refused("the model has %s, which LiteRT.js lacks" % _REFUSED[code.builtinCode])
    graph = model.subgraphs[0]
    for kind, places in (("input", graph.inputs), ("output", graph.outputs)):
        for place in places:
            _check(kind, graph.tensors[place], step)
    for each in model.subgraphs:
        for tensor in each.tensors:
            tensor.shapeSignature = None
    flatbuffer_utils.write_model(model, step.destination)


def _check(kind: str, tensor: Any, step: Step) -> None:
    name = tensor.name.decode() if isinstance(tensor.name, bytes) else tensor.name
    if tensor.type not in _DATATYPES:
        told = {number: word for word, number in vars(schema.TensorType).items()}[tensor.type]
        raise Refused("%s '%s' is %s, and LiteRT.js takes FLOAT32, INT32 and UINT8 only" % (kind, name, told))
    has = [] if tensor.shape is None else list(tensor.shape)  # type: List[int]
    wanted = list(step.shapes.get(name, has))
    if kind == "input" and has != wanted:
        raise Refused("input '%s' has shape %s in the file, and LiteRT.js cannot make it %s" % (name, has, wanted))
