"""Checks of the graph that a profile shows."""

import importlib
import json
import os

from .model import TestedModel
from runtimes.profiling import GraphNode


class GraphChecks(TestedModel):
    def check_graph(self):
        """Nodes have unique names and take each other's outputs, there is a placeholder for each input, and all of it
        can be sent as JSON."""
        if not os.path.exists(os.path.join(os.path.dirname(self.runtime.__file__), "graph.py")):
            return
        graph = importlib.import_module(self.runtime.__package__ + ".graph").read_graph(self.model, self.name)
        assert [GraphNode.from_json(json.loads(json.dumps(node))) for node in graph] == graph
        nodes = {node.name: node for node in graph}
        assert len(nodes) == len(graph), sorted(node.name for node in graph)
        for node in graph:
            assert set(node.inputs) <= set(nodes), node
            assert node.operator not in ("Const", "Placeholder") or not node.inputs, node
        placeholders = [node for node in graph if node.operator == "Placeholder"]
        assert len(placeholders) >= len(self.signature.inputs), nodes
        for name, operator in self.case.get("graph", {}).items():
            assert nodes[name].operator == operator, nodes
