"""Inputs on which an original and its export are compared: the user's, or generated from the signature."""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from gateway.export.draws import DRAWS, RANGES, Draw, values
from gateway.export.errors import CannotExport
from runtimes import array_files
from runtimes.contract import NARROW_RANGES, InputRange, TensorSpec, numpy_dtype
from runtimes.tensors import wide_dtype

Arrays = dict[str, np.ndarray]

# A model cannot distinguish inputs whose values are all smaller than this from zeros.
_MIN_MAGNITUDE = 1e-4
# How often inputs are moved, in different random directions. Each costs a run of the original; one could miss noise
# that shows in one direction only.
_MOVES = 2
# Every model with ids is assumed to have at least these: 0 to 7.
_MAX_USUAL_ID = 7
# Further values for a dynamic size.
_OTHER_SIZES = (lambda size: size + 1, lambda size: size * 2 if size <= 64 else size + 32)


class Case(NamedTuple):
    """Inputs of one run.

    name       appears in messages, and names the file
    generated  whether they may be meaningless to the model
    exact      see draws.Draw; recorded inputs are meant exactly
    in_range   whether the values are within the ranges that the model's graph gives
    magnitude  the exponent of two of its largest integers, if they are beyond 2^24 (see large.py); else 0
    """

    name: str
    inputs: Arrays
    generated: bool = False
    exact: bool = True
    in_range: bool = False
    magnitude: int = 0

    @property
    def has_unusual_ids(self) -> bool:
        """Whether it contains generated integers that a model may refuse, because its table has no such rows."""
        if not self.generated or self.in_range:
            return False
        integers = [array for array in self.inputs.values() if array.dtype.kind in "iu" and array.size]
        return any(int(each.min()) < 0 or int(each.max()) > _MAX_USUAL_ID for each in integers)


