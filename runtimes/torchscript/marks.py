"""Lets the nodes of a loaded model announce themselves to PyTorch's profiler while they run."""

import torch
from torch.fx import GraphModule

from .exported_graph import named_nodes_of_exported
from .scripted_graph import named_nodes_of_scripted

# Distinguishes these marks from those that a model itself may set.
MARK = "modelport node: "
_ENTER = "profiler::_record_function_enter_new"


def mark(module: torch.nn.Module) -> None:
    """Mark the nodes of a module that has not run yet, by the names that they have in the graph of a profile."""
    if isinstance(module, torch.jit.ScriptModule):
        _mark_scripted(module)
    else:
        assert isinstance(module, GraphModule)
        _mark_exported(module)


def _mark_scripted(module: torch.jit.ScriptModule) -> None:
    graph = module.graph
    torch._C._jit_pass_inline(graph)
    handle = torch._C._jit_get_schemas_for_operator(_ENTER)[0].returns[0].type
    for node, name in named_nodes_of_scripted(module, graph):
        if node.kind().startswith("prim::"):  # these run no operators of their own
            continue
        text, nothing = graph.insertConstant(MARK + name), graph.insertConstant(None)
        for constant in (text, nothing):
            constant.node().moveBefore(node)
        enter = graph.create(_ENTER, [text, nothing], 1)
        enter.output().setType(handle)
        enter.insertBefore(node)
        graph.create("profiler::_record_function_exit", [enter.output()], 0).insertAfter(node)


def _mark_exported(module: GraphModule) -> None:
    changed = []
    for node, name in named_nodes_of_exported(module):
        graph = node.graph
        with graph.inserting_before(node):
            handle = graph.call_function(torch.ops.profiler._record_function_enter_new.default, (MARK + name, None))
        with graph.inserting_after(node):
            graph.call_function(torch.ops.profiler._record_function_exit._RecordFunction, (handle,))
        changed.append(node.graph.owning_module)
    for each in {id(each): each for each in changed}.values():
        each.recompile()
