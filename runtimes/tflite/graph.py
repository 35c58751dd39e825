"""Reads the graph of a .tflite file for a profile. An operator has the name of its output, as converters divide it."""

from typing import Any, List

from ai_edge_litert import schema_py_generated as schema

from runtimes.contract import Model
from runtimes.dataflow.graph import Graph
from runtimes.profiling import GraphNode, Names, scope_of

from .analysis.file import SHAPE, Reader
from .runtime import LiteRtModel


def read_graph(model: Model, signature: str) -> List[GraphNode]:
    assert isinstance(model, LiteRtModel)
    number = model.entries[signature].subgraph
    reader = _Reader(schema.Model.GetRootAs(model.content).Subgraphs(number))
    reader.graph(Reader(model.content).graph(number))
    return reader.nodes


class _Reader:
    """Reads the subgraph of a signature. The bodies of its branches and loops are not shown."""

    def __init__(self, subgraph: Any) -> None:
        self.nodes: List[GraphNode] = []
        self._subgraph = subgraph
        self._names = Names()

    def graph(self, graph: Graph) -> None:
        made = {}
        constants = {tensor.name for tensor in graph.constants}
        for name, _ in graph.inputs:
            made[name] = self._tensor(name, "Placeholder")
        for node in graph.nodes:
            named = self._names.unique(_label(node.name) or node.operator)
            for name in node.inputs:
                if name in constants and name not in made:
                    made[name] = self._tensor(name, "Const", scope_of(named))
            shape = node.attributes.get(SHAPE)
            texts = {
                key: str(value) for key, value in node.attributes.items() if isinstance(value, (int, float, bool, list))
            }
            self.nodes.append(
                GraphNode(
                    named,
                    node.operator,
                    tuple(made[name] for name in node.inputs if name in made),
                    None if shape is None else tuple(shape),
                    texts,
                )
            )
            made.update((name, named) for name in node.outputs)

    def _tensor(self, number: str, kind: str, scope: str = "") -> str:
        tensor = self._subgraph.Tensors(int(number))
        read = tensor.ShapeSignature if tensor.ShapeSignatureLength() else tensor.Shape
        shape = tuple(int(read(axis)) for axis in range(tensor.ShapeLength()))
        label = _label((tensor.Name() or b"").decode("utf-8", "replace"))
        named = self._names.unique(label if "/" in label else "%s/%s" % (scope, label or number))
        self.nodes.append(GraphNode(named, kind, (), shape))
        return named


def _label(name: str) -> str:
    """Return one of the names that a converter joins if it fuses operators: "dense/MatMul;dense/BiasAdd"."""
    return name.split(";")[0]
