"""Reads the signatures of a .tflite file with the generated code of its schema.

LiteRT's interpreter reports packed int4 as INT8, and a tensor of unknown rank as a scalar, so the file is read
directly. LiteRT has verified the buffer before.
"""

from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from ai_edge_litert import schema_py_generated as schema

from runtimes.contract import Signature, TensorSpec

_DATATYPES = {
    schema.TensorType.BOOL: "BOOL",
    schema.TensorType.UINT8: "UINT8",
    schema.TensorType.UINT16: "UINT16",
    schema.TensorType.UINT32: "UINT32",
    schema.TensorType.UINT64: "UINT64",
    schema.TensorType.INT8: "INT8",
    schema.TensorType.INT16: "INT16",
    schema.TensorType.INT32: "INT32",
    schema.TensorType.INT64: "INT64",
    schema.TensorType.FLOAT16: "FP16",
    schema.TensorType.FLOAT32: "FP32",
    schema.TensorType.FLOAT64: "FP64",
    schema.TensorType.STRING: "BYTES",
    schema.TensorType.BFLOAT16: "BF16",
    schema.TensorType.INT4: "INT4",
    schema.TensorType.UINT4: "UINT4",
}
# Our protocol has these, but LiteRT has no operator that reads or writes them.
_WITHOUT_OPERATORS = (schema.TensorType.FLOAT8_E4M3FN, schema.TensorType.FLOAT8_E5M2)
_LACKING = "which the protocol lacks"
_TYPE_NAMES = {number: name for name, number in vars(schema.TensorType).items() if not name.startswith("_")}

DEFAULT = "serving_default"  # the name that converters give to the only signature of most files
UNSIGNED = "default"  # the name of the signature here if the file has none


class Entry(NamedTuple):
    """A signature in the file.

    inputs   name → index of the tensor in `subgraph`
    outputs  likewise
    problem  why it cannot be served; "" if it can
    """

    subgraph: int
    inputs: Dict[str, int]
    outputs: Dict[str, int]
    signature: Signature
    problem: str


class Contents(NamedTuple):
    """
    entries    by name, the default first
    flex       names of the TensorFlow operators that the file uses
    has_state  whether tensors keep a state between runs
    """

    entries: Dict[str, Entry]
    flex: List[str]
    has_state: bool


def read(content: bytes) -> Contents:
    """Read a file. The generated code raises almost any exception if the file does not match its schema."""
    model = schema.Model.GetRootAs(content)
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    custom = [model.OperatorCodes(index).CustomCode() for index in range(model.OperatorCodesLength())]
    flex = sorted({_text(code) for code in custom if code and code.startswith(b"Flex")})
    has_state = any(graph.Tensors(index).IsVariable() for graph in graphs for index in range(graph.TensorsLength()))
    return Contents(_entries(model, graphs), flex, has_state)


def _entries(model: Any, graphs: Sequence[Any]) -> Dict[str, Entry]:
    found = {}
    for index in range(model.SignatureDefsLength()):
        definition = model.SignatureDefs(index)
        maps = [definition.Inputs(number) for number in range(definition.InputsLength())]
        inputs = {_text(each.Name()): each.TensorIndex() for each in maps}
        maps = [definition.Outputs(number) for number in range(definition.OutputsLength())]
        outputs = {_text(each.Name()): each.TensorIndex() for each in maps}
        number = definition.SubgraphIndex()
        found[_text(definition.SignatureKey())] = _entry(graphs[number], number, inputs, outputs)
    if not found:
        graph = graphs[0]
        numbers = [graph.Inputs(index) for index in range(graph.InputsLength())]
        inputs = _named(graph, numbers, "INPUT__%d")
        numbers = [graph.Outputs(index) for index in range(graph.OutputsLength())]
        found[UNSIGNED] = _entry(graph, 0, inputs, _named(graph, numbers, "OUTPUT__%d"))
    return {name: found[name] for name in sorted(found, key=lambda name: (name != DEFAULT, name))}


def _named(graph: Any, numbers: Sequence[int], fallback: str) -> Dict[str, int]:
    """Return tensors by name, or by position if a name is empty or not unique."""
    names = [_text(_tensor(graph, number).Name()) for number in numbers]
    return {
        name if name and names.count(name) == 1 else fallback % position: number
        for position, (name, number) in enumerate(zip(names, numbers))
    }


def _entry(graph: Any, subgraph: int, inputs: Dict[str, int], outputs: Dict[str, int]) -> Entry:
    input_specs, refused_inputs = _specs(graph, inputs)
    output_specs, refused = _specs(graph, outputs)
    problem = "" if output_specs else "it has no output that can be served"
    for name, reason in refused_inputs.items():
        problem = "input '%s' cannot be served: %s" % (name, reason)
    return Entry(subgraph, inputs, outputs, Signature(input_specs, output_specs, refused), problem)


def _specs(graph: Any, tensors: Dict[str, int]) -> Tuple[Tuple[TensorSpec, ...], Dict[str, str]]:
    """Return the tensors that can be served, and name → reason for the others."""
    specs, refused = [], {}
    for name, number in tensors.items():
        tensor = _tensor(graph, number)
        datatype = _DATATYPES.get(tensor.Type())
        if datatype is None:
            lacking = "for which LiteRT has no operators" if tensor.Type() in _WITHOUT_OPERATORS else _LACKING
            refused[name] = "it is %s, %s" % (_TYPE_NAMES.get(tensor.Type(), "of an unknown type"), lacking)
            continue
        # A tensor only has a shape signature if some size is dynamic.
        length, size = tensor.ShapeSignatureLength(), tensor.ShapeSignature
        if not length:
            length, size = tensor.ShapeLength(), tensor.Shape
        shape = tuple(max(int(size(index)), -1) for index in range(length))
        specs.append(TensorSpec(name, datatype, shape if shape or tensor.HasRank() else None))
    return tuple(specs), refused


def _tensor(graph: Any, number: int) -> Any:
    if not 0 <= number < graph.TensorsLength():
        raise IndexError("there is no tensor %d" % number)
    return graph.Tensors(number)


def _text(raw: Any) -> str:
    return (raw or b"").decode("utf-8", "replace")
