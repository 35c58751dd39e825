"""example.json: one of the compared inputs with the original's answer, to check the export on another machine."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gateway.export import comparison, interface
from gateway.export.cases import Arrays, Case
from runtimes.contract import Signature, TensorSpec, numpy_dtype
from runtimes.tensors import widened

# Added to the tolerance, relative to the largest value, because other processors round float32 differently. Errors are
# far larger. Too small, and a page would warn on correct hardware.
_OTHER_HARDWARE = 1e-3


def example_json(
    answered: Sequence[tuple[Case, Arrays]], exported: Signature, batches: bool, tolerance: float
) -> dict[str, Any]:
    """Return the content of example.json: values in flat lists, row by row, in the export's datatypes.

    An output's largest difference is divided by its `scale` and then compared with `tolerance`, which is slightly
    larger than the one of the export.
    """
    case, expected = _first_accepted(answered, exported)
    inputs, outputs = case.inputs, expected
    if batches:
        inputs, outputs = ({name: array[:1] for name, array in arrays.items()} for arrays in (inputs, outputs))
    scales = {
        spec.name: comparison.scale(outputs[spec.name], [arrays[spec.name] for _, arrays in answered])
        for spec in exported.outputs
    }
    return {
        "case": case.name,
        "tolerance": tolerance + _OTHER_HARDWARE,
        "inputs": {spec.name: _tensor(spec, inputs[spec.name]) for spec in exported.inputs},
        "outputs": {
            spec.name: {**_tensor(spec, outputs[spec.name]), "scale": scales[spec.name]} for spec in exported.outputs
        },
    }


def _first_accepted(answered: Sequence[tuple[Case, Arrays]], exported: Signature) -> tuple[Case, Arrays]:
    """Return the first case whose values the export's datatypes can hold."""
    for case, expected in answered:
        try:
            interface.cast(case.inputs, exported.inputs)
        except OverflowError:
            continue
        return case, expected
    return answered[0]


def _tensor(spec: TensorSpec, array: np.ndarray) -> dict[str, Any]:
    data = _values(array.astype(numpy_dtype(spec.datatype)))
    return {"datatype": spec.datatype, "shape": list(array.shape), "data": data}


def _values(array: np.ndarray) -> list[Any]:
    """Return floats by their shortest text; NaN and infinities, which JSON lacks, as words that JS and Python parse."""
    array = widened(array)
    if array.dtype.kind != "f":
        return array.astype(np.int64 if array.dtype.kind != "u" else np.uint64).ravel().tolist()
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    texts = array.ravel().astype(array.dtype, copy=False).astype(str).tolist()
    return [words[text] if text in words else float(text) for text in texts]


def dump(example: Mapping[str, Any]) -> str:
    return json.dumps(example, allow_nan=False) + "\n"
