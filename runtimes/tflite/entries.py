"""What a .tflite file says of itself: read from its schema, since the interpreter tells less.

LiteRT gives bfloat16 as UINT16 and packed int4 as INT8, and says of a tensor of unknown rank that
it is a scalar. So this goes by the file; LiteRT has verified the buffer before.
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
}
_TYPE_NAMES = {number: name for name, number in vars(schema.TensorType).items() if not name.startswith("_")}

DEFAULT = "serving_default"  # what converters call the one signature of most files
UNSIGNED = "default"  # what the signature of a file without one is called here


class Entry(NamedTuple):
    """A signature as the file has it: `inputs` and `outputs` are names → the numbers of tensors in `subgraph`.

    `problem` is why it cannot be served, in words; else empty.
    """

    subgraph: int
    inputs: Dict[str, int]
    outputs: Dict[str, int]
    signature: Signature
    problem: str


class Contents(NamedTuple):
    """`entries` by name, the default first; `flex`, TensorFlow's own operators; whether tensors keep a state."""

    entries: Dict[str, Entry]
    flex: List[str]
    has_state: bool


def read(content: bytes) -> Contents:
    """Raises anything for a file that is not what its schema says."""
    model = schema.Model.GetRootAs(content)
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    custom = [model.OperatorCodes(index).CustomCode() for index in range(model.OperatorCodesLength())]
    flex = sorted({_text(code) for code in custom if code and code.startswith(b"Flex")})
    has_state = any(graph.Tensors(index).IsVariable() for graph in graphs for index in range(graph.TensorsLength()))
    return Contents(_entries(model, graphs), flex, has_state)


def _entries(model: Any, graphs: Sequence[Any]) -> Dict[str, Entry]:
    found = {}
    for index in range(model.SignatureDefsLength()):
        told = model.SignatureDefs(index)
        maps = [told.Inputs(number) for number in range(told.InputsLength())]
        inputs = {_text(each.Name()): each.TensorIndex() for each in maps}
        maps = [told.Outputs(number) for number in range(told.OutputsLength())]
        outputs = {_text(each.Name()): each.TensorIndex() for each in maps}
        number = told.SubgraphIndex()
        found[_text(told.SignatureKey())] = _entry(graphs[number], number, inputs, outputs)
    if not found:
        graph = graphs[0]
        numbers = [graph.Inputs(index) for index in range(graph.InputsLength())]
        inputs = _named(graph, numbers, "INPUT__%d")
        numbers = [graph.Outputs(index) for index in range(graph.OutputsLength())]
        found[UNSIGNED] = _entry(graph, 0, inputs, _named(graph, numbers, "OUTPUT__%d"))
    return {name: found[name] for name in sorted(found, key=lambda name: (name != DEFAULT, name))}


def _named(graph: Any, numbers: Sequence[int], otherwise: str) -> Dict[str, int]:
    """Tensors by their own names; by position where a name is missing or not the only one of its kind."""
    names = [_text(_tensor(graph, number).Name()) for number in numbers]
    return {
        name if name and names.count(name) == 1 else otherwise % position: number
        for position, (name, number) in enumerate(zip(names, numbers))
    }


def _entry(graph: Any, subgraph: int, inputs: Dict[str, int], outputs: Dict[str, int]) -> Entry:
    taken, refused_inputs = _specs(graph, inputs)
    given, refused = _specs(graph, outputs)
    problem = "" if given else "it has no output that is a tensor which can be served"
    for name, reason in refused_inputs.items():
        problem = "input '%s' cannot be served: %s" % (name, reason)
    return Entry(subgraph, inputs, outputs, Signature(taken, given, refused), problem)


def _specs(graph: Any, tensors: Dict[str, int]) -> Tuple[Tuple[TensorSpec, ...], Dict[str, str]]:
    """What the protocol has among these, and why not the others."""
    specs, refused = [], {}
    for name, number in tensors.items():
        tensor = _tensor(graph, number)
        datatype = _DATATYPES.get(tensor.Type())
        if datatype is None:
            refused[name] = "it is %s, which the protocol lacks" % _TYPE_NAMES.get(tensor.Type(), "of an unknown type")
            continue
        # A shape signature is there only where some size is open.
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
