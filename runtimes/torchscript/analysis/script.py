"""Converts TorchScript's graph, with all calls inlined, for the analysis."""

from typing import Any, Dict, List, Optional, Set, Tuple

import torch

from runtimes.dataflow.graph import Graph, Node

from .builder import Builder
from .constants import put
from .operators import LIST, STORED
from .schemas import VIEWS, Operator, operator_of

# Operators without a schema that neither write nor share memory.
_HARMLESS = (
    "prim::RaiseException prim::Print prim::NumToTensor prim::dtype prim::device prim::shape prim::layout "
    "prim::is_cuda prim::requires_grad prim::type prim::is_nested prim::is_quantized prim::is_mkldnn "
    "prim::Uninitialized prim::min prim::max prim::abs prim::tolist prim::unchecked_unwrap_optional prim::profile"
).split()

_NUMBERS = ("IntType", "FloatType", "BoolType", "NumberType")


class Reader:
    def __init__(self, module: Any) -> None:
        self._modules = {"": module._c}  # type: Dict[str, Any]
        self._paths = {}  # type: Dict[str, str]  # the paths of attributes that are objects, by tensor
        self._root = Builder()
        self._put: Set[str] = set()  # attributes that have been added as constants

    def graph(self, graph: Any) -> Tuple[Graph, List[str]]:
        """Return the graph and the names of its inputs."""
        builder = self._root
        given = [value.debugName() for value in graph.inputs()]
        self._paths[given[0]] = ""
        for name in given:
            builder.define(name)
        self._nodes(graph, builder)
        outputs = [builder.current(value.debugName()) for value in graph.outputs()]
        return Graph(builder.nodes, builder.constants, [(name, None) for name in given[1:]], outputs), given[1:]

    def _nodes(self, block: Any, builder: Builder) -> None:
        for node in block.nodes():
            kind = node.kind()
            if kind == "prim::Constant":
                out = node.output()
                put(builder, out.debugName(), out.toIValue(), "a constant")
            elif kind == "prim::GetAttr":
                self._attribute(node, builder)
            elif kind in ("prim::If", "prim::Loop"):
                self._control(node, builder)
            elif kind == "prim::SetAttr":
                builder.add(_node(node, STORED, {"why": "an attribute is written to"}))
            else:
                self._operator(node, kind, builder)

    def _attribute(self, node: Any, builder: Builder) -> None:
        name, parent = node.output().debugName(), self._paths.get(node.input().debugName())
        if parent not in self._modules:
            builder.add(_node(node, "prim::GetAttr"), opaque=True)
            return
        path = (parent + "." if parent else "") + node.s("name")
        self._paths[name] = path
        if path not in self._modules:
            value = self._modules[parent].getattr(node.s("name"))
            if isinstance(value, torch._C.ScriptModule):
                self._modules[path] = value
            elif path not in self._put:
                self._put.add(path)
                put(self._root, "self." + path, value, "attribute '%s'" % path)
        if path in self._put:
            builder.same(name, "self." + path)

    def _control(self, node: Any, builder: Builder) -> None:
        """Add a branch or loop. Outer tensors that its blocks write to become results, and are carried by a loop."""
        blocks = list(node.blocks())
        changed, inner = [], []  # type: Any, Any
        if node.kind() == "prim::Loop":
            changed = list(self._block(blocks[0], builder, [])[0].changed)
            inner = [self._block(blocks[0], builder, changed)]
            changed += [name for name in inner[0][0].changed if name not in changed]
        else:
            inner = [self._block(block, builder, []) for block in blocks]
            changed = list(dict.fromkeys(name for each, _, _ in inner for name in each.changed))
        graphs = [each.block(outputs + changed, inputs) for each, inputs, outputs in inner]
        results = [builder.fresh(name) for name in changed]
        made = _node(node, node.kind(), {"graphs": graphs})
        if node.kind() == "prim::Loop":
            made = made._replace(inputs=made.inputs + changed)
        builder.add(made._replace(outputs=made.outputs + results), opaque=True)
        builder.carried_out(dict(zip(changed, results)))

    def _block(self, block: Any, builder: Builder, carried: List[str]) -> Tuple[Builder, List[str], List[str]]:
        """Build a block, and return the builder with the names of the block's inputs and outputs.

        carried: outer tensors that the block of a loop writes to, which become additional inputs.
        """
        inner = Builder(builder)
        given = [value.debugName() for value in block.inputs()]
        for name in given:
            inner.define(name, tangled=True)
        for name in carried:
            inner.define(name + " carried")
            inner.replace(name, name + " carried")
        self._nodes(block, inner)
        outputs = [value.debugName() for value in block.outputs()]
        return inner, given + [name + " carried" for name in carried], outputs

    def _operator(self, node: Any, kind: str, builder: Builder) -> None:
        made = _node(node, kind)
        schema = node.schema()
        if schema == "(no schema)":
            known = kind in VIEWS or kind in _HARMLESS or kind.endswith("Construct")
            if not known:
                builder.unclear("%s is not known" % kind)
            every = range(len(made.inputs)) if kind.endswith("Construct") else (0,) if kind in VIEWS else ()
            builder.add(made, every, opaque=not known)
            return
        found = operator_of(schema)
        made.attributes["names"] = found.names
        if not found.written:
            builder.add(made, (0,) if kind in VIEWS else found.shares)
        elif found.list_like:
            self._change_list(made, builder)
        else:
            written(builder, made, found)

    def _change_list(self, made: Node, builder: Builder) -> None:
        out = made.outputs[0] if made.outputs else ""
        more = builder.items(made.inputs[1]) if made.operator in ("add_", "extend") else [made.inputs[-1]]
        builder.keep(made.operator, made.inputs[0])
        if made.operator in ("append", "add_", "extend") and more is not None:
            builder.append(made.inputs[0], more, out)
            return
        builder.unclear("aten::%s changes a list or a dict" % made.operator)
        builder.add(made, opaque=True)


def written(builder: Builder, made: Node, found: Operator) -> None:
    """Add an operator that writes to one of its inputs."""
    if found.written != (0,) or len(made.outputs) > 1:
        for index in found.written:
            builder.keep(made.operator, made.inputs[index])
        builder.unclear("%s writes to several of its inputs" % made.operator)
        builder.add(made, opaque=True)
        return
    operator = made.operator[:-1] if made.operator.endswith("_") and made.operator[-2:] != "__" else made.operator
    builder.add(made._replace(operator=operator), written=0)


def _node(node: Any, kind: str, attributes: Optional[Dict[str, Any]] = None) -> Node:
    name = kind[len("aten::") :] if kind.startswith("aten::") else kind
    attributes = dict(attributes or {})
    if kind == "prim::TupleSlice":
        attributes.update((each, node.i(each)) for each in node.attributeNames())
    if kind == LIST:
        attributes["numbers"] = node.output().type().getElementType().kind() in _NUMBERS
    inputs = [value.debugName() for value in node.inputs()]
    return Node(name, "", "", inputs, [value.debugName() for value in node.outputs()], attributes)
