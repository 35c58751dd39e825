"""example.json: one of the proof's inputs and what the original answered, for whoever runs the export elsewhere."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gateway.export import interface, proof
from gateway.export.cases import Arrays, Case
from runtimes.contract import Signature, TensorSpec, numpy_dtype

# Of the largest value: by how much other processors' float32 may differ beyond the proof's own tolerance. What is
# wrong differs by far more, and an answer that is small by chance need not alarm anybody.
_ELSEWHERE = 1e-3


def example_json(
    answered: Sequence[tuple[Case, Arrays]], exported: Signature, batches: bool, tolerance: float
) -> dict[str, Any]:
    """As example.json has it: values in one flat list, row by row, by the export's datatypes.

    An output's `scale` is what its largest difference is divided by before it is compared with `tolerance`, which
    is a little more than the proof's.
    """
    case, expected = _first(answered, exported)
    inputs, outputs = case.inputs, expected
    if batches:
        inputs, outputs = ({name: array[:1] for name, array in arrays.items()} for arrays in (inputs, outputs))
    scales = {
        spec.name: proof.scale(outputs[spec.name], [e[spec.name] for _, e in answered]) for spec in exported.outputs
    }
    return {
        "case": case.name,
        "tolerance": tolerance + _ELSEWHERE,
        "inputs": {spec.name: _tensor(spec, inputs[spec.name]) for spec in exported.inputs},
        "outputs": {
            spec.name: {**_tensor(spec, outputs[spec.name]), "scale": scales[spec.name]} for spec in exported.outputs
        },
    }


def _first(answered: Sequence[tuple[Case, Arrays]], exported: Signature) -> tuple[Case, Arrays]:
    """The first whose values the export can be given."""
    for case, expected in answered:
        try:
            interface.cast(case.inputs, exported.inputs)
        except OverflowError:
            continue
        return case, expected
    return answered[0]


def _tensor(spec: TensorSpec, array: np.ndarray) -> dict[str, Any]:
    made = array.astype(numpy_dtype(spec.datatype))
    return {"datatype": spec.datatype, "shape": list(array.shape), "data": _values(made)}


def _values(array: np.ndarray) -> list[Any]:
    """Numbers by their shortest text, and what JSON has no number for as text that JavaScript and Python read."""
    if array.dtype.kind != "f":
        return array.astype(np.int64 if array.dtype.kind != "u" else np.uint64).ravel().tolist()
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    texts = array.ravel().astype(array.dtype, copy=False).astype(str).tolist()
    return [words[text] if text in words else float(text) for text in texts]


def dump(example: Mapping[str, Any]) -> str:
    return json.dumps(example, allow_nan=False) + "\n"
