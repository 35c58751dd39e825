"""Translates the bytes of a CNTK v2 model file to an ONNX model that computes the same."""

from typing import Dict, FrozenSet, Hashable, List, NamedTuple, Optional, Sequence, Set, Tuple

import onnx
from onnx import helper

from runtimes.contract import LoadError
from runtimes.onnx.builder import IR, OPSET, TYPES, Graph

from . import dictionary
from .context import TranslationContext
from .functions import BATCH, Function, Network, NotCovered, Variable, network, producer, unique_names
from .loops import Loop, translate_loop
from .ops import REGISTRY, Translator
from .order import Step, sources_of, topological_order
from .protobuf import MAX_MESSAGE_LENGTH, broken, shorten
from .values import Value

# Of functions that are not covered, and the length of their list. A model may have thousands.
_MAX_REASONS, _MAX_LENGTH = 8, 800


class Translated(NamedTuple):
    """
    model    of the outputs that are covered, with the inputs that they need
    refused  other outputs → why they are not covered
    needs    output → the inputs that it depends on
    """

    model: onnx.ModelProto
    refused: Dict[str, str]
    needs: Dict[str, FrozenSet[str]]


def translate(data: bytes) -> Translated:
    """Translate a file. Raises LoadError if it is broken or, with the functions' names, if no output is covered."""
    return translate_network(network(dictionary.read(data)))


def translate_network(network: Network) -> Translated:
    """Translate a network. Raises LoadError."""
    order = topological_order(network)
    problems = _Translation(network).problems(order)
    served = tuple(result for result in network.results if not problems[result.uid])
    if not served:
        raise _nothing_covered(list(dict.fromkeys(each for found in problems.values() for each in found)))
    refused = {
        result.name: _listed([each.why for each in problems[result.uid]])
        for result in network.results
        if problems[result.uid]
    }
    if refused:  # what only they need is left out
        network = network._replace(results=served)
        order = topological_order(network)
    names = _names(network.arguments)
    sources = sources_of(network, order)
    named = {uids: frozenset(names[uid] for uid in uids) for uids in set(sources.values())}
    needs = {each.name: named[sources[each.uid]] for each in served}
    needed = frozenset().union(*named.values())
    if refused:
        network = network._replace(arguments=tuple(each for each in network.arguments if names[each.uid] in needed))
    return Translated(_Translation(network, names).model(order), refused, needs)


def _nothing_covered(problems: List[NotCovered]) -> LoadError:
    return LoadError(_listed([each.why for each in problems]) + problems[0].advice)


def _listed(reasons: List[str]) -> str:
    listed = reasons[0]
    for each in reasons[1:_MAX_REASONS]:
        if len(listed) + len(each) > _MAX_LENGTH:
            break
        listed += "; " + each
    else:
        return listed + ("; and others" if len(reasons) > _MAX_REASONS else "")
    return listed + "; and others"


def serialized(model: onnx.ModelProto) -> bytes:
    """Serialize a model. Raises LoadError if it exceeds ONNX's limit for one file."""
    try:
        return model.SerializeToString()
    except Exception as error:  # protobuf raises several types beyond its limit of 2 GiB
        raise LoadError(
            "the model is too large for one ONNX file (%s): serve it by CNTK itself" % type(error).__name__
        ) from None


