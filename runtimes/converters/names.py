"""The names, order and number of a .tflite's inputs and outputs, set to those of the served model."""

from typing import Any, Dict, List, Sequence

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from runtimes.contract import TensorSpec
from runtimes.conversion import Refused, Step

_SIGNATURE = "serving_default"


def set_names(path: str, step: Step, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> None:
    """Rewrite the file with one signature, that of the served model.

    inputs, outputs  what the file calls those of the step, in the step's order, in its signature or as tensors;
                     empty: it has them in the step's order
    """
    model = flatbuffer_utils.read_model(path)
    graph = model.subgraphs[0]
    told = _told(model)
    graph.inputs = _places(graph, told.get("inputs", {}), list(graph.inputs), inputs, step.inputs)
    graph.outputs = _places(graph, told.get("outputs", {}), list(graph.outputs), outputs, step.outputs)
    signature = schema.SignatureDefT()
    signature.signatureKey = _SIGNATURE
    signature.subgraphIndex = 0
    signature.inputs = _entries(graph, graph.inputs, step.inputs)
    signature.outputs = _entries(graph, graph.outputs, step.outputs)
    model.signatureDefs = [signature]
    flatbuffer_utils.write_model(model, path)


def _told(model: Any) -> Dict[str, Dict[str, int]]:
    for signature in model.signatureDefs or []:
        if not signature.subgraphIndex:
            return {
                kind: {_text(entry.name): entry.tensorIndex for entry in getattr(signature, kind) or []}
                for kind in ("inputs", "outputs")
            }
    return {}


def _places(
    graph: Any, told: Dict[str, int], present: List[int], names: Sequence[str], specs: Sequence[TensorSpec]
) -> List[int]:
    """The tensors, in the order of `specs`."""
    if not names:
        if len(present) != len(specs):
            raise Refused("the converted model has %d tensors where %d are served" % (len(present), len(specs)))
        return present
    by_name = dict({_text(graph.tensors[place].name): place for place in present}, **told)
    lost = [spec.name for name, spec in zip(names, specs) if name not in by_name]
    if lost:
        raise Refused(
            "the converter removed '%s' from the model: it does not matter to the outputs" % "', '".join(lost)
        )
    return [by_name[name] for name in names]


def _entries(graph: Any, places: Sequence[int], specs: Sequence[TensorSpec]) -> List[Any]:
    entries = []
    for place, spec in zip(places, specs):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = spec.name, place
        entries.append(entry)
        graph.tensors[place].name = spec.name
    return entries


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else name
