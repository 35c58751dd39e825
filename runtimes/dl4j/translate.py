"""Translates the archive of a DL4J model to an ONNX model that computes the same."""

from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx
from onnx import helper

from runtimes.contract import LoadError
from runtimes.onnx.builder import IR, OPSET, TYPES, Graph

from . import layers, normalizers
from .archive import Archive
from .choices import NONE, Choices
from .configuration import Network, Node, network
from .context import TranslationContext, format_sizes, is_possible
from .normalizers import Normalizers, Scaling
from .parameters import Parameters
from .registry import LAYERS, PREPROCESSORS, VERTICES, translate
from .settings import Settings
from .values import Value

assert layers  # importing it fills the registry
Shape = Tuple[int, ...]
# A small file can request any number of operators. ONNX Runtime needs seconds to load this many.
_MAX_OPERATORS = 30_000
# Of a message that lists what is not covered.
_MAX_LISTED = 400


@np.errstate(all="ignore")  # DL4J computes with NaN and infinite parameters without a warning
def translate_archive(archive: Archive, declared: Mapping[str, Shape], choices: Choices = NONE) -> onnx.ModelProto:
    """Translate an archive.

    declared  shapes of inputs, rows included, -1 for any size: what the user declared in addition to the file
    Raises LoadError, with the layer's name and position, if the file is broken or a layer is not covered.
    """
    scalings = Normalizers([], [])
    if archive.normalizer and choices.normalizer:
        scalings = normalizers.read(archive.normalizer)
    found = network(archive.configuration)
    _check_covered(found)
    return _Translation(found, archive.coefficients, scalings, choices).model(declared)


def _check_covered(network: Network) -> None:
    """Raises LoadError with all layers, vertices and preprocessors that are not covered."""
    missing: Dict[str, None] = {}
    for node in network.nodes:
        if node.kind not in (LAYERS if node.is_layer else VERTICES):
            missing["%s: %.120s is not covered" % (node.settings.where, node.kind)] = None
        if node.preprocessor is not None and node.preprocessor.kind not in PREPROCESSORS:
            missing["%s: it is not covered" % node.preprocessor.settings.where] = None
    if missing:
        first, *others = missing
        listed = [first]
        for each in others:
            if sum(map(len, listed)) + len(each) > _MAX_LISTED:
                listed.append("and %d more" % (len(missing) - len(listed)))
                break
            listed.append(each)
        raise LoadError("; ".join(listed))


