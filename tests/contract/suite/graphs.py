"""Checks of the graph and of the times that a profile shows."""

import importlib
import json
import os

from .model import TestedModel
from runtimes.profiling import GraphNode, OperatorProfile

# Clocks of whole microseconds may be off by this much for each operator.
_CLOCK_US = 2.0


class GraphChecks(TestedModel):
    def check_graph(self):
        """Nodes have unique names and take each other's outputs, there is a placeholder for each input, and all of it
        can be sent as JSON."""
        if not self.has("graph.py"):
            return
        graph = self.graph()
        assert [GraphNode.from_json(json.loads(json.dumps(node))) for node in graph] == graph
        nodes = {node.name: node for node in graph}
        assert len(nodes) == len(graph), sorted(node.name for node in graph)
        for node in graph:
            assert set(node.inputs) <= set(nodes), node
            assert node.operator != "Placeholder" or not node.inputs, node
        placeholders = [node for node in graph if node.operator == "Placeholder"]
        # An argument that contains several inputs is one placeholder.
        assert len(placeholders) >= self.case.get("placeholders", len(self.signature.inputs)), nodes
        for name, operator in self.case.get("graph", {}).items():
            assert nodes[name].operator == operator, nodes

    def check_operators(self):
        """Operators belong to nodes of the graph, or there is a reason why not, and run within the inference."""
        expected = self.case.get("operators")
        if expected is None or not self.has("operators.py"):
            return
        operators = importlib.import_module(self.runtime.__package__ + ".operators")
        profile = operators.time_operators(self.model, self.inputs, self.name)
        assert OperatorProfile.from_json(json.loads(json.dumps(profile.to_json()))) == profile
        if expected == "unknown":
            assert not profile.operators and profile.limits, profile
            assert profile.duration_us == profile.unprofiled_us > 0, profile
            return
        nodes = {node.name for node in self.graph()}
        assert any(not each.note for each in profile.operators), profile
        for each in profile.operators:
            assert each.node in nodes or each.note, each
            assert set(each.joined) <= nodes, each
            assert 0 <= each.duration_us <= each.total_us, each
            assert each.start_us >= -_CLOCK_US, each
        starts = [each.start_us for each in profile.operators]
        assert starts == sorted(starts), starts
        for device, lane in {(each.device, each.lane) for each in profile.operators}:
            own = [each.duration_us for each in profile.operators if (each.device, each.lane) == (device, lane)]
            assert sum(own) <= profile.duration_us + _CLOCK_US * len(own), (device, lane, profile)
        assert profile.runs >= 3 and profile.unprofiled_us > 0, profile
        assert any(letter.isdigit() for letter in profile.profiler), profile.profiler
        for name, operator in expected.items():
            ran = [each.operator for each in profile.operators if each.node == name]
            assert operator in ran, (name, ran, profile.operators)
        for operator, count in self.case.get("executions", {}).items():
            assert sum(each.operator == operator for each in profile.operators) == count, (operator, profile)

    def has(self, name):
        """Return whether the runtime has this file; those that tests make lack some."""
        return os.path.exists(os.path.join(os.path.dirname(self.runtime.__file__), name))

    def graph(self):
        return importlib.import_module(self.runtime.__package__ + ".graph").read_graph(self.model, self.name)