class _Translation:
    def __init__(self, network: Network, names: Optional[Dict[str, str]] = None) -> None:
        self._network = network
        self._names = names or _names(network.arguments)
        reserved = [*self._names.values(), *(result.name for result in network.results)]
        self._graph = Graph(reserved)
        self._values: Dict[str, Value] = {}
        # Dynamic axis or free dimension → its symbolic size in ONNX. Dimensions with the same symbol must be equal.
        self._symbols: Dict[Hashable, str] = {BATCH: "N"}
        self._sizes = Graph(["N"])
        # Uid of a variable → uids of the functions that read it ("" is the client), and
        # uid of a function → uids of its outputs that are read.
        self._readers: Dict[str, Set[str]] = {result.uid: {""} for result in network.results}
        for function in network.functions.values():
            for uid in function.inputs:
                self._readers.setdefault(uid, set()).add(function.uid)
        self._outputs: Dict[str, List[str]] = {}
        for uid in self._readers:
            self._outputs.setdefault(producer(uid)[0], []).append(uid)

    def model(self, order: Sequence[Step]) -> onnx.ModelProto:
        inputs = [self._input(each) for each in self._network.arguments]
        self._add_constants()
        for step in order:
            self._values.update(self._step(step))
        outputs = [self._output(result.name, value_of(result.uid, self._values)) for result in self._network.results]
        graph = helper.make_graph(self._graph.nodes, "cntk", inputs, outputs, self._graph.initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="modelport")

    def problems(self, order: Sequence[Step]) -> Dict[str, List[NotCovered]]:
        """Return what is not covered below each result, by uid. The others can be translated."""
        found: Dict[str, Dict[NotCovered, None]] = {}  # uid of a variable or function → what is not covered below it
        for variable in self._network.arguments:
            try:
                self._input(variable)
            except NotCovered as problem:
                found[variable.uid] = {problem: None}
        self._add_constants()
        for step in order:
            below: Dict[NotCovered, None] = {}
            for function in step[0]:
                for uid in function.inputs:
                    if len(below) <= _MAX_REASONS:
                        below.update(found.get(producer(uid)[0] or uid, {}))
            try:
                if not below:
                    self._values.update(self._step(step))
                    continue
                if len(below) <= _MAX_REASONS:
                    for function in step[0]:
                        _translator(function)
            except NotCovered as problem:
                below[problem] = None
            for function in step[0]:
                found[function.uid] = below
        return {each.uid: list(found.get(producer(each.uid)[0] or each.uid, {})) for each in self._network.results}

    def _add_constants(self) -> None:
        for variable in self._network.variables.values():
            if variable.value is not None:
                self._values[variable.uid] = _constant(variable)

    def _step(self, step: Step) -> Dict[str, Value]:
        functions, is_loop = step
        if not is_loop:
            return translate_function(functions[0], self._values, self._graph)
        loop = Loop(functions, self._read_by_others(functions), self._network.shapes)
        return translate_loop(loop, self._values, self._graph, translate_function)

    def _input(self, variable: Variable) -> onnx.ValueInfoProto:
        name = self._names[variable.uid]
        if variable.sparse and len(variable.shape) != 1:
            raise NotCovered(
                "input '%s' is sparse with %d static axes, and sparse inputs are only supported with one"
                % (shorten(name), len(variable.shape)),
                ": in CNTK, save a clone of the model with a dense input instead",
            )
        if variable.dtype not in TYPES:
            raise NotCovered("input '%s' has a datatype that is not covered" % shorten(name))
        axes = _axes(variable, name)
        self._values[variable.uid] = Value(name, variable.shape, axes, variable.dtype)
        return self._info(name, self._values[variable.uid])

    def _read_by_others(self, functions: List[Function]) -> Set[str]:
        inside = {each.uid for each in functions}
        outputs = {uid for each in functions for uid in self._outputs.get(each.uid, ())}
        return {uid for uid in outputs if not self._readers[uid] <= inside}

    def _output(self, name: str, value: Value) -> onnx.ValueInfoProto:
        if name == value.name:  # the output is an input of the model
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

    def _symbol(self, key: Hashable, name: str) -> str:
        if key not in self._symbols:
            self._symbols[key] = self._sizes.unique(name)
        return self._symbols[key]


def translate_function(function: Function, values: Dict[str, Value], graph: Graph) -> Dict[str, Value]:
    """Translate one function and return its outputs by uid. Raises LoadError."""
    found = _translator(function)(
        TranslationContext(function, [value_of(uid, values) for uid in function.inputs], graph)
    )
    outputs = found if isinstance(found, list) else [found]
    return {"%s_Output_%d" % (function.uid, index): value for index, value in enumerate(outputs)}


def _translator(function: Function) -> Translator:
    if function.op not in REGISTRY:
        function.refuse("this operation is not covered")
    return REGISTRY[function.op]


def value_of(uid: str, values: Dict[str, Value]) -> Value:
    """Return a value that was translated before. Raises LoadError if its function has no such output."""
    if uid not in values:
        raise broken("'%s' has no output %d" % producer(uid))
    return values[uid]


def _names(arguments: Tuple[Variable, ...]) -> Dict[str, str]:
    """Return uid → name, where a name that is not unique is replaced by the uid."""
    names = unique_names([(each.name, each.uid) for each in arguments])
    return {each.uid: name for each, name in zip(arguments, names)}


def _axes(variable: Variable, name: str) -> Tuple[str, ...]:
    axes = tuple(axis.name for axis in variable.axes)
    sequences = [axis for axis in variable.axes if axis.name != BATCH]
    if len(sequences) > 1 or (axes and axes[0] != BATCH):
        listed = shorten(", ".join(axes), MAX_MESSAGE_LENGTH)
        raise NotCovered("input '%s' has the dynamic axes %s, which are not covered" % (shorten(name), listed))
    return axes


def _constant(variable: Variable) -> Value:
    return Value("", variable.shape, (), variable.value.dtype, variable.value, True)
