"""From a DL4J model's archive to an ONNX model that computes the same."""

from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import onnx
from onnx import helper

from runtimes.contract import LoadError
from runtimes.onnx.graph import IR, OPSET, TYPES, Graph

from . import layers, normalizers
from .archive import Archive
from .choices import NONE, Choices
from .configuration import Network, Node, network
from .context import TranslationContext, possible, shown
from .normalizers import Normalizers, Scaling
from .parameters import Parameters
from .registry import LAYERS, PREPROCESSORS, VERTICES, translate
from .settings import Settings
from .values import Value

assert layers  # importing it fills the registry
Shape = Tuple[int, ...]
# A small file can ask for any number; ONNX Runtime takes seconds for these.
_MAX_OPERATORS = 30_000


@np.errstate(all="ignore")  # what is no number in a file is none in DL4J
def translated(archive: Archive, declared: Mapping[str, Shape], choices: Choices = NONE) -> onnx.ModelProto:
    """
    declared  shapes of inputs with their rows, -1 for any, where the user knows more than the file
    Raises LoadError: for what is broken, and for what is not covered, by the layer's name and place.
    """
    given = Normalizers([], [])
    if archive.normalizer and choices.normalizer:
        given = normalizers.read(archive.normalizer)
    return _Translation(network(archive.configuration), archive.coefficients, given, choices).model(declared)


class _Translation:
    def __init__(self, given: Network, coefficients: np.ndarray, normalizers: Normalizers, choices: Choices) -> None:
        self._network, self._normalizers, self._choices = given, normalizers, choices
        self._parameters = Parameters(coefficients)
        self._graph = Graph([*given.inputs, *given.outputs])
        self._values: Dict[str, Value] = {}
        self._takes = _taken(given)
        self._inputs = frozenset(given.inputs)

    def model(self, declared: Mapping[str, Shape]) -> onnx.ModelProto:
        inputs = [self._input(place, name, declared.get(name)) for place, name in enumerate(self._network.inputs)]
        for node in self._network.nodes:
            self._values[node.name] = self._node(node)
            if len(self._graph.nodes) > _MAX_OPERATORS:
                raise LoadError("%s: up to it the network takes too many operators" % node.settings.where)
        self._parameters.end()
        outputs = [self._output(place, *each) for place, each in enumerate(self._network.outputs.items())]
        graph = helper.make_graph(self._graph.nodes, "dl4j", inputs, outputs, self._graph.initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="modelport")

    def _input(self, place: int, name: str, declared: Optional[Shape]) -> onnx.ValueInfoProto:
        sizes = declared[1:] if declared else self._takes.get(name)
        if sizes is None:
            raise LoadError(
                "the file does not tell the shape of the input '%.60s': declare it under [[inputs]] in model.toml"
                % name
            )
        scaling = normalizers.scaling_of(place, self._normalizers.inputs, self._normalizers.for_all)
        if scaling is not None and scaling.subtract.size > 1 and sizes[:1] == (-1,):
            sizes = (scaling.subtract.size, *sizes[1:])
        if not possible(sizes):
            raise LoadError("the input '%.60s' has rows of sizes %s" % (name, shown(sizes)))
        value = Value(name, sizes)
        info = self._info(value)
        value = value._replace(name=self._cast(name, self._parameters.dtype))
        self._values[name] = self._scaled(value, scaling, "input '%.60s'" % name)
        return info

    def _node(self, node: Node) -> Value:
        inputs = [self._values[name] for name in node.inputs]
        if node.preprocessor is not None:
            before = node.preprocessor
            inputs = [translate(self._context(before.kind, before.settings, inputs), PREPROCESSORS)]
        if node.kind == "DuplicateToTimeSeriesVertex":
            inputs = [*inputs, *self._named_input(node)]
        return translate(self._context(node.kind, node.settings, inputs), LAYERS if node.is_layer else VERTICES)

    def _named_input(self, node: Node) -> Sequence[Value]:
        name = node.settings.get("inputName")
        return [self._values[name]] if isinstance(name, str) and name in self._inputs else []

    def _context(self, kind: str, settings: Settings, inputs: List[Value]) -> TranslationContext:
        return TranslationContext(kind, settings, inputs, self._graph, self._parameters, self._choices)

    def _output(self, place: int, name: str, node: str) -> onnx.ValueInfoProto:
        value = self._values[node]
        if value.folds:
            raise LoadError(
                "output '%.60s' has rows of its own for each time step or stacked input, so that no row of it belongs "
                "to a row of the inputs, which is not covered" % name
            )
        scaling = normalizers.scaling_of(place, self._normalizers.outputs)
        value = self._scaled(value, scaling, "output '%.60s'" % name)
        given = self._cast(value.name, self._parameters.served)
        self._graph.nodes.append(helper.make_node("Identity", [given], [name], name))
        return self._info(value._replace(name=name))

    def _scaled(self, value: Value, scaling: Optional[Scaling], what: str) -> Value:
        if scaling is None:
            return value
        name, rank = value.name, len(value.sizes)
        if rank == 0:
            raise LoadError("normalizer.bin is for features, and the %s has none" % what)
        for op, array, idle in (
            ("Sub", scaling.subtract, 0),
            ("Div", scaling.divide, 1),
            ("Mul", scaling.multiply, 1),
            ("Add", scaling.add, 0),
        ):
            if array.size not in (1, value.sizes[0] if value.sizes[0] >= 0 else array.size):
                raise LoadError("normalizer.bin has %d values for the %s with %d" % (array.size, what, value.sizes[0]))
            shaped = array.reshape(-1, *[1] * (rank - 1)).astype(self._parameters.dtype)
            if not np.isfinite(shaped).all() or (op == "Div" and not shaped.all()):
                raise LoadError("normalizer.bin holds numbers for the %s that no data has" % what)
            if (array != idle).any():
                name = self._graph.emit(op, [name, self._graph.constant(shaped, "normalizer")], "normalizer")
        return value._replace(name=name)

    def _cast(self, name: str, dtype: np.dtype) -> str:
        """Between the served datatype and that of computation."""
        if self._parameters.served == self._parameters.dtype:
            return name
        return self._graph.emit("Cast", [name], "cast", to=TYPES[dtype])

    def _info(self, value: Value) -> onnx.ValueInfoProto:
        sizes = ["%s_%d" % (value.name, place) if size < 0 else size for place, size in enumerate(value.sizes, 1)]
        return helper.make_tensor_value_info(value.name, TYPES[self._parameters.served], ["N", *sizes])


def _taken(given: Network) -> Dict[str, Optional[Shape]]:
    """What is taken of each input and node, by the first of its readers that tells: sizes after the rows."""
    taken: Dict[str, Optional[Shape]] = {}
    for node in reversed(given.nodes):
        table, found = LAYERS if node.is_layer else VERTICES, taken.get(node.name)
        found = table[node.kind].takes(node.settings, found) if node.kind in table else None
        if node.preprocessor is not None:
            before = PREPROCESSORS.get(node.preprocessor.kind)
            found = before.takes(node.preprocessor.settings, found) if before else None
        for name in node.inputs:
            # In the end the first reader's holds: the nodes are gone through from behind.
            taken[name] = found or taken.get(name)
    return taken
