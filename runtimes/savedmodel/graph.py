"""Reads the graph of a signature for a profile. A function is inlined where it is called, in a scope with that name."""

from typing import Any, Dict, Iterable, List, Optional, Sequence, Set, Tuple

import tensorflow as tf

from runtimes.contract import Model
from runtimes.profiling import GraphNode, Names

from .analysis.graph import SHAPES
from .runtime import SavedModel

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_MAX_DEPTH = 20  # of calls, since functions may call themselves
# Functions that each call the next one twice would become millions of nodes, of which a page shows nothing useful.
_MAX_NODES = 100000


def read_graph(model: Model, signature: str) -> List[GraphNode]:
    assert isinstance(model, SavedModel)
    definition, variables = model.entries[signature].definition()
    reader = _Reader(definition, variables)
    reader.nodes_of(definition.node, "", {}, 0)
    return reader.nodes


class _Reader:
    def __init__(self, definition: Any, variables: Set[str]) -> None:
        self.nodes: List[GraphNode] = []
        self._functions = {function.signature.name: function for function in definition.library.function}
        self._variables = variables
        self._names = Names()

    def nodes_of(self, definitions: Iterable[Any], scope: str, given: Dict[str, str], depth: int) -> Dict[str, Any]:
        """Add nodes. Returns what stands for each of them: a node, or the results of the function that it calls.

        given: in a function, its arguments → nodes outside
        """
        order = _sorted(definitions)
        made: Dict[str, Any] = dict(given)
        may_inline = depth < _MAX_DEPTH and len(self.nodes) + len(order) < _MAX_NODES
        for node in order:
            call = self._called(node, "f") if node.op in _CALLS else self._functions.get(node.op)
            if call is None or not may_inline:
                made[node.name] = self._names.unique(node.name, scope)
        for node in order:
            inputs = [_source(text, made) for text in node.input]
            # What is cut from a loop of TensorFlow 1, and a dependency on a function that has no results, is unknown.
            sources = tuple(dict.fromkeys(each for each in inputs if each))
            call = self._called(node, "f") if node.op in _CALLS else self._functions.get(node.op)
            if node.name not in made and call is not None:
                made[node.name] = self._inlined(call, "%s/%s" % (scope, node.name), inputs, depth)
                continue
            for key in sorted(node.attr):
                body = self._called(node, key)
                if body is not None and may_inline:
                    given_inside = inputs[1:] if key in ("then_branch", "else_branch") else inputs
                    results = self._inlined(body, "%s/%s" % (made[node.name], key), given_inside, depth)
                    sources += tuple(each for each in results if each and each not in sources)
            operator = "VarHandleOp" if node.name in self._variables and not scope else node.op
            self.nodes.append(GraphNode(made[node.name], operator, sources, _shape(node), _texts(node)))
        return made

    def _inlined(self, function: Any, scope: str, inputs: Sequence[str], depth: int) -> List[str]:
        names = [argument.name for argument in function.signature.input_arg]
        made = self.nodes_of(function.node_def, scope, dict(zip(names, inputs)), depth + 1)
        return [_source(function.ret[each.name], made) for each in function.signature.output_arg]

    def _called(self, node: Any, key: str) -> Any:
        return self._functions.get(node.attr[key].func.name) if key in node.attr else None


def _sorted(definitions: Iterable[Any]) -> List[Any]:
    """Return nodes, each after those that it takes. A loop of TensorFlow 1 is cut at some node."""
    by_name = {node.name: node for node in definitions}
    order, entered = [], set()  # type: List[Any], Set[str]
    stack: List[Tuple[str, bool]] = [(name, False) for name in reversed(list(by_name))]
    while stack:
        name, done = stack.pop()
        if done:
            order.append(by_name[name])
        elif name not in entered:
            entered.add(name)
            stack.append((name, True))
            sources = [text.lstrip("^").partition(":")[0] for text in by_name[name].input]
            stack.extend((source, False) for source in reversed(sources) if source in by_name)
    return order


def _source(text: str, made: Dict[str, Any]) -> str:
    """Return the node of an input: "node", "node:1", "^node" or, in functions, "node:output:1". "" if there is none."""
    name, _, rest = text.lstrip("^").partition(":")
    found = made.get(name, "")
    if isinstance(found, str):
        return found
    index = int(rest.rpartition(":")[2] or 0)
    return found[index] if index < len(found) else (found[-1] if found else "")


def _shape(node: Any) -> Optional[Tuple[int, ...]]:
    shapes = node.attr[SHAPES].list.shape if SHAPES in node.attr else ()
    if not shapes or shapes[0].unknown_rank:
        return None
    return tuple(dim.size for dim in shapes[0].dim)


def _texts(node: Any) -> Dict[str, str]:
    found = {}
    for key, value in node.attr.items():
        kind = value.WhichOneof("value")
        if kind in ("i", "f", "b"):
            found[key] = str(getattr(value, kind))
        elif kind == "type":
            found[key] = tf.dtypes.as_dtype(value.type).name
        elif kind == "s" and len(value.s) <= 100:
            found[key] = value.s.decode("utf-8", "replace")
        elif kind == "list" and value.list.i:
            found[key] = str(list(value.list.i))
    return found