def read_cases(file: Path, inputs: Sequence[TensorSpec]) -> list[Case]:
    """Read an npz with an array for each input; for several runs, NAME.0, NAME.1, …. Raises CannotExport."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            given = {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise CannotExport(f"{file} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile):
        raise CannotExport(f"{file} is not an npz of numbers; write it with numpy.savez, one array per input") from None
    names = [spec.name for spec in inputs]
    if len(names) == 1 and len(given) == 1:
        given = {names[0]: next(iter(given.values()))}
    runs = list(_runs(given, names))
    if not runs:
        held = ", ".join(sorted(given)) or "nothing"
        raise CannotExport(f"{file} must hold an array for each of the inputs {', '.join(names)}: it holds {held}")
    return [Case(f"{file.stem}.{number}", checked(run, inputs, str(file))) for number, run in enumerate(runs)]


def shapes_of(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an npz's arrays, those of the first run if there are several; {} if it is unreadable.

    If there is only one array, its shape is also under the name "".
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            shapes = {name: arrays[name].shape for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return {}
    only = {"": next(iter(shapes.values()))} if len(shapes) == 1 else {}
    return {**only, **{name.removesuffix(".0"): shape for name, shape in shapes.items()}}


def _runs(given: Mapping[str, np.ndarray], names: Sequence[str]) -> Iterator[Arrays]:
    if all(name in given for name in names):
        yield {name: given[name] for name in names}
    number = 0
    while all(f"{name}.{number}" in given for name in names):
        yield {name: given[f"{name}.{number}"] for name in names}
        number += 1


def checked(arrays: Mapping[str, np.ndarray], inputs: Sequence[TensorSpec], where: str) -> Arrays:
    """Return the arrays of one run, in the datatypes of the inputs. Raises CannotExport, which names `where`."""
    found = {}
    for spec in inputs:
        array, dtype = arrays[spec.name], numpy_dtype(spec.datatype)
        shape = array.shape if spec.shape is None else spec.shape
        if array.ndim != len(shape) or any(
            expected not in (-1, size) for expected, size in zip(shape, array.shape, strict=True)
        ):
            raise CannotExport(f"{where}: '{spec.name}' has shape {list(array.shape)}, the model expects {list(shape)}")
        if array.dtype != dtype and not np.can_cast(array.dtype, wide_dtype(spec.datatype), "same_kind"):
            raise CannotExport(f"{where}: '{spec.name}' holds {array.dtype}, the model expects {spec.datatype}")
        if not array.size:
            raise CannotExport(f"{where}: '{spec.name}' has shape {list(array.shape)}, which holds no values")
        if spec.datatype in NARROW_RANGES:
            least, most = NARROW_RANGES[spec.datatype]
            if array.min() < least or array.max() > most:
                raise CannotExport(f"{where}: '{spec.name}' holds values beyond those of {spec.datatype}")
        found[spec.name] = array.astype(dtype, order="C")
    return found


def generated(
    inputs: Sequence[TensorSpec],
    shapes: Mapping[str, Sequence[int]],
    batches: bool,
    pixels: tuple[float, float] | None = None,
    ranges: Mapping[str, InputRange] = MappingProxyType({}),
) -> list[Case]:
    """Generate inputs by every draw, in several batch sizes and with several values for dynamic sizes.

    shapes   input → shape of a batch of one, with all sizes fixed
    batches  whether the first dimension counts rows, so that other batch sizes are valid
    pixels   the values of black and white, if [preprocess] gives them
    ranges   input → range of values, if the model's graph gives it
    """
    if not inputs:
        return [Case("nothing", {}, generated=True)]
    sized = {spec.name: tuple(shapes[spec.name]) for spec in inputs}
    cases = []

    def add(name: str, draw: Draw, shapes: Mapping[str, tuple[int, ...]]) -> None:
        random = np.random.default_rng(zlib.crc32(name.encode()))
        arrays = {spec.name: values(draw, random, spec, shapes[spec.name], pixels, ranges) for spec in inputs}
        cases.append(Case(name, arrays, generated=True, exact=draw.exact, in_range=draw is RANGES))

    for draw in (*DRAWS, RANGES) if ranges else DRAWS:
        for rows in draw.rows if batches else (0,):
            name = draw.name + (f"_batch{rows}" if rows else "")
            add(name, draw, {key: _rows(shape, rows) for key, shape in sized.items()})
    for resize in _OTHER_SIZES:
        other = {spec.name: _resized(spec, sized[spec.name], batches, resize) for spec in inputs}
        if other != sized:
            sizes = "x".join(map(str, next(other[name] for name in sized if other[name] != sized[name])))
            add(f"unit_{sizes}", DRAWS[0], other)
    return cases


def _rows(shape: tuple[int, ...], rows: int) -> tuple[int, ...]:
    return (rows, *shape[1:]) if rows else shape


def _resized(spec: TensorSpec, shape: tuple[int, ...], batches: bool, resize: Callable[[int], int]) -> tuple[int, ...]:
    """Return the shape with other values for the dynamic sizes, except for the batch."""
    declared = spec.shape if spec.shape is not None else (-1,) * len(shape)
    return tuple(
        resize(size) if declared_size < 0 and (axis or not batches) else size
        for axis, (declared_size, size) in enumerate(zip(declared, shape, strict=True))
    )


def moves(case: Case) -> list[Case]:
    """Return the case with each float moved by one unit in the last place, once for each of several random directions.

    Empty if the case has no floats to move.
    """
    found = []
    for seed in range(_MOVES):
        random = np.random.default_rng(seed)
        inputs = {name: _moved(random, array) for name, array in case.inputs.items()}
        found.append(case._replace(name=f"{case.name}-moved{seed}", inputs=inputs))
    return found if any(a is not b for a, b in zip(inputs.values(), case.inputs.values(), strict=True)) else []


def _moved(random: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """Move each value by float32's unit in the last place, up or down.

    FP64 also moves by float32's unit, because other frameworks may compute in float32. FP16 stays, because its unit is
    far above float32's precision. Zeros among larger values are exact and stay. An input of only tiny values moves by
    the unit of 1: next to a model's own numbers it is zero, and its own unit is far below their rounding.
    """
    if array.dtype.kind != "f" or array.dtype.itemsize < 4:
        return array
    unit = np.where(random.random(array.shape) < 0.5, -1.0, 1.0) * float(np.finfo(np.float32).eps)
    if np.max(np.abs(array), initial=0.0) < _MIN_MAGNITUDE:
        return (array + unit).astype(array.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        return (array.astype(np.float64) * (1 + unit)).astype(array.dtype)


def one_row(inputs: Arrays, batches: bool) -> Arrays:
    return {name: array[:1] for name, array in inputs.items()} if batches else inputs


def write(case: Case, folder: Path) -> Path:
    """Write the case as an input file for a job; return the file."""
    path = folder / f"{case.name}.npz"
    array_files.write(str(path), case.inputs)
    return path


def read(path: Path) -> Arrays:
    return array_files.read(str(path))
