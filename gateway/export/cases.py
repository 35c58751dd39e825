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
from runtimes.contract import InputRange, TensorSpec, numpy_dtype

Arrays = dict[str, np.ndarray]

# Inputs that are all smaller are as good as zero to a model.
_QUIET = 1e-4
# How often inputs are moved, each time in other directions.
_MOVES = 2
# Ids up to here every model is taken to have.
_ORDINARY = 7
# What a size that is open is tried at too.
_OTHER_SIZES = (lambda size: size + 1, lambda size: size * 2 if size <= 64 else size + 32)


class Case(NamedTuple):
    """Inputs of one run.

    name       for people and for the file
    generated  whether they may mean nothing to the model
    exact      see draws.Draw: what somebody has recorded is meant exactly
    in_range   whether its numbers are those that the model's graph gives a meaning to
    """

    name: str
    inputs: Arrays
    generated: bool = False
    exact: bool = True
    in_range: bool = False

    @property
    def reaching(self) -> bool:
        """Whether it holds whole numbers that are generated, and no ordinary ids: a model may refuse them."""
        whole = [array for array in self.inputs.values() if array.dtype.kind in "iu" and array.size]
        return self.generated and not self.in_range and any(int(a.min()) < 0 or int(a.max()) > _ORDINARY for a in whole)


def read_cases(file: Path, inputs: Sequence[TensorSpec]) -> list[Case]:
    """An npz with an array for each input; for several runs, NAME.0, NAME.1, … Raises CannotExport."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            given = {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise CannotExport(f"{file} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile):
        raise CannotExport(f"{file} is not an npz of numbers; write it with numpy.savez, an array per input") from None
    names = [spec.name for spec in inputs]
    if len(names) == 1 and len(given) == 1:
        given = {names[0]: next(iter(given.values()))}
    runs = list(_runs(given, names))
    if not runs:
        told = f"it holds {', '.join(sorted(given)) or 'nothing'}"
        raise CannotExport(f"{file} must hold an array for each of the inputs {', '.join(names)}: {told}")
    return [Case(f"{file.stem}.{place}", _fitting(run, inputs, file)) for place, run in enumerate(runs)]


def shapes_of(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of an npz's arrays, of a first run where there are several; nothing where it cannot be read.

    "" is the shape of the only array that there is.
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


def _fitting(arrays: Arrays, inputs: Sequence[TensorSpec], file: Path) -> Arrays:
    fitting = {}
    for spec in inputs:
        array, dtype = arrays[spec.name], numpy_dtype(spec.datatype)
        shape = spec.shape or ()
        if array.ndim != len(shape) or any(
            want not in (-1, size) for want, size in zip(shape, array.shape, strict=True)
        ):
            raise CannotExport(f"{file}: '{spec.name}' has shape {list(array.shape)}, the model wants {list(shape)}")
        if array.dtype != dtype and not np.can_cast(array.dtype, dtype, "same_kind"):
            raise CannotExport(f"{file}: '{spec.name}' holds {array.dtype}, the model wants {spec.datatype}")
        if not array.size:
            raise CannotExport(f"{file}: '{spec.name}' has shape {list(array.shape)}, in which there is no value")
        fitting[spec.name] = array.astype(dtype, order="C")
    return fitting


def generated(
    inputs: Sequence[TensorSpec],
    shapes: Mapping[str, Sequence[int]],
    batches: bool,
    pixels: tuple[float, float] | None = None,
    ranges: Mapping[str, InputRange] = MappingProxyType({}),
) -> list[Case]:
    """Every draw, in several batches and at several sizes of what is open.

    shapes   input → shape of a batch of one, with nothing open
    batches  whether the first dimension counts rows, so that other batches are inputs as well
    pixels   black and white, where [preprocess] says which these are
    ranges   input → its numbers, where the model's graph says which
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
    for change in _OTHER_SIZES:
        other = {spec.name: _resized(spec, sized[spec.name], batches, change) for spec in inputs}
        if other != sized:
            sizes = "x".join(map(str, next(other[name] for name in sized if other[name] != sized[name])))
            add(f"unit_{sizes}", DRAWS[0], other)
    return cases


def _rows(shape: tuple[int, ...], rows: int) -> tuple[int, ...]:
    return (rows, *shape[1:]) if rows else shape


def _resized(spec: TensorSpec, shape: tuple[int, ...], batches: bool, change: Callable[[int], int]) -> tuple[int, ...]:
    """With other sizes where the signature has none, but for the batch."""
    told = spec.shape if spec.shape is not None else (-1,) * len(shape)
    return tuple(
        change(size) if open_size < 0 and (axis or not batches) else size
        for axis, (open_size, size) in enumerate(zip(told, shape, strict=True))
    )


def moves(case: Case) -> list[Case]:
    """The same with each float of its inputs moved by one unit in the last place, in several directions.

    None of them where there is nothing to move.
    """
    found = []
    for seed in range(_MOVES):
        random = np.random.default_rng(seed)
        inputs = {name: _moved(random, array) for name, array in case.inputs.items()}
        found.append(case._replace(name=f"{case.name}-moved{seed}", inputs=inputs))
    return found if any(a is not b for a, b in zip(inputs.values(), case.inputs.values(), strict=True)) else []


def _moved(random: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """By float32's unit: what is computed in float64 may be computed in float32 elsewhere. Float16 stays: its unit
    is far above what float32 computes with. Single zeros are exact. An input of nothing but small numbers moves by the
    unit of 1: beside a model's own numbers it is zero, and its own unit far below what they are rounded by."""
    if array.dtype.kind != "f" or array.dtype.itemsize < 4:
        return array
    unit = np.where(random.random(array.shape) < 0.5, -1.0, 1.0) * float(np.finfo(np.float32).eps)
    if np.max(np.abs(array), initial=0.0) < _QUIET:
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
