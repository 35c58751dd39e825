"""Converts the subgraphs of a .tflite file for the dataflow walk."""

import inspect
from functools import lru_cache
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from runtimes.dataflow.graph import Graph, Node, Tensor
from runtimes.dataflow.values import MAX_CONTENTS

CODES = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
CUSTOM = "custom"  # the domain of custom operators
# Attributes that are added to an operator's options.
TYPE = "type"  # datatype of its first output
SHAPE = "shape"  # sizes of its first output in the file; None if some are dynamic
LIMITS = "limits"  # of QUANTIZE: the smallest and the largest float that its output can represent
WIDTH = "width"  # of GATHER_ND: the number of coordinates in its second input
_OPTIONS = {number: name for name, number in vars(schema.BuiltinOptions).items() if not name.startswith("_")}
_OPTIONS_2 = {number: name for name, number in vars(schema.BuiltinOptions2).items() if not name.startswith("_")}
_DTYPES = {
    schema.TensorType.INT32: "<i4",
    schema.TensorType.INT64: "<i8",
    schema.TensorType.FLOAT32: "<f4",
    schema.TensorType.BOOL: "?",
}
_STORED = {schema.TensorType.INT8: np.int8, schema.TensorType.UINT8: np.uint8, schema.TensorType.INT16: np.int16}
# Real models nest a few levels. In a hostile file, subgraphs can run each other in a cycle.
_MAX_DEPTH = 20


class TooDeep(ValueError):
    """Subgraphs run each other in a cycle, or are nested too deeply."""


def kind_of(code: Any) -> int:
    """Return an operator's code. Old files only have the deprecated field, which cannot exceed 127."""
    return max(code.DeprecatedBuiltinCode(), code.BuiltinCode())


def options_of(operator: Any) -> Dict[str, Any]:
    """Return an operator's options by their names in the schema, in camel case."""
    found = {}
    for name, table in [
        (_OPTIONS.get(operator.BuiltinOptionsType()), operator.BuiltinOptions()),
        (_OPTIONS_2.get(operator.BuiltinOptions2Type()), operator.BuiltinOptions2()),
    ]:
        kind = getattr(schema, name or "", None)
        if table is None or kind is None:
            continue
        options = kind()
        options.Init(table.Bytes, table.Pos)
        single, several = _fields(kind)
        found.update({field: getattr(options, field)() for field in single})
        for field in several:
            found[field] = [getattr(options, field)(index) for index in range(getattr(options, field + "Length")())]
    return found


@lru_cache(maxsize=None)
def _fields(kind: Any) -> Tuple[List[str], List[str]]:
    """Return the names of the scalar fields and of the vectors of numbers."""
    names = [name for name in dir(kind) if name[0].isupper() and inspect.isfunction(vars(kind)[name])]
    vectors = [name for name in names if name + "AsNumpy" in names]
    helpers = {name + end for name in vectors for end in ("", "AsNumpy", "IsNone", "Length")}
    single = [name for name in names if vars(kind)[name].__code__.co_argcount == 1]
    return [name for name in single if name not in helpers], vectors


