"""What a worker does with its model before the first request, to have it warm; and what the first request shows."""

import time
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from runtimes.contract import Model, Signature, TensorSpec, datatype_of, first_line, kind_of, numpy_dtype

# What a dimension of any size gets, until one of them works.
FREE_SIZES = (8, 1, 64)


def warm_up(model: Model, sizes: Sequence[int], dim: int, runs: int) -> Tuple[List[Tuple[int, float]], str]:
    """Run the default signature with invented inputs, so that the first client does not wait for it.

    Gives (rows, seconds) of each run, and why there was none: an invented input that the model refuses
    says nothing about the model.
    """
    name, signature = next(iter(model.signatures.items()))
    if not signature.inputs or any(spec.shape is None or not spec.datatype for spec in signature.inputs):
        return [], "its input shapes are not known"
    failed = ""
    for free in FREE_SIZES:
        took = []
        try:
            for rows in list(sizes) or [1]:
                inputs = generate(signature, rows, dim, free, seed=0)
                for _ in range(runs):
                    began = time.monotonic()
                    model.infer(inputs, (), name)
                    took.append((rows, time.monotonic() - began))
            return took, ""
        except Exception as error:  # noqa: BLE001 - as above
            failed = first_line(error)
    return [], failed


def generate(signature: Signature, rows: int, dim: int, free: int, seed: int) -> Dict[str, np.ndarray]:
    """Inputs that fit the signature: small numbers, `free` in place of any size but the batch dimension's."""
    random = np.random.RandomState(seed)
    inputs = {}
    for spec in signature.inputs:
        sizes = [size if size >= 0 else (rows if axis == dim else free) for axis, size in enumerate(spec.shape or ())]
        inputs[spec.name] = _values(random, spec.datatype, sizes)
    return inputs


def _values(random: np.random.RandomState, datatype: str, shape: List[int]) -> np.ndarray:
    if datatype == "BYTES":
        array = np.empty(shape, dtype=object)
        array.fill(b"1")
        return array
    dtype = numpy_dtype(datatype)
    if kind_of(datatype) == "float":
        return random.uniform(0, 1, shape).astype(dtype)
    return random.randint(0, 2, shape).astype(dtype)


def learned(
    signature: Signature,
    inputs: Dict[str, np.ndarray],
    outputs: Dict[str, np.ndarray],
    batch_dim: Optional[int],
    refused: Dict[str, str],
) -> Signature:
    """The signature with its gaps filled by what a request that worked showed. refused: as the model says by now."""

    def spec_of(name: str, array: np.ndarray) -> TensorSpec:
        shape = [-1 if axis == batch_dim else size for axis, size in enumerate(array.shape)]
        return TensorSpec(name, datatype_of(array.dtype), tuple(shape))

    def fill(spec: TensorSpec, arrays: Dict[str, np.ndarray]) -> TensorSpec:
        return spec_of(spec.name, arrays[spec.name]) if _is_gap(spec) and spec.name in arrays else spec

    known_outputs = signature.outputs or tuple(TensorSpec(name) for name in outputs)
    return Signature(
        tuple(fill(spec, inputs) for spec in signature.inputs),
        tuple(fill(spec, outputs) for spec in known_outputs if spec.name not in refused),
        refused,
    )


def has_gaps(signature: Signature) -> bool:
    return not signature.outputs or any(_is_gap(spec) for spec in signature.inputs + signature.outputs)


def _is_gap(spec: TensorSpec) -> bool:
    return spec.shape is None or not spec.datatype
