"""Converts TensorFlow's GraphDef for the dataflow walk: the nodes that some tensors depend on, in topological order.

A tensor is called "node:index", an argument of a function "argument:0". Nodes on which no output depends, such as
assertions, are omitted, because they do not change any answer. Attributes keep their names, and functions in them are
`Called`.
"""

from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from runtimes.dataflow.graph import Function, Graph, Model, Node, Reference, Tensor
from runtimes.dataflow.values import MAX_CONTENTS

SHAPES = "_output_shapes"
PIVOTS = "^"  # attribute with the control inputs of a node in a branch of TensorFlow 1: if one is dead, it does not run


class Called(NamedTuple):
    """A function that an attribute refers to, and the values of its own attributes."""

    name: str
    attributes: Dict[str, Any]


def model_of(definition: Any, given: Iterable[str], outputs: Sequence[str]) -> Model:
    """
    given    tensors that are fed, so the nodes that produce them do not run
    outputs  tensors whose dependencies are included
    """
    library = {function.signature.name: function for function in definition.library.function}
    reader = _Reader(library)
    nodes = reader.nodes(definition.node, set(given), outputs)
    functions: Dict[Tuple[str, str], Function] = {}
    stack = list(_called(nodes, library))
    while stack:
        name = stack.pop()
        if ("", name) not in functions:
            functions["", name] = reader.function(library[name])
            stack.extend(_called(functions["", name].nodes, library))
    return Model(Graph(nodes, [], [], list(outputs)), {}, functions)


class _Reader:
    def __init__(self, library: Dict[str, Any]) -> None:
        self._library = library

    def function(self, definition: Any) -> Function:
        inputs = [argument.name + ":0" for argument in definition.signature.input_arg]
        layouts = {node.name: self._layout(node) for node in definition.node_def}
        returned = [definition.ret[argument.name] for argument in definition.signature.output_arg]
        outputs = [_tensor(text, layouts) for text in returned]
        return Function(inputs, outputs, self.nodes(definition.node_def, set(inputs), outputs, layouts), {})

    def nodes(self, nodes: Iterable[Any], given: Set[str], outputs: Iterable[str], layouts: Any = None) -> List[Node]:
        """Return the dependencies of the outputs in topological order. A loop of TensorFlow 1 is cut at some node."""
        by_name = {node.name: node for node in nodes}
        order: List[Node] = []
        entered: Set[str] = set()
        stack: List[Tuple[str, Optional[Node]]] = [(name, None) for name in outputs]
        while stack:
            tensor, done = stack.pop()
            if done is not None:
                order.append(done)
                continue
            name = tensor.rpartition(":")[0]
            if tensor in given or name in entered or name not in by_name:
                continue
            entered.add(name)
            node = self._node(by_name[name], given, layouts)
            stack.append((tensor, node))
            stack.extend((each, None) for each in node.inputs)
            controls = [by_name.get(text[1:]) for text in by_name[name].input if text.startswith("^")]
            pivots = [each.name + ":0" for each in controls if each is not None and _is_pivot(each, by_name)]
            if pivots:
                node.attributes[PIVOTS] = pivots
                stack.extend((each, None) for each in pivots)
        return order

    def _node(self, node: Any, given: Set[str], layouts: Any) -> Node:
        inputs = [_tensor(text, layouts) for text in node.input if not text.startswith("^")]
        count = sum(size for _, size in self._layout(node))
        outputs = ["%s:%d" % (node.name, index) for index in range(count)]
        attributes = {name: _attribute(value) for name, value in node.attr.items()}
        for attribute in self._signature(node.op).attr if self._signature(node.op) is not None else ():
            if attribute.name not in attributes and attribute.HasField("default_value"):
                attributes[attribute.name] = _attribute(attribute.default_value)
        return Node(node.op, "", node.name, inputs, ["" if name in given else name for name in outputs], attributes)

    def _signature(self, operator: str) -> Any:
        function = self._library.get(operator)
        return op_def_registry.get(operator) if function is None else function.signature

    def _layout(self, node: Any) -> List[Tuple[str, int]]:
        """Return the operator's outputs: the name of each, and the number of its tensors."""
        signature = self._signature(node.op)
        result = []
        for argument in signature.output_arg if signature is not None else ():
            count = 1
            if argument.number_attr:
                count = node.attr[argument.number_attr].i
            elif argument.type_list_attr:
                count = len(node.attr[argument.type_list_attr].list.type)
            result.append((argument.name, count))
        return result


def _tensor(text: str, layouts: Optional[Dict[str, List[Tuple[str, int]]]]) -> str:
    """Return "node:index" for a tensor, which graphs call "node" or "node:1" and functions "node:output:1"."""
    name, _, rest = text.partition(":")
    if not rest:
        return name + ":0"
    if layouts is None or name not in layouts:
        return text
    output, _, index = rest.partition(":")
    position = int(index or 0)
    for each, count in layouts[name]:
        if each == output:
            return "%s:%d" % (name, position)
        position += count
    return text


def _is_pivot(node: Any, nodes: Dict[str, Any]) -> bool:
    """Whether a node exists to make one side of a Switch run or not."""
    source = nodes.get(node.input[0].partition(":")[0]) if node.op == "Identity" else node
    return source is not None and source.op in ("Switch", "RefSwitch")


def _called(nodes: Iterable[Node], library: Dict[str, Any]) -> Iterator[str]:
    for node in nodes:
        if node.operator in library:
            yield node.operator
        for value in node.attributes.values():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, Called) and each.name in library:
                    yield each.name


def _attribute(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "list":
        for field in ("s", "i", "f", "b", "type", "shape", "tensor", "func"):
            found = getattr(value.list, field)
            if found:
                return [_single(field, each) for each in found]
        return []
    if kind == "placeholder":
        return Reference(value.placeholder)
    return None if kind is None else _single(kind, getattr(value, kind))


def _single(kind: str, value: Any) -> Any:
    if kind == "s":
        return value.decode("utf-8", "replace") if len(value) <= 1000 else ""
    if kind == "shape":
        return shape_of(value)
    if kind == "tensor":
        return _contents(value)
    if kind == "func":
        return Called(value.name, {name: _attribute(each) for name, each in value.attr.items()})
    return value


def shape_of(shape: Any) -> Optional[List[Optional[int]]]:
    """Return the sizes, None for a dynamic one; None if the rank is unknown."""
    return None if shape.unknown_rank else [None if dim.size < 0 else dim.size for dim in shape.dim]


def _contents(tensor: Any) -> Tensor:
    dims = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = 1
    for size in dims:
        count *= size
    dtype = tf.dtypes.as_dtype(tensor.dtype)
    contents = None
    if 0 <= count <= MAX_CONTENTS and (dtype.is_integer or dtype.is_floating or dtype.is_bool):
        contents = tf.make_ndarray(tensor).ravel().tolist()
    return Tensor("", dims, contents)
