"""Reads the graph of a PyTorch model for a profile. Modules are scopes; operators have the names of the profiler."""

from typing import List

import torch

from runtimes.contract import Model, Unsupported
from runtimes.profiling import GraphNode

from .exported_graph import nodes_of_exported
from .program import TorchModel
from .scripted_graph import nodes_of_scripted


def read_graph(model: Model, signature: str) -> List[GraphNode]:
    assert isinstance(model, TorchModel)
    module = model.program.module
    if module is None:
        raise Unsupported("the file has no graph to show: AOTInductor has compiled it into a library")
    return nodes_of_scripted(module) if isinstance(module, torch.jit.ScriptModule) else nodes_of_exported(module)