class _Translation:
    def __init__(self, network: Network, coefficients: np.ndarray, normalizers: Normalizers, choices: Choices) -> None:
        self._network, self._normalizers, self._choices = network, normalizers, choices
        self._parameters = Parameters(coefficients)
        self._graph = Graph([*network.inputs, *network.outputs])
        self._values: Dict[str, Value] = {}
        self._inferred = _infer_shapes(network)
        self._inputs = frozenset(network.inputs)

    def model(self, declared: Mapping[str, Shape]) -> onnx.ModelProto:
        inputs = [self._input(index, name, declared.get(name)) for index, name in enumerate(self._network.inputs)]
        for node in self._network.nodes:
            self._values[node.name] = self._node(node)
            if len(self._graph.nodes) > _MAX_OPERATORS:
                raise LoadError("%s: the network up to here needs too many operators" % node.settings.where)
        self._parameters.end()
        outputs = [self._output(index, *each) for index, each in enumerate(self._network.outputs.items())]
        graph = helper.make_graph(self._graph.nodes, "dl4j", inputs, outputs, self._graph.initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="modelport")

    def _input(self, index: int, name: str, declared: Optional[Shape]) -> onnx.ValueInfoProto:
        sizes = declared[1:] if declared else self._inferred.get(name)
        if sizes is None:
            raise LoadError(
                "the file does not determine the shape of the input '%.60s': declare it under [[inputs]] in model.toml"
                % name
            )
        scaling = normalizers.scaling_of(index, self._normalizers.inputs, self._normalizers.for_all)
        if scaling is not None and scaling.subtract.size > 1 and sizes[:1] == (-1,):
            sizes = (scaling.subtract.size, *sizes[1:])
        if not is_possible(sizes):
            raise LoadError("the input '%.60s' has rows of sizes %s" % (name, format_sizes(sizes)))
        value = Value(name, sizes)
        info = self._info(value)
        value = value._replace(name=self._cast(name, self._parameters.dtype))
        self._values[name] = self._scaled(value, scaling, "input '%.60s'" % name)
        return info

    def _node(self, node: Node) -> Value:
        inputs = [self._values[name] for name in node.inputs]
        if node.preprocessor is not None:
            first = node.preprocessor
            inputs = [translate(self._context(first.kind, first.settings, inputs), PREPROCESSORS)]
        if node.kind == "DuplicateToTimeSeriesVertex":
            inputs = [*inputs, *self._named_input(node)]
        return translate(self._context(node.kind, node.settings, inputs), LAYERS if node.is_layer else VERTICES)

    def _named_input(self, node: Node) -> Sequence[Value]:
        name = node.settings.get("inputName")
        return [self._values[name]] if isinstance(name, str) and name in self._inputs else []

    def _context(self, kind: str, settings: Settings, inputs: List[Value]) -> TranslationContext:
        return TranslationContext(kind, settings, inputs, self._graph, self._parameters, self._choices)

    def _output(self, index: int, name: str, node: str) -> onnx.ValueInfoProto:
        value = self._values[node]
        if value.folds:
            raise LoadError(
                "output '%.60s' has one row per time step or stacked input, which do not correspond to the rows of "
                "the inputs; this is not covered" % name
            )
        scaling = normalizers.scaling_of(index, self._normalizers.outputs)
        value = self._scaled(value, scaling, "output '%.60s'" % name)
        tensor = self._cast(value.name, self._parameters.served)
        self._graph.nodes.append(helper.make_node("Identity", [tensor], [name], name))
        return self._info(value._replace(name=name))

    def _scaled(self, value: Value, scaling: Optional[Scaling], what: str) -> Value:
        if scaling is None:
            return value
        name, rank = value.name, len(value.sizes)
        if rank == 0:
            raise LoadError("normalizer.bin is for features, and the %s has none" % what)
        for op, array, neutral in (
            ("Sub", scaling.subtract, 0),
            ("Div", scaling.divide, 1),
            ("Mul", scaling.multiply, 1),
            ("Add", scaling.add, 0),
        ):
            if array.size not in (1, value.sizes[0] if value.sizes[0] >= 0 else array.size):
                raise LoadError("normalizer.bin has %d values for the %s with %d" % (array.size, what, value.sizes[0]))
            shaped = array.reshape(-1, *[1] * (rank - 1)).astype(self._parameters.dtype)
            if not np.isfinite(shaped).all() or (op == "Div" and not shaped.all()):
                raise LoadError("normalizer.bin has numbers for the %s that are not finite, or divide by zero" % what)
            if (array != neutral).any():
                name = self._graph.emit(op, [name, self._graph.constant(shaped, "normalizer")], "normalizer")
        return value._replace(name=name)

    def _cast(self, name: str, dtype: np.dtype) -> str:
        """Convert between the served datatype and that of the computation, if they differ."""
        if self._parameters.served == self._parameters.dtype:
            return name
        return self._graph.emit("Cast", [name], "cast", to=TYPES[dtype])

    def _info(self, value: Value) -> onnx.ValueInfoProto:
        sizes = ["%s_%d" % (value.name, axis) if size < 0 else size for axis, size in enumerate(value.sizes, 1)]
        return helper.make_tensor_value_info(value.name, TYPES[self._parameters.served], ["N", *sizes])


def _infer_shapes(network: Network) -> Dict[str, Optional[Shape]]:
    """Infer, from the last node to the first, the shape (without the rows) that each input and node must have."""
    shapes: Dict[str, Optional[Shape]] = {}
    for node in reversed(network.nodes):
        table, shape = LAYERS if node.is_layer else VERTICES, shapes.get(node.name)
        shape = table[node.kind].infer_input(node.settings, shape) if node.kind in table else None
        if node.preprocessor is not None:
            first = PREPROCESSORS.get(node.preprocessor.kind)
            shape = first.infer_input(node.preprocessor.settings, shape) if first else None
        for name in node.inputs:
            # If several readers determine a shape, the first one wins: it is visited last.
            shapes[name] = shape or shapes.get(name)
    return shapes
