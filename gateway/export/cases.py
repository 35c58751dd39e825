"""Inputs on which an original and its export are compared: the user's, or generated from the signature."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gateway.export.errors import CannotExport
from runtimes.contract import DATATYPES, TensorSpec

Arrays = dict[str, np.ndarray]

_SEEDS = 3
_BATCHES = (1, 2, 5)
# Beyond what the generated inputs hold, in values that a model may meet.
_EDGES = {"zeros": 0.0, "ones": 1.0, "minus_ones": -1.0, "large": 100.0, "tiny": 1e-6}


class Case(NamedTuple):
    """Inputs of one run. name: for people and for the file."""

    name: str
    inputs: Arrays


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
    """The shapes of an npz's arrays, of a first run where there are several; nothing where it cannot be read."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            shapes = {name: arrays[name].shape for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return {}
    return {name.removesuffix(".0"): shape for name, shape in shapes.items()}


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
        array, dtype = arrays[spec.name], DATATYPES[spec.datatype]
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


def generated(inputs: Sequence[TensorSpec], shapes: Mapping[str, Sequence[int]], batches: bool) -> list[Case]:
    """Several seeds, batch sizes and edge values.

    shapes   input → shape of a batch of one, with nothing open
    batches  whether the first dimension counts rows, so that other batches are inputs as well
    """
    cases = []
    for rows in _BATCHES if batches else (0,):
        for seed in range(_SEEDS):
            random = np.random.default_rng([seed, rows])
            name = f"seed{seed}" + (f"_batch{rows}" if rows else "")
            cases.append(Case(name, {s.name: _values(random, s, _shape(shapes[s.name], rows), seed) for s in inputs}))
    for name, value in _EDGES.items():
        rows = 1 if batches else 0
        cases.append(Case(name, {s.name: _edge(s, _shape(shapes[s.name], rows), value) for s in inputs}))
    return cases


def _shape(shape: Sequence[int], rows: int) -> tuple[int, ...]:
    return (rows, *shape[1:]) if rows else tuple(shape)


def _values(random: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], seed: int) -> np.ndarray:
    dtype = DATATYPES[spec.datatype]
    if dtype.kind == "f":
        # Between 0 and 1 as pixels are, around 0 as features are, and wider.
        drawn = random.uniform(0, 1, shape) if seed == 0 else random.normal(0, 1 if seed == 1 else 4, shape)
        return drawn.astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    # Small, since they are mostly indices.
    return random.integers(0, 2 if seed == 0 else 8, shape).astype(dtype)


def _edge(spec: TensorSpec, shape: tuple[int, ...], value: float) -> np.ndarray:
    dtype = DATATYPES[spec.datatype]
    if dtype.kind == "f":
        return np.full(shape, value, dtype)
    return np.full(shape, 1 if value >= 1 else 0, dtype)


def write(case: Case, folder: Path) -> Path:
    """As a file of the task that runs it."""
    path = folder / f"{case.name}.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in case.inputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return path


def read(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
