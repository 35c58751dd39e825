"""The graph of the translated model, for a profile."""

from typing import List

from runtimes.contract import Model
from runtimes.onnx.graph import graph_of
from runtimes.onnx.runtime import OnnxModel
from runtimes.profiling import GraphNode

from .runtime import translated


def read_graph(model: Model, signature: str) -> List[GraphNode]:
    assert isinstance(model, OnnxModel)
    return graph_of(translated(model.options), model.options)
