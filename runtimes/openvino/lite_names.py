"""Names of inputs and outputs in the SignatureDef of a .tflite file, which OpenVINO does not read.

The numbers are those of the fields in TensorFlow Lite's schema.
"""

from typing import Dict

from runtimes.flatbuffer import MALFORMED, Flat

_SUBGRAPHS, _SIGNATURES = 2, 7  # of a model
_TENSORS = 0  # of a subgraph
_TENSOR_NAME = 3
_INPUTS, _OUTPUTS, _KEY, _SUBGRAPH = 0, 1, 2, 4  # of a SignatureDef
_NAME, _TENSOR = 0, 1  # of an entry in it


def signature_names(path: str) -> Dict[str, str]:
    """Return the names by those of the tensors: of `serving_default`, or else of the first signature by name.

    Whatever cannot be read has no names; OpenVINO reports what is wrong with the file.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        return _names(Flat.root(content))
    except MALFORMED:
        return {}


def _names(model: Flat) -> Dict[str, str]:
    signatures = [each for each in model.tables(_SIGNATURES) if not each.uint32(_SUBGRAPH)]
    signatures.sort(key=lambda each: (each.text(_KEY) != "serving_default", each.text(_KEY)))
    if not signatures:
        return {}
    tensors = list(next(model.tables(_SUBGRAPHS)).tables(_TENSORS))
    entries = [each for field in (_INPUTS, _OUTPUTS) for each in signatures[0].tables(field)]
    return {tensors[each.uint32(_TENSOR)].text(_TENSOR_NAME): each.text(_NAME) for each in entries}