class Reader:
    """Reads the subgraphs of one file, each only once."""

    def __init__(self, content: bytes) -> None:
        self._model = schema.Model.GetRootAs(content)
        self._graphs: Dict[int, Graph] = {}

    def graph(self, number: int, outputs: Optional[Sequence[int]] = None, depth: int = 0) -> Graph:
        """Read a subgraph. Raises TooDeep.

        outputs  indices of tensors to use as its outputs instead of its own
        """
        if depth > _MAX_DEPTH:
            raise TooDeep("subgraphs are nested more than %d levels deep" % _MAX_DEPTH)
        if number not in self._graphs:
            self._graphs[number] = self._read(self._model.Subgraphs(number), depth)
        graph = self._graphs[number]
        return graph if outputs is None else graph._replace(outputs=[_name(each) for each in outputs])

    def _read(self, graph: Any, depth: int) -> Graph:
        nodes = [self._node(graph, graph.Operators(index), depth) for index in range(graph.OperatorsLength())]
        inputs = [_name(graph.Inputs(index)) for index in range(graph.InputsLength())]
        made = {name for node in nodes for name in node.outputs}.union(inputs)
        readers: Dict[str, int] = {}
        for node in nodes:
            for name in node.inputs:
                readers[name] = readers.get(name, 0) + 1
        constants = []
        for index in range(graph.TensorsLength()):
            name = _name(index)
            tensor = None if name in made else self._constant(name, graph.Tensors(index), readers.get(name, 0))
            if tensor is not None:
                constants.append(tensor)
        outputs = [_name(graph.Outputs(index)) for index in range(graph.OutputsLength())]
        return Graph(nodes, constants, [(name, None) for name in inputs], outputs)

    def _node(self, graph: Any, operator: Any, depth: int) -> Node:
        code = self._model.OperatorCodes(operator.OpcodeIndex())
        kind = CODES.get(kind_of(code), str(kind_of(code)))
        custom = kind == "CUSTOM"
        if custom:
            kind = (code.CustomCode() or b"").decode("utf-8", "replace")
        inputs = [_name(operator.Inputs(index)) for index in range(operator.InputsLength())]
        outputs = [operator.Outputs(index) for index in range(operator.OutputsLength())]
        attributes = {} if custom else options_of(operator)
        if kind != "CALL_ONCE":  # which runs when the model is initialized
            for name in [name for name in attributes if name.endswith("SubgraphIndex") or name == "Subgraph"]:
                if 0 <= attributes[name] < self._model.SubgraphsLength():
                    attributes[name] = self.graph(attributes[name], None, depth + 1)
        label = ""
        if outputs and 0 <= outputs[0] < graph.TensorsLength():
            attributes[TYPE] = graph.Tensors(outputs[0]).Type()
            attributes[SHAPE] = _fixed(graph.Tensors(outputs[0]))
            if kind == "QUANTIZE":
                attributes[LIMITS] = _limits(graph.Tensors(int(inputs[0])), graph.Tensors(outputs[0]))
            elif kind == "GATHER_ND":
                attributes[WIDTH] = _width(graph.Tensors(int(inputs[1])))
            label = (graph.Tensors(outputs[0]).Name() or b"").decode("utf-8", "replace")
        return Node(kind, CUSTOM if custom else "", label, inputs, [_name(each) for each in outputs], attributes)

    def _constant(self, name: str, tensor: Any, readers: int) -> Optional[Tensor]:
        """Return a constant tensor; None for one that has no contents in the file."""
        dims = tuple(int(tensor.Shape(index)) for index in range(tensor.ShapeLength()))
        if tensor.IsVariable():
            # Zeros at the beginning of a run. If several operators share it, later ones see what earlier ones wrote.
            return Tensor(name, dims, None) if readers == 1 else None
        buffer = self._model.Buffers(tensor.Buffer()) if tensor.Buffer() < self._model.BuffersLength() else None
        count = 1
        for size in dims:
            count *= size
        elsewhere = buffer is not None and buffer.Size() > 1
        if buffer is None or (not buffer.DataLength() and not elsewhere and count):
            return None
        dtype = _DTYPES.get(tensor.Type())
        quantization = tensor.Quantization()
        plain = tensor.Sparsity() is None and (quantization is None or not quantization.ScaleLength())
        if dtype is None or not plain or elsewhere or not 0 <= count <= MAX_CONTENTS:
            return Tensor(name, dims, None)
        raw = buffer.DataAsNumpy().tobytes() if buffer.DataLength() else b""
        fits = len(raw) == count * np.dtype(dtype).itemsize
        return Tensor(name, dims, np.frombuffer(raw, dtype).tolist() if fits else None)


def _fixed(tensor: Any) -> Optional[List[int]]:
    open_ones = tensor.ShapeSignatureLength() or not (tensor.ShapeLength() or tensor.HasRank())
    return None if open_ones else [int(tensor.Shape(index)) for index in range(tensor.ShapeLength())]


def _width(tensor: Any) -> Optional[int]:
    """Return the tensor's last size, or None if it is dynamic."""
    size = tensor.ShapeSignature if tensor.ShapeSignatureLength() else tensor.Shape
    found = int(size(tensor.ShapeLength() - 1)) if tensor.ShapeLength() else -1
    return found if found >= 0 else None


def _limits(before: Any, after: Any) -> Optional[Tuple[float, float]]:
    """Return the range that a quantization can represent; None if its input is not FP32, or it has several scales."""
    stored, how = _STORED.get(after.Type()), after.Quantization()
    if before.Type() != schema.TensorType.FLOAT32 or stored is None or how is None or how.ScaleLength() != 1:
        return None
    ends, zero = np.iinfo(stored), int(how.ZeroPoint(0)) if how.ZeroPointLength() else 0
    low, high = ((int(end) - zero) * float(how.Scale(0)) for end in (ends.min, ends.max))
    return low, high


def _name(number: int) -> str:
    """Return the name of a tensor in the graph; "" for an optional input that is absent."""
    return "" if number < 0 else str(number)
