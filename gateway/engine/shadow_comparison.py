"""Compares a shadow's answer to that of the version which it shadows. Called in a thread, since arrays may be large."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gateway.domain import differences
from runtimes.tensors import Tensor, to_array, widened


class OutputComparison(NamedTuple):
    """One output. same, different: see OutputDifferences."""

    name: str
    absolute: float
    relative: float
    same: int = 0
    different: int = 0


def compare(original: Sequence[Tensor], shadow: Sequence[Tensor]) -> tuple[str, list[OutputComparison]]:
    """Return the outcome (shadow_metrics.OUTCOMES), and how much each output differs if the answers have one form."""
    others = {tensor.name: tensor for tensor in shadow}
    found = []
    for tensor in original:
        other = others.get(tensor.name)
        if other is None or (other.datatype, tuple(other.shape)) != (tensor.datatype, tuple(tensor.shape)):
            return "form", []
        if tensor.datatype == "BYTES":
            differs = float(bytes(tensor.data) != bytes(other.data))
            found.append(OutputComparison(tensor.name, differs, differs))
            continue
        a, b = _numbers(tensor), _numbers(other)
        if differences.not_finite(a, b):
            return "not_finite", []
        same = clear = 0
        if differences.looks_like_classes(tensor.shape, tensor.datatype):
            same, clear = differences.agreement(a, b)
        absolute, relative = differences.max_difference(a, b), differences.relative_difference(a, b)
        found.append(OutputComparison(tensor.name, absolute, relative, same, clear - same))
    return "compared", found


def _numbers(tensor: Tensor) -> np.ndarray:
    array = widened(to_array(tensor))
    return array.astype(np.float32) if array.dtype == np.float16 else array
