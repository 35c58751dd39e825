"""What a worker finds out about its model before the first request: does batching hold, is it warm."""

import time
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from runtimes.contract import DATATYPES, Model, Signature, TensorSpec, datatype_of, first_line

# What a dimension of any size gets, until one of them works.
_FREE_SIZES = (8, 1, 64)
_ROWS = (1, 2)
_HOW_TO_TURN_ON = "; max_batch_size in model.toml turns it on"
_HOW_TO_PAD = "; batch_sizes = [%d] in model.toml fills batches up"
DEFAULT_MAX_ROWS = 32


class Verdict(NamedTuple):
    """The signatures for which batching is true, and the sentence for the log when it is off."""

    signatures: FrozenSet[str]
    reason: str = ""


def with_free_rows(signatures: Dict[str, Signature], sizes: Sequence[int], dim: int) -> Dict[str, Signature]:
    """An artifact with a fixed batch takes any number of rows when model.toml declares that size: they are padded."""

    def freed(spec: TensorSpec) -> TensorSpec:
        if spec.shape is None or len(spec.shape) <= dim or spec.shape[dim] not in sizes:
            return spec
        return spec._replace(shape=spec.shape[:dim] + (-1,) + spec.shape[dim + 1 :])

    return {
        name: Signature(
            tuple(freed(spec) for spec in signature.inputs),
            tuple(freed(spec) for spec in signature.outputs),
            signature.refused,
        )
        for name, signature in signatures.items()
    }


def declared(model: Model, dim: int) -> Verdict:
    """Batching that model.toml asks for: every signature whose shapes do not contradict it."""
    names = [
        name
        for name, signature in model.signatures.items()
        if all(_is_free(spec, dim, unknown=True) for spec in signature.inputs)
    ]
    return Verdict(frozenset(names), "" if names else "no signature has a free dimension %d in all its inputs" % dim)


def detect(model: Model) -> Verdict:
    """Batching that the artifact allows: first dimensions dynamic, and f(a‖b) = f(a)‖f(b) when tried."""
    proven, reason = [], ""
    for name, signature in model.signatures.items():
        why = _why_not(model, name, signature)
        if not why:
            proven.append(name)
        reason = reason or why
    if reason and "model.toml" not in reason:
        reason += _HOW_TO_TURN_ON
    return Verdict(frozenset(proven), "" if proven else reason)


def _why_not(model: Model, name: str, signature: Signature) -> str:
    for spec in signature.inputs + signature.outputs:
        if spec.shape is None:
            return "the artifact does not tell the shape of '%s'" % spec.name
        if not spec.shape:
            return "'%s' is a scalar" % spec.name
        if not _is_free(spec, 0, unknown=False):
            return "the first dimension of '%s' is fixed%s" % (spec.name, _HOW_TO_PAD % spec.shape[:1])
    if not signature.inputs or not signature.outputs:
        return "the artifact does not tell inputs and outputs"
    failed = ""
    for free in _FREE_SIZES:
        parts = [generate(signature, rows, 0, free, seed=rows) for rows in _ROWS]
        try:
            apart = [model.infer(part, (), name) for part in parts]
            joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            together = model.infer(joined, (), name)
        except Exception as error:  # noqa: BLE001 - a model may refuse invented inputs in any way it likes
            failed = "a trial run failed: " + first_line(error)
            continue
        for key, array in together.items():
            if not _equal(array, [part[key] for part in apart]):
                return "output '%s' of two requests run together differs from the two run apart" % key
        return ""
    return failed


def warm_up(model: Model, sizes: Sequence[int], dim: int, runs: int) -> Tuple[List[Tuple[int, float]], str]:
    """Run the default signature with invented inputs, so that the first client does not wait for it.

    Gives (rows, seconds) of each run, and why there was none: an invented input that the model refuses
    says nothing about the model.
    """
    name, signature = next(iter(model.signatures.items()))
    if not signature.inputs or any(spec.shape is None or not spec.datatype for spec in signature.inputs):
        return [], "its input shapes are not known"
    failed = ""
    for free in _FREE_SIZES:
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
    dtype = DATATYPES[datatype]
    if dtype.kind == "f":
        return random.uniform(0, 1, shape).astype(dtype)
    return random.randint(0, 2, shape).astype(dtype)


def _equal(together: np.ndarray, apart: List[np.ndarray]) -> bool:
    try:
        expected = np.concatenate(apart)
    except ValueError:
        return False
    if together.shape != expected.shape:
        return False
    if together.dtype.kind != "f":
        return bool(np.array_equal(together, expected))
    return bool(np.allclose(together, expected, rtol=1e-3, atol=1e-5, equal_nan=True))


def _is_free(spec: TensorSpec, dim: int, unknown: bool) -> bool:
    if spec.shape is None:
        return unknown
    return len(spec.shape) > dim and spec.shape[dim] == -1


def learned(
    signature: Signature, inputs: Dict[str, np.ndarray], outputs: Dict[str, np.ndarray], batch_dim: Optional[int]
) -> Signature:
    """The signature with its gaps filled by what a request that worked showed."""

    def spec_of(name: str, array: np.ndarray) -> TensorSpec:
        shape = [-1 if axis == batch_dim else size for axis, size in enumerate(array.shape)]
        return TensorSpec(name, datatype_of(array.dtype), tuple(shape))

    def fill(spec: TensorSpec, arrays: Dict[str, np.ndarray]) -> TensorSpec:
        return spec_of(spec.name, arrays[spec.name]) if _is_gap(spec) and spec.name in arrays else spec

    known_outputs = signature.outputs or tuple(TensorSpec(name) for name in outputs)
    return Signature(
        tuple(fill(spec, inputs) for spec in signature.inputs),
        tuple(fill(spec, outputs) for spec in known_outputs),
        signature.refused,
    )


def has_gaps(signature: Signature) -> bool:
    return not signature.outputs or any(_is_gap(spec) for spec in signature.inputs + signature.outputs)


def _is_gap(spec: TensorSpec) -> bool:
    return spec.shape is None or not spec.datatype
