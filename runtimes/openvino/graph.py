"""The graph of a profile: the one that OpenVINO has compiled, whose nodes are the ones that run."""

from typing import Any, Dict, List, Tuple

from runtimes.contract import Model
from runtimes.profiling import GraphNode, Names

from .runtime import OpenVinoModel

_KINDS = {"Input": "Placeholder", "Parameter": "Placeholder", "Const": "Const", "Constant": "Const"}


def read_graph(model: Model, signature: str) -> List[GraphNode]:
    assert isinstance(model, OpenVinoModel)
    return list(compiled_nodes(model.compiled).values())


def compiled_nodes(compiled: Any) -> Dict[str, GraphNode]:
    """Return the nodes by OpenVINO's names of them, in the order in which they run."""
    names, made = Names(), {}  # type: Names, Dict[str, GraphNode]
    for node in compiled.get_runtime_model().get_ordered_ops():
        about = {key: node.rt_info[key].astype(str) for key in ("layerType", "originalLayersNames", "primitiveType")}
        sources = [each.node.friendly_name for each in node.input_values()]
        inputs = tuple(made[each].name for each in sources if each in made)
        kind, attributes = about["layerType"], {"computes": about["originalLayersNames"], "by": about["primitiveType"]}
        name = names.unique(node.friendly_name)
        made[node.friendly_name] = GraphNode(name, _KINDS.get(kind, kind), inputs, _shape(node), attributes)
    return made


def _shape(node: Any) -> Any:
    if not node.get_output_size():
        return None
    shape = node.get_output_partial_shape(0)
    if shape.rank.is_dynamic:
        return None
    sizes: Tuple[int, ...] = tuple(int(size.get_length()) if size.is_static else -1 for size in shape)
    return sizes
