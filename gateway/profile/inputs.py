"""The inputs that a profile runs: recorded requests, or generated rows."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from gateway.codecs.json_tensors import read_tensor
from gateway.errors import InvalidRequest
from gateway.export import cases
from gateway.export.cases import Arrays
from gateway.export.draws import DRAWS, RANGES, values
from gateway.export.errors import CannotExport
from gateway.export.source import Source
from runtimes.contract import TensorSpec
from runtimes.tensors import to_array

# Generated rows that differ from each other; larger batches repeat them.
_ROWS = 8
_PIXELS = next(draw for draw in DRAWS if draw.name == "pixels")


class Inputs(NamedTuple):
    """arrays: input → array, of which batches are made by repeating rows. origin: where they are from, in words."""

    arrays: Arrays
    origin: str
    note: str = ""


def read(file: Path, source: Source) -> Inputs:
    """Read recorded inputs: an npz, or JSON lines with a v2 request each. Raises CannotExport."""
    specs = source.signature.inputs
    if file.suffix == ".npz":
        recorded = [case.inputs for case in cases.read_cases(file, specs)]
    else:
        recorded = [_request(line, f"line {number} of {file}", specs) for number, line in _lines(file)]
    if not recorded:
        raise CannotExport(f"{file} holds no requests: give one v2 request body in JSON per line")
    return _joined(recorded, source, f"{_count(len(recorded))} of {file.name}")


def generated(source: Source) -> Inputs:
    """Generate rows within the ranges that the model's graph shows. Raises CannotExport."""
    source.check_shapes("--inputs DATA.npz")
    random = np.random.default_rng(0)
    dim = _batch_dim(source)
    arrays = {}
    for spec in source.signature.inputs:
        shape = tuple(source.shapes[spec.name])
        if dim is not None:
            shape = (*shape[:dim], _ROWS, *shape[dim + 1 :])
        arrays[spec.name] = _generated(random, spec, shape, source)
    return Inputs(arrays, "generated from its signature")


def _generated(random: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], source: Source) -> np.ndarray:
    if spec.datatype == "BYTES":
        strings = np.empty(shape, dtype=object)
        strings.fill(b"1")
        return strings
    draw = RANGES if spec.name in source.ranges or source.pixels is None else _PIXELS
    return values(draw, random, spec, shape, source.pixels, source.ranges)


def _batch_dim(source: Source) -> int | None:
    return source.served.dim if source.served and source.served.rows else None


def _lines(file: Path) -> list[tuple[int, bytes]]:
    """Return the lines that are not empty, with their numbers."""
    try:
        return [(number, line) for number, line in enumerate(file.read_bytes().split(b"\n"), 1) if line.strip()]
    except OSError as error:
        raise CannotExport(f"{file} cannot be read: {error.strerror or error}") from None


def _request(line: bytes, where: str, specs: Sequence[TensorSpec]) -> Arrays:
    """Return the inputs of one v2 request body. Raises CannotExport, which names `where`."""
    try:
        arrays = {
            each["name"]: to_array(read_tensor(each["name"], each["data"], each["datatype"], each["shape"]))
            for each in orjson.loads(line)["inputs"]
        }
    except (ValueError, KeyError, TypeError):
        raise CannotExport(
            f"{where} is not a v2 request body: it must be a JSON object with inputs, each of which has a name, a "
            "datatype, a shape and data"
        ) from None
    except InvalidRequest as error:
        raise CannotExport(f"{where}: {error}") from None
    if missing := [spec.name for spec in specs if spec.name not in arrays]:
        raise CannotExport(f"{where} lacks the input '{missing[0]}'")
    return cases.checked(arrays, specs, where)


def _joined(recorded: Sequence[Arrays], source: Source, origin: str) -> Inputs:
    """Return all rows of the requests in one array per input.

    Only requests of one layout share a batch. So if shapes of rows differ, those of the most frequent one are used.
    """
    dim = _batch_dim(source)

    def layout(arrays: Arrays) -> tuple[tuple[int, ...], ...]:
        shapes = [array.shape for array in arrays.values()]
        return tuple(shape if dim is None else (*shape[:dim], *shape[dim + 1 :]) for shape in shapes)

    (most, count), *others = Counter(map(layout, recorded)).most_common()
    chosen = [arrays for arrays in recorded if layout(arrays) == most]
    note = ""
    if others:
        note = f"requests of different shapes never share a batch: of {len(recorded)}, {count} of one shape were used"
    if dim is None:
        return Inputs(chosen[0], origin, note)
    return Inputs({name: np.concatenate([each[name] for each in chosen], dim) for name in chosen[0]}, origin, note)


def _count(number: int) -> str:
    return "1 request" if number == 1 else f"{number} requests"
