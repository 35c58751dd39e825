"""Converts an exported program's graph for the analysis, with the sizes of tensors that the export has recorded."""

from typing import Any, Dict, List, Optional, Tuple

import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind

from runtimes.dataflow.graph import Graph, Node

from .builder import Builder
from .constants import put
from .operators import LIST, NONE
from .schemas import Operator, operator_of
from .script import written

# These return lists of views of their input.
_LISTS = ("split", "split_with_sizes", "chunk", "unbind", "tensor_split", "getitem")
# Operators that only set a mode for the graph inside them, with the number of arguments before it.
_WRAPS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}


class Reader:
    def __init__(self, exported: Any) -> None:
        self._exported = exported
        self._known: Dict[Any, Operator] = {}
        self._constants = {}  # type: Dict[str, str]

    def graph(self) -> Tuple[Graph, Dict[str, List[Any]]]:
        """Return the graph and the sizes of its inputs, in which symbols are text."""
        builder, signature = Builder(), self._exported.graph_signature
        sizes = {}  # type: Dict[str, List[Any]]
        placeholders = {node.name: node for node in self._exported.graph.nodes if node.op == "placeholder"}
        for item in signature.input_specs:
            name = item.arg.name
            if item.kind == InputKind.USER_INPUT and not isinstance(item.arg, ConstantArgument):
                builder.define(name)
                sizes[name] = shape(placeholders[name].meta.get("val"))
            elif isinstance(item.arg, ConstantArgument):
                put(builder, name, item.arg.value)
            else:
                put(builder, name, self._stored(item), "buffer '%s'" % item.target)
        names = {name: name for name in placeholders}
        self._nodes(self._exported.graph_module, builder, names)
        outputs = [
            builder.current(names[item.arg.name]) if getattr(item.arg, "name", None) in names else ""
            for item in signature.output_specs
            if item.kind == OutputKind.USER_OUTPUT
        ]
        return Graph(builder.nodes, builder.constants, [(name, None) for name in sizes], outputs), sizes

    def _stored(self, item: Any) -> Any:
        for store in (self._exported.state_dict, self._exported.constants):
            if item.target in store:
                return store[item.target]
        return object()

    def _nodes(self, module: Any, builder: Builder, names: Dict[str, str], prefix: str = "") -> Any:
        """Add the nodes of a module and return the argument of its output node. names: node → tensor of the graph."""
        for node in module.graph.nodes:
            out = prefix + node.name
            if node.op == "placeholder":
                continue
            if node.op == "output":
                return node.args[0]
            if node.op == "get_attr":
                value = _attribute(module, node.target)
                if not isinstance(value, torch.nn.Module):
                    put(builder, out, value, "a constant")
            elif node.op == "call_function":
                self._call(module, node, builder, names, out)
            names[node.name] = out
        return ()

    def _call(self, module: Any, node: Any, builder: Builder, names: Dict[str, str], out: str) -> None:
        target = node.target
        schema = getattr(target, "_schema", None)
        target_name = getattr(target, "__name__", str(target))
        if target_name in _WRAPS and self._wrapped(module, node, builder, names, out, _WRAPS[target_name]):
            return
        extra = {"shape": shape(node.meta["val"])} if isinstance(node.meta.get("val"), torch.Tensor) else {}
        if schema is None:
            inputs = [self._argument(value, builder, names) for value in node.args]
            own = type(target).__name__ == "builtin_function_or_method" or target_name.startswith("sym_")
            attributes = dict(
                extra, number=own, names=("self", "other") if target_name != "getitem" else ("list", "idx")
            )
            shares = (0,) if target_name == "getitem" else ()
            name = target_name if own else "unknown " + target_name
            if not own:
                builder.unclear("%s is not known" % target_name)
            builder.add(Node(name, "", out, inputs, [out], attributes), shares, opaque=not own)
            return
        key = (schema.name, schema.overload_name)
        found = self._known[key] = self._known.get(key) or operator_of(schema)
        given = dict(zip(found.names, node.args), **node.kwargs)
        inputs = []
        for argument in schema.arguments:
            default = argument.default_value if argument.has_default_value() else None
            inputs.append(self._argument(given.get(argument.name, default), builder, names))
        name = schema.name[len("aten::") :] if schema.name.startswith("aten::") else schema.name
        dtypes = [_dtype(given.get(argument.name)) for argument in schema.arguments]
        made = Node(name, "", out, inputs, [out], dict(extra, names=found.names, dtypes=dtypes))
        if found.written:
            written(builder, made, found)
        elif len(schema.returns) > 1:
            parts = ["%s.%d" % (out, index) for index in range(len(schema.returns))]
            builder.add(made._replace(outputs=parts), found.shares)
            builder.add(Node(LIST, "", "", parts, [out], {}), range(len(parts)))
        else:
            builder.add(made, (0,) if name in _LISTS else found.shares)

    def _wrapped(self, module: Any, node: Any, builder: Builder, names: Dict[str, str], out: str, skip: int) -> bool:
        index = next((index for index, value in enumerate(node.args) if getattr(value, "op", "") == "get_attr"), None)
        inner = None if index is None else _attribute(module, node.args[index].target)
        if index is None or index < skip or not isinstance(inner, torch.fx.GraphModule):
            return False
        given = [self._argument(value, builder, names) for value in node.args[index + 1 :]]
        inside = dict(zip((each.name for each in inner.graph.nodes if each.op == "placeholder"), given))
        results = self._nodes(inner, builder, inside, out + ".")
        made = [self._argument(value, builder, inside) for value in results]
        builder.add(Node(LIST, "", "", made, [out], {}), range(len(made)))
        return True

    def _argument(self, value: Any, builder: Builder, names: Dict[str, str]) -> str:
        """Return the name of an argument. A value that is not a tensor becomes a constant."""
        if value is None:
            return ""
        if value is NONE:
            return self._constant(builder, None)
        if isinstance(value, torch.fx.Node):
            return names[value.name]
        if isinstance(value, (list, tuple)) and any(isinstance(each, torch.fx.Node) or each is None for each in value):
            numbers = all(_is_number(each) for each in value)
            parts = [self._argument(NONE if each is None else each, builder, names) for each in value]
            name = "list.%d" % len(builder.nodes)
            builder.add(Node(LIST, "", "", parts, [name], {"numbers": numbers}), range(len(parts)))
            return name
        return self._constant(builder, value)

    def _constant(self, builder: Builder, value: Any) -> str:
        key = repr((type(value).__name__, value))
        if key not in self._constants:
            self._constants[key] = "constant.%d" % len(self._constants)
            put(builder, self._constants[key], value)
        return self._constants[key]


def _is_number(value: Any) -> bool:
    if isinstance(value, torch.fx.Node):
        return isinstance(value.meta.get("val"), (int, float, torch.SymInt, torch.SymFloat))
    return isinstance(value, (int, float))


def _attribute(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part)
    return module


def _dtype(value: Any) -> Any:
    """Return the dtype of a tensor, or those of the tensors in a list."""
    if isinstance(value, (list, tuple)):
        return [_dtype(each) for each in value]
    found = value.meta.get("val") if isinstance(value, torch.fx.Node) else None
    return found.dtype if isinstance(found, torch.Tensor) else None


def shape(value: Any) -> Optional[List[Any]]:
    """Return the sizes. A variable size is the text of its expression."""
    if not isinstance(value, torch.Tensor):
        return []
    return [size if isinstance(size, int) else str(size) for size in value.shape]
