"""The nodes of an exported program, for a profile."""

import re
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_flatten

from runtimes.profiling import GraphNode, Names

# A program without a path in its stack of modules was traced inside this wrapper.
_ROOT = re.compile(r"^(L__self__|L\['self'\]|_export_root)\.?")


def nodes_of_exported(module: GraphModule) -> List[GraphNode]:
    reader = _Reader()
    reader.graph(module, "")
    return reader.nodes


def named_nodes_of_exported(module: GraphModule) -> List[Tuple[Node, str]]:
    """Return the calls of a program with the names that they have in the graph of a profile."""
    reader = _Reader()
    reader.graph(module, "")
    return reader.named


class _Reader:
    def __init__(self) -> None:
        self.nodes: List[GraphNode] = []
        self.named: List[Tuple[Node, str]] = []
        self._names = Names()

    def graph(self, module: GraphModule, scope: str) -> None:
        """Add a graph's nodes, and those of the graphs that operators such as cond run, in scopes of their own."""
        made: Dict[Node, str] = {}
        for node in module.graph.nodes:
            if node.op == "placeholder":
                made[node] = self._add(node.name, scope, "Placeholder", (), node)
            elif node.op == "get_attr":
                if not isinstance(_attribute(module, node.target), GraphModule):
                    made[node] = self._add(str(node.target).replace(".", "/"), scope, "Const", (), node)
            elif node.op == "call_function":
                self._call(module, node, scope, made)

    def _call(self, module: GraphModule, node: Node, scope: str, made: Dict[Node, str]) -> None:
        inside = _path(node)
        inputs = tuple(made[each] for each in node.all_input_nodes if each in made)
        attributes = _attributes(node)
        made[node] = self._add(
            node.name, "/".join(filter(None, (scope, inside))), _operator(node), inputs, node, attributes
        )
        self.named.append((node, made[node]))
        for each in node.all_input_nodes:
            body = _attribute(module, each.target) if each.op == "get_attr" else None
            if isinstance(body, GraphModule):
                self.graph(body, "%s/%s" % (made[node], each.target))

    def _add(
        self, name: str, scope: str, operator: str, inputs: Tuple[str, ...], node: Node, attributes: Any = None
    ) -> str:
        named = self._names.unique(name, scope)
        self.nodes.append(GraphNode(named, operator, inputs, _shape(node.meta.get("val")), attributes or {}))
        return named


def _attribute(module: Any, path: Any) -> Any:
    for part in str(path).split("."):
        module = getattr(module, part, None)
    return module


def _path(node: Node) -> str:
    """Return the path of the innermost module that a node belongs to."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    return _ROOT.sub("", path).replace(".", "/").split("@")[0]


def _operator(node: Node) -> str:
    """Return what PyTorch's profiler calls an operator: "aten::conv2d"."""
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.name
    return getattr(node.target, "__name__", str(node.target))


def _attributes(node: Node) -> Dict[str, str]:
    """Return the arguments that are no tensors, by their names in the schema."""
    schema = getattr(node.target, "_schema", None)
    named: Dict[str, Any] = {}
    for position, value in enumerate(node.args):
        fits = schema is not None and position < len(schema.arguments)
        named[schema.arguments[position].name if fits else "arg%d" % position] = value
    named.update(node.kwargs)
    return {
        name: str(value)
        for name, value in named.items()
        if not any(isinstance(e, Node) for e in tree_flatten(value)[0])
    }


def _shape(value: Any) -> Optional[Tuple[int, ...]]:
    if isinstance(value, (list, tuple)) and value:
        value = value[0]
    if not isinstance(value, torch.Tensor):
        return None
    return tuple(size if isinstance(size, int) else -1 for size in value.shape)
