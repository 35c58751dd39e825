"""Generated inputs with large integers, as hashes and timestamps are.

An export that computes 64-bit integers in FP32 or INT32 is wrong for these only. They are apart from the other
generated inputs, because a model may use an integer as a number of steps or as a size: the original answers them in a
process of limited time and memory, and a served model never gets them.
"""

import zlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from gateway.export import draws
from gateway.export.cases import Arrays, Case
from runtimes.contract import TensorSpec, kind_of, numpy_dtype

# Exponent of two → the smallest and the largest magnitude. FP32 is exact up to 2^24, INT32 ends at 2^31, and
# milliseconds since 1970 are near 2^40. The second range ends where the neighbors in FP32 still fit into INT32.
_MAGNITUDES = {
    24: (2**24 + 1, 2**24 + 2**23),
    31: (2**31 - 2**24, 2**31 - 400),
    33: (2**33 + 1, 2**33 + 2**32),
    40: (2**40 + 1, 2**40 + 2**39),
}
# The draw for all other inputs.
_OTHERS = next(draw for draw in draws.DRAWS if draw.name == "normal")
_ROWS = 7
# Every other integer is one less than a multiple of this, which is divisible by the numbers up to 10, by 1000 and by
# the seconds of a week. Rounding such an integer up changes its quotient and its remainder.
_ROUND = 3_024_000


def may_be_large(spec: TensorSpec, shape: Sequence[int]) -> bool:
    """Whether real values of this input may be large. A scalar is rather a count, and a mask has ones and zeros."""
    wide = kind_of(spec.datatype) in ("int", "uint") and numpy_dtype(spec.datatype).itemsize >= 4
    return wide and bool(shape) and "mask" not in spec.name.lower()


def generated(
    inputs: Sequence[TensorSpec], shapes: Mapping[str, Sequence[int]], batches: bool, limited: Collection[str]
) -> list[Case]:
    """Generate one case for each magnitude that a datatype can hold.

    shapes, batches  as in cases.generated
    limited          the inputs whose integers must stay small
    """
    sized = {spec.name: (_ROWS, *shapes[spec.name][1:]) if batches else tuple(shapes[spec.name]) for spec in inputs}
    large = [spec for spec in inputs if spec.name not in limited and may_be_large(spec, sized[spec.name])]
    cases = []
    for exponent, (low, high) in _MAGNITUDES.items():
        fitting = [spec for spec in large if high <= np.iinfo(numpy_dtype(spec.datatype)).max]
        if not fitting:
            continue
        name = f"large{exponent}"
        random = np.random.default_rng(zlib.crc32(name.encode()))
        arrays = {spec.name: draws.values(_OTHERS, random, spec, sized[spec.name]) for spec in inputs}
        for spec in fitting:
            arrays[spec.name] = _draw(random, spec, sized[spec.name], low, high)
        cases.append(Case(name, arrays, generated=True, magnitude=exponent))
    return cases


def _draw(random: np.random.Generator, spec: TensorSpec, shape: Sequence[int], low: int, high: int) -> np.ndarray:
    """Return integers between these magnitudes, of both signs if the datatype has one."""
    drawn = random.integers(low, high, int(np.prod(shape)), endpoint=True)
    drawn[::2] = random.integers(low // _ROUND + 1, high // _ROUND, drawn[::2].shape, endpoint=True) * _ROUND - 1
    if kind_of(spec.datatype) == "int":
        drawn[2::4] *= -1
        drawn[3::4] *= -1
    return drawn.reshape(shape).astype(numpy_dtype(spec.datatype))


def rounded(case: Case) -> Case:
    """Return the case with its integers rounded to FP32. A model that converts them to FP32 first answers the same."""
    inputs = {
        name: array.astype(np.float32).astype(array.dtype) if _is_large(array) else array
        for name, array in case.inputs.items()
    }
    return case._replace(name=f"{case.name}-rounded", inputs=inputs)


def moves(case: Case) -> list[Case]:
    """Return the case with each large integer replaced by the next lower, or next higher, number of FP32."""
    return [
        case._replace(name=f"{case.name}-moved{sign}", inputs={k: _moved(v, sign) for k, v in case.inputs.items()})
        for sign in (-1, 1)
    ]


def _is_large(array: np.ndarray) -> bool:
    return array.dtype.kind in "iu" and bool(array.size) and int(np.max(np.abs(array))) > 2**24


def _moved(array: np.ndarray, sign: int) -> np.ndarray:
    if not _is_large(array):
        return array
    moved: np.ndarray = np.nextafter(array.astype(np.float32), np.float32(sign * np.inf)).astype(array.dtype)
    return moved


def without_misfits(expected: Arrays, outputs: Arrays, declared: Mapping[str, np.dtype]) -> tuple[Arrays, Arrays]:
    """Return both with zeros where the export's declared integer datatype cannot hold the original's value."""
    ours, theirs = dict(expected), dict(outputs)
    for name, dtype in declared.items():
        if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape:
            continue
        if ours[name].dtype.kind in "iu" and dtype.kind in "iu" and ours[name].dtype != dtype:
            limits = np.iinfo(dtype)
            fits = (ours[name] >= limits.min) & (ours[name] <= limits.max)
            ours[name], theirs[name] = np.where(fits, ours[name], 0), np.where(fits, theirs[name], 0)
    return ours, theirs
