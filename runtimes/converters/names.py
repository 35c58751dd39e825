"""Sets the names, order and number of a .tflite's inputs and outputs to those of the served model."""

from typing import Any, Dict, List, Sequence

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from runtimes.contract import TensorSpec
from runtimes.conversion import Refused, Step

_SIGNATURE = "serving_default"


def set_names(path: str, step: Step, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> None:
    """Rewrite the file with a single signature, that of the served model. Raises Refused.

    inputs, outputs  names that the file's signature or its tensors have, in the order of the step's inputs and
                     outputs; if empty, the file has them in that order already
    """
    model = flatbuffer_utils.read_model(path)
    graph = model.subgraphs[0]
    present = _signature_tensors(model)
    graph.inputs = _indices(graph, present.get("inputs", {}), list(graph.inputs), inputs, step.inputs)
    graph.outputs = _indices(graph, present.get("outputs", {}), list(graph.outputs), outputs, step.outputs)
    signature = schema.SignatureDefT()
    signature.signatureKey = _SIGNATURE
    signature.subgraphIndex = 0
    signature.inputs = _entries(graph, graph.inputs, step.inputs)
    signature.outputs = _entries(graph, graph.outputs, step.outputs)
    model.signatureDefs = [signature]
    flatbuffer_utils.write_model(model, path)


def _signature_tensors(model: Any) -> Dict[str, Dict[str, int]]:
    """Return name → index of the tensor, for the inputs and the outputs of the first subgraph's signature."""
    for signature in model.signatureDefs or []:
        if not signature.subgraphIndex:
            return {
                kind: {_text(entry.name): entry.tensorIndex for entry in getattr(signature, kind) or []}
                for kind in ("inputs", "outputs")
            }
    return {}


def _indices(
    graph: Any, named: Dict[str, int], present: List[int], names: Sequence[str], specs: Sequence[TensorSpec]
) -> List[int]:
    """Return the indices of the tensors in the order of `specs`."""
    if not names:
        if len(present) != len(specs):
            raise Refused("the converted model has %d tensors, but %d are served" % (len(present), len(specs)))
        return present
    by_name = dict({_text(graph.tensors[index].name): index for index in present}, **named)
    lost = [spec.name for name, spec in zip(names, specs) if name not in by_name]
    if lost:
        raise Refused("the converter removed '%s' from the model, because no output depends on it" % "', '".join(lost))
    return [by_name[name] for name in names]


def _entries(graph: Any, indices: Sequence[int], specs: Sequence[TensorSpec]) -> List[Any]:
    entries = []
    for index, spec in zip(indices, specs):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = spec.name, index
        entries.append(entry)
        graph.tensors[index].name = spec.name
    return entries


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else name
