"""Values of generated inputs: values as real inputs have them, and values on which converters are known to fail.

Each draw is a way to fill inputs, with one function for floats and one for integers. Integers that a model refuses
(ids outside its table) are taken modulo the number of its rows: see id_ranges.py.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from runtimes.contract import InputRange, TensorSpec, kind_of, numpy_dtype
from runtimes.id_ranges import MAX_IDS, sample_range
from runtimes.tensors import integer_range

Random = np.random.Generator
Shape = tuple[int, ...]
Fill = Callable[[Random, Shape], np.ndarray]

# The largest value of a scalar integer. It may be a number of steps or a size, where a large value takes forever.
_MAX_SCALAR = 100


class Draw(NamedTuple):
    """One way to fill inputs.

    rows   the batch sizes to fill in this way, if the batch size is dynamic
    exact  whether the values are on a grid, so that an answer may change a lot when they move off it. For other
           draws such an answer is noise, as for an image of a single color
    """

    name: str
    rows: Sequence[int]
    floats: Fill
    integers: Fill
    exact: bool = False


def _uniform(low: float, high: float) -> Fill:
    return lambda random, shape: random.uniform(low, high, shape)


def _normal(deviation: float) -> Fill:
    return lambda random, shape: random.normal(0, deviation, shape)


def _between(low: int, high: int) -> Fill:
    """Integers, both ends included."""
    return lambda random, shape: random.integers(low, high + 1, shape)


def _constant(value: float) -> Fill:
    return lambda random, shape: np.full(shape, value)


def _grid(steps: int, step: float) -> Fill:
    """Multiples of a step on both sides of zero, all equally frequent."""

    def fill(random: Random, shape: Shape) -> np.ndarray:
        count = int(np.prod(shape))
        return (random.permutation(np.arange(count) % (2 * steps + 1)) - steps).reshape(shape) * step

    return fill


def _tails(random: Random, shape: Shape) -> np.ndarray:
    """Values far from zero on both sides, and small ones. A float32 sigmoid saturates near -20."""
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
# Only for inputs whose range the model's graph gives; it replaces the functions.
RANGES = Draw("ranges", (2, 7), _uniform(0, 1), _between(0, 1))


def values(
    draw: Draw,
    random: Random,
    spec: TensorSpec,
    shape: Shape,
    pixels: tuple[float, float] | None = None,
    ranges: Mapping[str, InputRange] = MappingProxyType({}),
) -> np.ndarray:
    """Return an array for this input.

    pixels  the values of black and white, if the input is an image and they are known
    ranges  input → range of values, if the model's graph gives it
    """
    dtype, kind = numpy_dtype(spec.datatype), kind_of(spec.datatype)
    if kind != "float" and "mask" in spec.name.lower():
        return _mask(random, shape).astype(dtype)
    if draw is RANGES and spec.name in ranges:
        return _within_range(random, shape, ranges[spec.name], dtype)
    if draw.name == "pixels" and pixels is not None:
        return _image_values(random, shape, *pixels, integers=kind != "float").astype(dtype)
    if kind == "bool":
        return (draw.integers(random, shape) % 2).astype(dtype)
    if kind == "float":
        return draw.floats(random, shape).astype(dtype)
    return _fit(draw.integers(random, shape), spec.datatype, scalar=not shape)


def _fit(drawn: np.ndarray, datatype: str, scalar: bool) -> np.ndarray:
    """Bring integers into the range of the datatype."""
    least, most = integer_range(datatype)
    drawn = drawn.astype(np.int64)
    if scalar:
        drawn = np.clip(drawn, -_MAX_SCALAR, _MAX_SCALAR)
    if least == 0:
        drawn = np.abs(drawn)
    span = most - least + 1
    if span < MAX_IDS:  # 8 bits: wrap around, so that all values occur
        drawn = (drawn - least) % span + least
    fitted: np.ndarray = np.clip(drawn, least, min(most, MAX_IDS)).astype(numpy_dtype(datatype))
    return fitted


def _within_range(random: Random, shape: Shape, known: InputRange, dtype: np.dtype) -> np.ndarray:
    """Spread values over the range. Both ends occur if there is more than one value."""
    part = np.asarray(random.random(shape))
    part.flat[:1], part.flat[-1:] = 0.0, 1.0
    return sample_range(known, part, dtype)


def _image_values(random: Random, shape: Shape, black: float, white: float, integers: bool) -> np.ndarray:
    drawn = black + (white - black) * random.integers(0, 256, shape) / 255
    return np.rint(drawn) if integers else drawn


def _mask(random: Random, shape: Shape) -> np.ndarray:
    """Return ones followed by zeros along the last axis, with at least one 1 in each row."""
    if not shape:
        return np.ones(shape, np.int64)
    lengths = random.integers(1, shape[-1] + 1, (*shape[:-1], 1))
    return (np.arange(shape[-1]) < lengths).astype(np.int64)
