"""Invented rows that reach what real ones reach: what a trial at load shows a model.

Rows that lie beside each other in a batch must be unlike each other, or nothing shows: one that is a thousand times
another widens the scale of a dynamic quantisation, one of zeros has no hit where its neighbours have many, lengths
from 1 up to the largest decide how far a batch is cut, strings of several lengths how far it is padded.
"""

from typing import Dict, List, Mapping, Tuple

import numpy as np

from runtimes.contract import InputRange, Signature, kind_of, numpy_dtype
from runtimes.id_ranges import spread

# Each is another way to fill a row. The plain ones come first and again: a model that refuses all else takes those.
KINDS = ("plain", "huge", "zero", "bright", "signed", "plain again", "tiny", "low", "high")
# Integers go up to here; where a model refuses (a table has fewer entries, say), up to less.
ID_BOUNDS = (1000, 100, 8, 2)
# Which part of a table's rows, from 0 to 1, a row of such a kind picks; of limits, only plain ones keep to them.
_PARTS = {"huge": (0.5, 1), "zero": (0, 0), "tiny": (0, 0.01), "low": (0, 0), "high": (1, 1)}
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
    """One row; `free` in place of every open size behind the batch dimension, which is the first.

    ranges: of inputs for which the graph has one; whole numbers of the others are below largest_id.
    """
    random = np.random.RandomState(KINDS.index(kind))
    inputs = {}
    for spec in signature.inputs:
        shape = [1] + [free if size < 0 else size for size in (spec.shape or ())[1:]]
        known = ranges.get(spec.name)
        if known is not None and (known.rows or kind in _WITHIN_LIMITS):
            part = random.uniform(*_PARTS.get(kind, (0, 1)), size=shape)
            inputs[spec.name] = spread(known, part, numpy_dtype(spec.datatype))
        else:
            inputs[spec.name] = values(random, kind, spec.datatype, shape, free, largest_id)
    return inputs


def values(
    random: np.random.RandomState, kind: str, datatype: str, shape: List[int], free: int, largest_id: int
) -> np.ndarray:
    """An array of one of KINDS; `free` is the size that a length may be the length of."""
    if datatype == "BYTES":
        array = np.empty(shape, dtype=object)
        array.fill(_STRINGS[kind])
        return array
    dtype, kind_of_number = numpy_dtype(datatype), kind_of(datatype)
    if kind_of_number == "float":
        return _floats(random, kind, shape).astype(dtype)
    if kind_of_number == "bool":
        return (
            random.randint(0, 2, shape).astype(dtype)
            if kind not in ("zero", "high")
            else np.full(shape, kind == "high")
        )
    # A number for a whole row is a length more often than anything else, and lengths go from 1.
    largest_id = min(largest_id, int(np.iinfo(dtype).max) + 1)
    low, high = _lengths(kind, free) if np.prod(shape) == 1 and largest_id > 2 else _ids(kind, largest_id)
    return random.randint(max(low, int(np.iinfo(dtype).min)), high + 1, shape).astype(dtype)


def _floats(random: np.random.RandomState, kind: str, shape: List[int]) -> np.ndarray:
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
    """The least and the most of a length; `free` is the size that it may be the length of."""
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
