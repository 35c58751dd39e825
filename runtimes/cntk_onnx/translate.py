"""From a CNTK v2 model file's bytes to an ONNX model that computes the same."""

from typing import Dict, Hashable, List, Set, Tuple

import onnx
from onnx import helper

from runtimes.contract import LoadError
from runtimes.onnx.graph import IR, OPSET, TYPES, Graph

from . import dictionary
from .context import TranslationContext
from .functions import BATCH, Function, Network, Variable, distinct, network, owner
from .loops import Loop, translate_loop
from .ops import REGISTRY
from .order import in_order
from .protobuf import MAX_MESSAGE_LENGTH, broken, short
from .values import Value


def translate(data: bytes) -> onnx.ModelProto:
    """Raises LoadError: for what is no model file, and for what is not covered, by its name and place."""
    return translate_network(network(dictionary.read(data)))


def translate_network(given: Network) -> onnx.ModelProto:
    """The same, for what has been read. Raises LoadError."""
    return _Translation(given).model()


def serialized(model: onnx.ModelProto) -> bytes:
    """Raises LoadError for what is beyond ONNX's limit for one file."""
    try:
        return model.SerializeToString()
    except Exception as error:  # protobuf's, of several kinds
        raise LoadError(
            "the model is too large for one ONNX file (%s): serve it by CNTK itself" % type(error).__name__
        ) from None


class _Translation:
    def __init__(self, given: Network) -> None:
        self._network = given
        self._names = _names(given.arguments)
        reserved = [*self._names.values(), *(result.name for result in given.results)]
        self._graph = Graph(reserved)
        self._values: Dict[str, Value] = {}
        # A dynamic axis or a free dimension → what it is called: only what is of one size has one name.
        self._symbols: Dict[Hashable, str] = {BATCH: "N"}
        self._sizes = Graph(["N"])
        # A variable's uid → the functions that read it ("": the model's caller); a function's → what is read of it.
        self._readers: Dict[str, Set[str]] = {result.uid: {""} for result in given.results}
        for function in given.functions.values():
            for uid in function.inputs:
                self._readers.setdefault(uid, set()).add(function.uid)
        self._outputs: Dict[str, List[str]] = {}
        for uid in self._readers:
            self._outputs.setdefault(owner(uid)[0], []).append(uid)

    def model(self) -> onnx.ModelProto:
        inputs = [self._input(each) for each in self._network.arguments]
        for variable in self._network.variables.values():
            if variable.value is not None:
                self._values[variable.uid] = _known(variable)
        loops = in_order(self._network)
        for functions, is_loop in loops:
            if is_loop:
                loop = Loop(functions, self._read_by_others(functions), self._network.shapes)
                self._values.update(translate_loop(loop, self._values, self._graph, translate_function))
            else:
                self._values.update(translate_function(functions[0], self._values, self._graph))
        outputs = [self._output(result.name, value_of(result.uid, self._values)) for result in self._network.results]
        graph = helper.make_graph(self._graph.nodes, "cntk", inputs, outputs, self._graph.initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="modelport")

    def _input(self, variable: Variable) -> onnx.ValueInfoProto:
        name = self._names[variable.uid]
        if variable.sparse:
            raise LoadError(
                "input '%s' is sparse, and only dense ones are served: in CNTK, save a clone of the model with a dense "
                "input in its place; of a loss, save the network below it, without the labels" % short(name)
            )
        if variable.dtype not in TYPES:
            raise LoadError("input '%s' has a datatype that is not covered" % short(name))
        axes = _axes(variable, name)
        self._values[variable.uid] = Value(name, variable.shape, axes, variable.dtype)
        return self._info(name, self._values[variable.uid])

    def _read_by_others(self, functions: List[Function]) -> Set[str]:
        inside = {each.uid for each in functions}
        outputs = {uid for each in functions for uid in self._outputs.get(each.uid, ())}
        return {uid for uid in outputs if not self._readers[uid] <= inside}

    def _output(self, name: str, value: Value) -> onnx.ValueInfoProto:
        if name == value.name:  # an input, as it came
            return self._info(name, value)
        tensor = value.name or self._graph.constant(value.array)
        self._graph.nodes.append(helper.make_node("Identity", [tensor], [name], name))
        return self._info(name, value)

    def _info(self, name: str, value: Value) -> onnx.ValueInfoProto:
        axes = [self._symbol(axis, axis) for axis in value.axes]
        free = [
            self._symbol((name, n), "%s_%d" % (name, n)) if size < 0 else size for n, size in enumerate(value.shape)
        ]
        return helper.make_tensor_value_info(name, TYPES[value.dtype], axes + free)

    def _symbol(self, key: Hashable, called: str) -> str:
        if key not in self._symbols:
            self._symbols[key] = self._sizes.unique(called)
        return self._symbols[key]


def translate_function(function: Function, values: Dict[str, Value], graph: Graph) -> Dict[str, Value]:
    """Its outputs, by uid. Raises LoadError."""
    if function.op not in REGISTRY:
        function.refuse("this operation is not covered")
    found = REGISTRY[function.op](
        TranslationContext(function, [value_of(uid, values) for uid in function.inputs], graph)
    )
    outputs = found if isinstance(found, list) else [found]
    return {"%s_Output_%d" % (function.uid, place): value for place, value in enumerate(outputs)}


def value_of(uid: str, values: Dict[str, Value]) -> Value:
    """What has been translated before. Raises LoadError where its function has no such output."""
    if uid not in values:
        raise broken("'%s' has no output %d" % owner(uid))
    return values[uid]


def _names(arguments: Tuple[Variable, ...]) -> Dict[str, str]:
    """uid → name; a name that two have names none."""
    told = distinct([(each.name, each.uid) for each in arguments])
    return {each.uid: name for each, name in zip(arguments, told)}


def _axes(variable: Variable, name: str) -> Tuple[str, ...]:
    axes = tuple(axis.name for axis in variable.axes)
    sequences = [axis for axis in variable.axes if axis.name != BATCH]
    if len(sequences) > 1 or (axes and axes[0] != BATCH):
        told = short(", ".join(axes), MAX_MESSAGE_LENGTH)
        raise LoadError("input '%s' has the dynamic axes %s, which are not covered" % (short(name), told))
    return axes


def _known(variable: Variable) -> Value:
    return Value("", variable.shape, (), variable.value.dtype, variable.value, True)
