"""The nodes of a TorchScript module, for a profile. Calls are inlined, and modules are scopes."""

import re
from typing import Any, Dict, List, Sequence, Tuple, Union

import torch

from runtimes.profiling import GraphNode, Names

# Parts of a module hierarchy that name no module: a module's own methods, and functions.
_UNNAMED = ("SELF", "UNKNOWN_INSTANCE")
_TYPE = re.compile(r"\([^()]*\)")


class _Module:
    """A value that is a module: its path and its object."""

    def __init__(self, path: str, inner: Any) -> None:
        self.path, self.inner = path, inner


class _Literal:
    """A value that is known without running: a number, text, None, or a list of them."""

    def __init__(self, value: Any) -> None:
        self.value = value


# The name of a node, or one of these.
Value = Union[str, _Module, _Literal]


def nodes_of_scripted(module: torch.jit.ScriptModule) -> List[GraphNode]:
    reader = _Reader()
    reader.read(module, module.inlined_graph)
    return reader.nodes


def named_nodes_of_scripted(module: torch.jit.ScriptModule, inlined: Any) -> List[Tuple[Any, str]]:
    """Return nodes of a module's graph, in which all calls are inlined, with the names that they have in a profile."""
    reader = _Reader()
    reader.read(module, inlined)
    return reader.named


class _Reader:
    def __init__(self) -> None:
        self.nodes: List[GraphNode] = []
        self.named: List[Tuple[Any, str]] = []
        self._names = Names()
        self._attributes: Dict[str, str] = {}  # path of a tensor → its node

    def read(self, module: torch.jit.ScriptModule, graph: Any) -> None:
        given = list(graph.inputs())
        values: Dict[str, Value] = {given[0].debugName(): _Module("", module._c)}
        for value, argument in zip(given[1:], module.forward.schema.arguments[1:]):
            values[value.debugName()] = self._add(argument.name, "", "Placeholder", (), value)
        self._block(graph, values, "")

    def _block(self, block: Any, values: Dict[str, Value], outer: str) -> List[Value]:
        """Add the nodes of a block. Returns the values of its results. outer: the scope of nodes without a module."""
        for node in block.nodes():
            inputs = [values[value.debugName()] for value in node.inputs()]
            for value, result in zip(node.outputs(), self._node(node, inputs, values, outer)):
                values[value.debugName()] = result
        return [values[value.debugName()] for value in block.outputs()]

    def _node(self, node: Any, inputs: List[Value], values: Dict[str, Value], outer: str) -> Sequence[Value]:
        """Add what a node stands for. Returns the values of its outputs."""
        kind, count = node.kind(), node.outputsSize()
        scope = outer or _path(node)
        if kind == "prim::Constant":
            return [self._constant(node, scope)]
        if kind == "prim::GetAttr" and isinstance(inputs[0], _Module):
            return [self._attribute(node, inputs[0])]
        if kind == "prim::unchecked_cast":
            return inputs
        literals = [each.value for each in inputs if isinstance(each, _Literal)]
        if len(literals) == len(inputs):
            if kind in ("prim::ListConstruct", "prim::TupleConstruct"):
                return [_Literal(literals)]
            if kind in ("aten::__is__", "aten::__isnot__"):
                return [_Literal((literals[0] is literals[1]) == (kind == "aten::__is__"))]
            if kind == "prim::If":  # such as one that asks whether the module is being trained
                return self._block(list(node.blocks())[0 if literals[0] else 1], values, outer)
        named = self._names.unique(kind.rpartition("::")[2], scope)
        self.named.append((node, named))
        sources = [each for each in inputs if isinstance(each, str)]
        for number, block in enumerate(node.blocks()):
            label = "body"
            if kind == "prim::Loop":  # the inputs are a limit, a condition, and what the body carries
                given = [_Literal("iteration"), *inputs[2:]]
                values.update((value.debugName(), each) for value, each in zip(block.inputs(), given))
            elif kind == "prim::If":
                label = ("then", "else")[number]
            results = self._block(block, values, "%s/%s" % (named, label))
            sources += [each for each in results if isinstance(each, str)]
        shape = _shape(next(iter(node.outputs()), None))
        unique = tuple(dict.fromkeys(sources))
        self.nodes.append(GraphNode(named, kind, unique, shape, _named_literals(node, inputs)))
        return [named] * count

    def _constant(self, node: Any, scope: str) -> Value:
        value = node.output().toIValue()
        if not isinstance(value, torch.Tensor):
            return _Literal(value)
        return self._add("constant", scope, "Const", (), node.output(), tuple(value.shape))

    def _attribute(self, node: Any, module: _Module) -> Value:
        name = node.s("name")
        path, value = (module.path + "/" + name).lstrip("/"), module.inner.getattr(name)
        if isinstance(value, torch._C.ScriptModule):
            return _Module(path, value)
        if not isinstance(value, torch.Tensor):
            return _Literal(value)
        if path not in self._attributes:
            shape = tuple(value.shape)
            self._attributes[path] = self._add(path, "", "Const", (), node.output(), shape)
        return self._attributes[path]

    def _add(self, name: str, scope: str, operator: str, inputs: Tuple[str, ...], value: Any, shape: Any = None) -> str:
        named = self._names.unique(name, scope)
        self.nodes.append(GraphNode(named, operator, inputs, _shape(value) if shape is None else shape))
        return named


def _path(node: Any) -> str:
    """Return the path of the module that a node belongs to: layers(Sequential).0(Conv2d).SELF(Conv2d) is layers/0."""
    parts = _TYPE.sub("", node.getModuleHierarchy()).split(".")
    return "/".join(part for part in parts if part and part not in _UNNAMED)


def _named_literals(node: Any, inputs: Sequence[Value]) -> Dict[str, str]:
    """Return the arguments that are written in the code, by their names in the operator's schema."""
    try:
        names = [argument.name for argument in torch._C.parse_schema(node.schema()).arguments]
    except RuntimeError:  # it has none
        names = []
    found = {}
    for position, value in enumerate(inputs):
        if isinstance(value, _Literal):
            name = names[position] if position < len(names) else "arg%d" % position
            found[name] = str(value.value)[:200]
    return found


def _shape(value: Any) -> Any:
    """Return the shape that the archive records for a value; None if it records none, as is usual."""
    sizes = value.type().sizes() if value is not None and value.type().kind() == "TensorType" else None
    return None if sizes is None else tuple(-1 if size is None else size for size in sizes)
