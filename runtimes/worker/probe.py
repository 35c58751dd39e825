"""Warms up a model before its first request, and completes its signature by what the first request shows."""

import time
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from runtimes.contract import Model, Signature, TensorSpec, datatype_of, first_line, kind_of, numpy_dtype
from runtimes.worker.random_arrays import Random

# Sizes tried for variable dimensions, in this order, until the model accepts one: a guess, because nothing says what it
# accepts. A longer list lets more models warm up, and slows the loading of those that accept none.
FREE_SIZES = (8, 1, 64)


def warm_up(model: Model, sizes: Sequence[int], dim: int, runs: int) -> Tuple[List[Tuple[int, float]], str]:
    """Run the default signature on synthetic inputs, so that the first client does not wait for one-time setup.

    Returns (rows, seconds) of each run, and why there was none. A failure is not an error, because a model may have
    good reasons to refuse synthetic inputs.
    """
    name, signature = next(iter(model.signatures.items()))
    if not signature.inputs or any(spec.shape is None or not spec.datatype for spec in signature.inputs):
        return [], "its input shapes are not known"
    failed = ""
    for free_size in FREE_SIZES:
        durations = []
        try:
            for rows in list(sizes) or [1]:
                inputs = generate(signature, rows, dim, free_size, seed=0)
                for _ in range(runs):
                    began = time.monotonic()
                    model.infer(inputs, (), name)
                    durations.append((rows, time.monotonic() - began))
            return durations, ""
        except Exception as error:  # noqa: BLE001 - a model may refuse synthetic inputs with any exception
            failed = first_line(error)
    return [], failed


def generate(signature: Signature, rows: int, dim: int, free_size: int, seed: int) -> Dict[str, np.ndarray]:
    """Return inputs that fit the signature: small numbers, with `free_size` for variable dimensions except `dim`."""
    random = Random(seed)
    inputs = {}
    for spec in signature.inputs:
        sizes = [
            size if size >= 0 else (rows if axis == dim else free_size) for axis, size in enumerate(spec.shape or ())
        ]
        inputs[spec.name] = _values(random, spec.datatype, sizes)
    return inputs


def _values(random: Random, datatype: str, shape: List[int]) -> np.ndarray:
    if datatype == "BYTES":
        array = np.empty(shape, dtype=object)
        array.fill(b"1")
        return array
    dtype = numpy_dtype(datatype)
    if kind_of(datatype) == "float":
        return random.uniform(0, 1, shape).astype(dtype)
    return random.randint(0, 2, shape).astype(dtype)


def fill_gaps(
    signature: Signature,
    inputs: Dict[str, np.ndarray],
    outputs: Dict[str, np.ndarray],
    batch_dim: Optional[int],
    refused: Dict[str, str],
) -> Signature:
    """Return the signature with its gaps filled by the arrays of a successful request.

    A gap is a missing shape or datatype, or the missing list of outputs. refused: the model's current value of
    Signature.refused.
    """

    def spec_of(name: str, array: np.ndarray) -> TensorSpec:
        shape = [-1 if axis == batch_dim else size for axis, size in enumerate(array.shape)]
        return TensorSpec(name, datatype_of(array.dtype), tuple(shape))

    def fill(spec: TensorSpec, arrays: Dict[str, np.ndarray]) -> TensorSpec:
        return spec_of(spec.name, arrays[spec.name]) if _is_gap(spec) and spec.name in arrays else spec

    known_outputs = signature.outputs or tuple(TensorSpec(name) for name in outputs)
    return signature._replace(
        inputs=tuple(fill(spec, inputs) for spec in signature.inputs),
        outputs=tuple(fill(spec, outputs) for spec in known_outputs if spec.name not in refused),
        refused=refused,
    )


def has_gaps(signature: Signature) -> bool:
    """Return whether `fill_gaps` has something to fill."""
    return not signature.outputs or any(_is_gap(spec) for spec in signature.inputs + signature.outputs)


def _is_gap(spec: TensorSpec) -> bool:
    return spec.shape is None or not spec.datatype
