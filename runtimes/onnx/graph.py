"""Reads the graph of an ONNX model for a profile, as ONNX Runtime has optimized it, because its nodes are what runs.

A constant is in the scope of the first node that takes it, since exporters name weights otherwise than nodes.
"""

import os
import tempfile
from typing import Any, Dict, List, NamedTuple, Tuple, Union

import onnxruntime as ort

from runtimes.contract import LoadOptions, Model
from runtimes.dataflow.graph import Graph, Node
from runtimes.profiling import GraphNode, Names, scope_of

from .analysis.file import of_file
from .ort_format import read_model
from .private import private_copy
from .runtime import OnnxModel
from .session import new_session


def read_graph(model: Model, signature: str) -> List[GraphNode]:
    assert isinstance(model, OnnxModel)
    with private_copy(model.options.artifact) as path:
        return graph_of(path, model.options)


def graph_of(model: Union[str, bytes], options: LoadOptions) -> List[GraphNode]:
    """Return the optimized graph of a file, or of the bytes of a translated model."""
    return optimized(model, options, ort.SessionOptions()).nodes


class Optimized(NamedTuple):
    """A session, and the graph that it runs.

    named  the nodes as ONNX Runtime has written them, in its order, with their names in `nodes`
    """

    session: ort.InferenceSession
    nodes: List[GraphNode]
    named: List[Tuple[Node, str]]


def optimized(model: Union[str, bytes], options: LoadOptions, settings: ort.SessionOptions) -> Optimized:
    """Load a file, or the bytes of a translated model, and return its graph as well. Raises LoadError."""
    with tempfile.TemporaryDirectory(prefix="modelport-graph-") as folder:
        settings.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        try:
            session = new_session(model, options, settings)
            return Optimized(session, *_Reader().read(of_file(settings.optimized_model_filepath).graph))
        except Exception as error:  # noqa: BLE001 - more than 2 GiB, or a provider that does not write what it made
            print("ONNX Runtime does not write the optimized graph, so the original is shown: %s" % error)
    settings.optimized_model_filepath = ""
    return Optimized(new_session(model, options, settings), *_Reader().read(read_model(model).graph))


class _Reader:
    def __init__(self) -> None:
        self._names = Names()
        self._found: List[GraphNode] = []
        self._named: List[Tuple[Node, str]] = []

    def read(self, graph: Graph) -> Tuple[List[GraphNode], List[Tuple[Node, str]]]:
        self._graph(graph, "", {})
        return self._found, self._named

    def _graph(self, graph: Graph, scope: str, outer: Dict[str, str]) -> List[str]:
        """Add a graph's nodes. Returns the nodes of its outputs. outer: tensor → node, of the enclosing graphs."""
        made = dict(outer)
        constants = {tensor.name: tensor for tensor in graph.constants}
        for name, sizes in graph.inputs:
            if name in constants:
                continue
            shape = None if sizes is None else tuple(size if isinstance(size, int) else -1 for size in sizes)
            made[name] = self._add(GraphNode(self._names.unique(name, scope), "Placeholder", (), shape))
        for node in graph.nodes:
            named = self._names.unique(_preferred(node), scope)
            self._named.append((node, named))
            for tensor in node.inputs:
                if tensor in constants and tensor not in made:
                    made[tensor] = self._constant(constants[tensor], scope_of(named))
            inputs = [made[tensor] for tensor in node.inputs if tensor in made]
            for key, value in node.attributes.items():
                for number, part in enumerate(value if isinstance(value, list) else [value]):
                    if isinstance(part, Graph):
                        inner = "%s/%s%s" % (named, key, "_%d" % number if number else "")
                        inputs += self._graph(part, inner, made)
            self._add(GraphNode(named, node.operator, tuple(inputs), None, _texts(node)))
            made.update((tensor, named) for tensor in node.outputs if tensor)
        return [made[name] for name in graph.outputs if name in made]

    def _constant(self, tensor: Any, scope: str) -> str:
        last = tensor.name.rpartition("/")[2].rpartition(".")[2]
        return self._add(GraphNode(self._names.unique(last, scope), "Const", (), tensor.dims))

    def _add(self, node: GraphNode) -> str:
        self._found.append(node)
        return node.name


def _preferred(node: Node) -> str:
    """Return a node's name, or that of its output if it has none, as after ONNX Runtime joined nodes ("fused ")."""
    if node.name and not node.name.startswith("fused "):
        return node.name
    output = next((name for name in node.outputs if name), "")
    return output if any(letter.isalpha() for letter in output) else "%s_%s" % (node.operator, output)


def _texts(node: Node) -> Dict[str, str]:
    found = {"domain": node.domain} if node.domain else {}
    for key, value in node.attributes.items():
        if isinstance(value, (int, float, str)) or (
            isinstance(value, list) and all(isinstance(each, (int, float, str)) for each in value)
        ):
            found[key] = str(value)
    return found
