"""Values that generated inputs hold: what real inputs hold, and where converters are known to go wrong.

Each draw is a way to fill an input: of floats, and of whole numbers beside them. Whole numbers that are too large or
too small for a model (ids beyond its table) are taken modulo what it takes: see id_ranges.py.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from runtimes.contract import InputRange, TensorSpec, kind_of, numpy_dtype
from runtimes.id_ranges import MAX_IDS, sample_range

Random = np.random.Generator
Shape = tuple[int, ...]
Fill = Callable[[Random, Shape], np.ndarray]

# An input that says how often, how many or how large is best kept small: it has no row of values.
_MAX_SCALAR = 100


class Draw(NamedTuple):
    """One way to fill inputs.

    rows      the batches that are filled in this way, where the batch is open
    exact     its values lie on a grid and are different: what an answer changes by when they move a little says
              nothing about it. Elsewhere such an answer is noise, as that to a picture of one value may be
    """

    name: str
    rows: Sequence[int]
    floats: Fill
    whole: Fill
    exact: bool = False


def _uniform(low: float, high: float) -> Fill:
    return lambda random, shape: random.uniform(low, high, shape)


def _normal(deviation: float) -> Fill:
    return lambda random, shape: random.normal(0, deviation, shape)


def _between(low: int, high: int) -> Fill:
    """Whole numbers, both ends included."""
    return lambda random, shape: random.integers(low, high + 1, shape)


def _constant(value: float) -> Fill:
    return lambda random, shape: np.full(shape, value)


def _grid(steps: int, step: float) -> Fill:
    """Multiples of a step on both sides of zero, each as often as the others."""

    def fill(random: Random, shape: Shape) -> np.ndarray:
        count = int(np.prod(shape))
        return (random.permutation(np.arange(count) % (2 * steps + 1)) - steps).reshape(shape) * step

    return fill


def _tails(random: Random, shape: Shape) -> np.ndarray:
    """Far from zero on both sides, beside small ones: -20 is where a sigmoid of float32 ends."""
    values = [-100, -50, -20, -5, 0, 5, 20, 50, 100]
    return random.choice(values, shape) + random.uniform(-0.5, 0.5, shape)


DRAWS = (
    Draw("unit", (1, 2, 7), _uniform(0, 1), _between(0, 1)),
    Draw("normal", (1, 7), _normal(1), _between(0, 7)),
    Draw("wide", (2, 7), _normal(4), _between(-8, 8)),
    Draw("tails", (2,), _tails, _grid(128, 1)),
    Draw("halves", (2,), _grid(64, 0.5), _between(-1000, 1000), exact=True),
    Draw("tenths", (1,), _grid(100, 0.1), _grid(20, 1), exact=True),
    Draw("pixels", (2,), _between(0, 255), _between(0, 255)),
    Draw("bits", (2,), _between(0, 1), _between(0, 1)),
    Draw("ids", (7,), _uniform(0, 1), _between(0, MAX_IDS - 1)),
    Draw("tiny", (1,), _normal(1e-6), _between(0, 1)),
    Draw("zeros", (1,), _constant(0), _constant(0)),
    Draw("ones", (1,), _constant(1), _constant(1)),
    Draw("minus_ones", (1,), _constant(-1), _constant(-1)),
    Draw("hundreds", (1,), _constant(100), _constant(100)),
    Draw("minus_hundreds", (1,), _constant(-100), _constant(-100)),
)
# Where the model's graph says which numbers an input takes: those.
RANGES = Draw("ranges", (2, 7), _uniform(0, 1), _between(0, 1))


def values(
    draw: Draw,
    random: Random,
    spec: TensorSpec,
    shape: Shape,
    pixels: tuple[float, float] | None = None,
    ranges: Mapping[str, InputRange] = MappingProxyType({}),
) -> np.ndarray:
    """An input's array.

    pixels  what black and white are, where the input is a picture and that is known
    ranges  as the model's graph has them
    """
    dtype, kind = numpy_dtype(spec.datatype), kind_of(spec.datatype)
    if kind != "float" and "mask" in spec.name.lower():
        return _mask(random, shape).astype(dtype)
    if draw is RANGES and spec.name in ranges:
        return _of_range(random, shape, ranges[spec.name], dtype)
    if draw.name == "pixels" and pixels is not None:
        return _of_pictures(random, shape, *pixels, whole=kind != "float").astype(dtype)
    if kind == "bool":
        return (draw.whole(random, shape) % 2).astype(dtype)
    if kind == "float":
        return draw.floats(random, shape).astype(dtype)
    return _fitting(draw.whole(random, shape), dtype, scalar=not shape)


def _fitting(drawn: np.ndarray, dtype: np.dtype, scalar: bool) -> np.ndarray:
    limits = np.iinfo(dtype)
    drawn = drawn.astype(np.int64)
    if scalar:
        drawn = np.clip(drawn, -_MAX_SCALAR, _MAX_SCALAR)
    if limits.min == 0:
        drawn = np.abs(drawn)
    span = int(limits.max) - int(limits.min) + 1
    if span < MAX_IDS:  # of 8 bits: all of them occur
        drawn = (drawn - limits.min) % span + limits.min
    fitting: np.ndarray = np.clip(drawn, limits.min, min(int(limits.max), MAX_IDS)).astype(dtype)
    return fitting


def _of_range(random: Random, shape: Shape, known: InputRange, dtype: np.dtype) -> np.ndarray:
    """Both ends are of them, where there is more than one number."""
    part = np.asarray(random.random(shape))
    part.flat[:1], part.flat[-1:] = 0.0, 1.0
    return sample_range(known, part, dtype)


def _of_pictures(random: Random, shape: Shape, black: float, white: float, whole: bool) -> np.ndarray:
    drawn = black + (white - black) * random.integers(0, 256, shape) / 255
    return np.rint(drawn) if whole else drawn


def _mask(random: Random, shape: Shape) -> np.ndarray:
    """Ones, then zeros, along the last axis: how much of each row counts, and never nothing of it."""
    if not shape:
        return np.ones(shape, np.int64)
    lengths = random.integers(1, shape[-1] + 1, (*shape[:-1], 1))
    return (np.arange(shape[-1]) < lengths).astype(np.int64)
