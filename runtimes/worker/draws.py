"""Synthetic rows for the trial at load, with values as extreme as those of real requests.

Neighboring rows of a batch must differ, or an influence between them stays invisible. A row that is a thousand times
larger than another widens the scale of a dynamic quantization. A row of zeros has no hits where its neighbors have
many. Lengths from 1 to the largest determine where a batch is cut, and strings of several lengths how far it is padded.
"""

from typing import Dict, List, Mapping, Tuple

import numpy as np

from runtimes.contract import InputRange, Signature, kind_of, numpy_dtype
from runtimes.id_ranges import sample_range
from runtimes.tensors import integer_range
from runtimes.worker.random_arrays import Random

# Ways to fill a row. There are two plain ones, the first of them at the start, so that models that refuse all others
# can still be tried with two different rows.
KINDS = ("plain", "huge", "zero", "bright", "signed", "plain again", "tiny", "low", "high")
# Exclusive upper limits for integers, tried in this order, because a model refuses indices beyond its tables. A higher
# limit would reach more of a large table, but only few models would accept it.
ID_BOUNDS = (1000, 100, 8, 2)
# The part of a table, from 0 to 1, from which a row of this kind picks indices.
_PARTS = {"huge": (0.5, 1), "zero": (0, 0), "tiny": (0, 0.01), "low": (0, 0), "high": (1, 1)}
# The kinds that stay within the range of an input that is not an index, such as one that a Clip limits.
_WITHIN_LIMITS = ("plain", "plain again")
_STRINGS = {
    "plain": b"1",
    "huge": b"a sentence of many words, to be longer than its neighbours " * 4,
    "zero": b"",
    "bright": b"12345",
    "signed": b"-1.5",
    "plain again": b"2",
    "tiny": b"x",
    "low": "Gr\u00fc\u00dfe aus \u5317\u4eac".encode(),
    "high": b" two  words ",
}


def draw(
    signature: Signature, kind: str, free: int, largest_id: int, ranges: Mapping[str, InputRange]
) -> Dict[str, np.ndarray]:
    """Return one row. `free` replaces every variable size except that of the batch dimension, which is the first.

    ranges: of the inputs for which the graph shows one; integers of the other inputs are below `largest_id`.
    """
    random = Random(KINDS.index(kind))
    inputs = {}
    for spec in signature.inputs:
        shape = [1] + [free if size < 0 else size for size in (spec.shape or ())[1:]]
        known = ranges.get(spec.name)
        if known is not None and (known.rows or kind in _WITHIN_LIMITS):
            part = random.uniform(*_PARTS.get(kind, (0, 1)), size=shape)
            inputs[spec.name] = sample_range(known, part, numpy_dtype(spec.datatype))
        else:
            inputs[spec.name] = values(random, kind, spec.datatype, shape, free, largest_id)
    return inputs


def values(random: Random, kind: str, datatype: str, shape: List[int], free: int, largest_id: int) -> np.ndarray:
    """Return an array of one of KINDS. `free` is the size of the dimension that a length may refer to."""
    if datatype == "BYTES":
        array = np.empty(shape, dtype=object)
        array.fill(_STRINGS[kind])
        return array
    dtype, kind_of_number = numpy_dtype(datatype), kind_of(datatype)
    if kind_of_number == "float":
        with np.errstate(over="ignore"):  # the huge ones may be infinite in FP8
            return _floats(random, kind, shape).astype(dtype)
    if kind_of_number == "bool":
        return (
            random.randint(0, 2, shape).astype(dtype)
            if kind not in ("zero", "high")
            else np.full(shape, kind == "high")
        )
    # A single integer per row is a length more often than anything else, and lengths start at 1.
    least, most = integer_range(datatype)
    largest_id = min(largest_id, most + 1)
    low, high = _lengths(kind, free) if np.prod(shape) == 1 and largest_id > 2 else _ids(kind, largest_id)
    return random.randint(max(low, least), high + 1, shape).astype(dtype)


def _floats(random: Random, kind: str, shape: List[int]) -> np.ndarray:
    if kind == "huge":
        return random.standard_normal(shape) * 1000
    if kind == "bright":
        return random.uniform(0, 255, shape)
    if kind == "signed":
        return random.standard_normal(shape)
    if kind == "tiny":
        return random.uniform(0, 1e-3, shape)
    if kind in ("zero", "low", "high"):
        return np.full(shape, {"zero": 0.0, "low": -100.0, "high": 100.0}[kind])
    return random.uniform(0, 1, shape)


def _lengths(kind: str, free: int) -> Tuple[int, int]:
    """Return the smallest and the largest length; `free` is the size of the dimension that it may refer to."""
    middle = max(1, free // 2)
    of_kind = {"huge": free, "zero": 1, "bright": max(1, free - 1), "plain": middle, "low": 1, "high": free}
    length = of_kind.get(kind)
    return (length, length) if length else (1, free)


def _ids(kind: str, largest: int) -> Tuple[int, int]:
    of_kind = {
        "huge": (largest // 2, largest - 1),
        "zero": (0, 0),
        "bright": (0, min(255, largest - 1)),
        "signed": (-largest, largest - 1),
        "tiny": (0, min(7, largest - 1)),
        "low": (1, 1),
        "high": (largest - 1, largest - 1),
    }
    return of_kind.get(kind, (0, 1))
