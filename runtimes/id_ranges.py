"""Finds out which integers a model accepts, from its graph or else by running the model.

Ids are indices of rows in a table. Random ids that a model refuses are taken modulo the number of rows, so that both
ends of the table are used, whatever its size. If the graph does not show the number of rows, it is the smallest id that
the model refuses. Each column of an input, such as a feature of a table of data, may have its own.
"""

from typing import Callable, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np

from runtimes.contract import InputRange, Model, datatype_of, first_line, kind_of
from runtimes.tensors import integer_range

Arrays = Dict[str, np.ndarray]
Limit = Union[int, Sequence[int]]  # the number of rows of an input's table, or of the table of each of its columns

# Random ids are below this limit, so larger tables need not be measured. It exceeds the vocabulary of BERT (30,522); a
# higher limit would cost a run of the model for each doubling.
MAX_IDS = 32768
# Inputs with more columns are sequences or images more often than anything else, whose columns all have one table.
_MAX_COLUMNS = 64


def read_ranges(model: Model, signature: str) -> Dict[str, InputRange]:
    """Return the ranges of the signature's inputs as the artifact's graph shows them, by name."""
    try:
        found = model.input_ranges(signature)
    except Exception as error:  # noqa: BLE001 - an unreadable graph shows nothing, and is no reason to fail
        print("no ranges of inputs could be read from the graph: %s" % first_line(error))
        return {}
    return {spec.name: found[spec.name] for spec in model.signatures[signature].inputs if spec.name in found}


def table_sizes(ranges: Mapping[str, InputRange]) -> Dict[str, Limit]:
    """Return the number of rows of the table that each input indexes, for tables that are indexed from 0.

    Inputs that index tables of different sizes are left out, because not all of their ids are below the smallest size.
    """
    return {
        name: int(each.high) + 1
        for name, each in ranges.items()
        if each.rows and not each.tables_differ and -1 < each.low <= 0
    }


def sample_range(known: InputRange, fraction: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return numbers in a range, at the given fractions of it (0 to 1).

    Indices stay within the range. Other numbers exceed it by an eighth at both ends, as real inputs may.
    """
    datatype = datatype_of(dtype)
    is_integer = kind_of(datatype) in ("int", "uint")
    low, high = known.low, known.high
    if known.rows:
        low, high = np.ceil(low), np.floor(high)
        numbers = low + np.minimum(np.floor(fraction * (high - low + 1)), high - low)
    else:
        margin = max((high - low) / 8, 1.0 if is_integer else 0.0)
        numbers = low - margin + fraction * (high - low + 2 * margin)
    if is_integer:
        least, most = integer_range(datatype)
        numbers = np.clip(np.rint(numbers), float(least), float(most))
    return numbers.astype(dtype)


def integer_inputs(inputs: Mapping[str, np.ndarray]) -> List[str]:
    """Return the names of the integer inputs."""
    return [name for name, array in inputs.items() if array.dtype.kind in "iu"]


def find_limits(accepts: Callable[[Arrays], bool], inputs: Arrays) -> Optional[Dict[str, Limit]]:
    """Return for each integer input the smallest positive number that the model refuses, or MAX_IDS if that is smaller.

    inputs: of one run. accepts: runs the model and returns whether it accepts the inputs; it is called twice at first
    and up to 17 times for each input, once more for each of its columns, and up to 16 times more for each column that
    accepts larger numbers than the smallest one.

    Returns None if the model refuses ones and zeros as well, so that the integers are not the reason.
    """

    def accepts_below(limits: Dict[str, Limit]) -> bool:
        return accepts({name: _fill(each, limits[name]) if name in limits else each for name, each in inputs.items()})

    names = integer_inputs(inputs)
    smallest = next((size for size in (2, 1) if names and accepts_below(dict.fromkeys(names, size))), 0)
    if not smallest:
        return None
    known = dict.fromkeys(names, smallest)  # type: Dict[str, Limit]
    found = {}  # type: Dict[str, Limit]
    for name in names:

        def fits(limit: Limit, name: str = name) -> bool:
            return accepts_below(dict(known, **{name: limit}))

        found[name] = size = MAX_IDS if fits(MAX_IDS) else _bisect(fits, smallest, MAX_IDS)
        columns = inputs[name].shape[-1] if inputs[name].ndim > 1 else 1
        if size < MAX_IDS and 1 < columns <= _MAX_COLUMNS:
            sizes = [_of_column(fits, size, [size] * column, columns - column - 1) for column in range(columns)]
            found[name] = size if set(sizes) == {size} else sizes
    return found


def _of_column(fits: Callable[[Limit], bool], size: int, before: List[int], after: int) -> int:
    """Return the limit of one column. size: that of all columns. before, after: the other columns."""

    def column_fits(limit: int) -> bool:
        return fits([*before, limit, *[size] * after])

    if not column_fits(size + 1):
        return size
    return MAX_IDS if column_fits(MAX_IDS) else _bisect(column_fits, size + 1, MAX_IDS)


def _bisect(fits: Callable[[int], bool], low: int, high: int) -> int:
    """Return the largest number that fits. `low` does, and `high` does not."""
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def _fill(array: np.ndarray, limit: Limit) -> np.ndarray:
    """Return an array of the largest numbers below the limit."""
    largest = np.minimum(limit, min(int(np.iinfo(array.dtype).max), MAX_IDS) + 1) - 1
    return np.broadcast_to(largest, array.shape).astype(array.dtype)


def find_limits_of_large(accepts: Callable[[Arrays], bool], inputs: Arrays) -> Dict[str, Limit]:
    """Return MAX_IDS for each integer input that must be smaller. {} if no integer input may be large.

    inputs: with large integers, which the model refuses if all inputs have them. accepts: as in `find_limits`; it is
    called once for each input.
    """
    names = integer_inputs(inputs)
    limits: Dict[str, Limit] = {
        name: MAX_IDS
        for name in names
        if not accepts(wrap_ids(inputs, {other: MAX_IDS for other in names if other != name}))
    }
    return limits if len(limits) < len(names) else {}


def wrap_ids(inputs: Arrays, sizes: Mapping[str, Limit]) -> Arrays:
    """Return the inputs modulo these sizes: integers from 0 to the size minus 1."""
    return {name: _wrap(array, sizes[name]) if name in sizes else array for name, array in inputs.items()}


def _wrap(array: np.ndarray, size: Limit) -> np.ndarray:
    if not isinstance(size, int) and array.shape[-1:] != (len(size),):
        size = min(size)
    if array.dtype.kind == "f":  # ids that the graph converts to integers
        return np.mod(np.floor(array), np.asarray(size, array.dtype))
    sizes = np.asarray(size, np.int64).clip(max=min(int(np.iinfo(array.dtype).max), (1 << 31) - 1))
    return np.mod(array, sizes.astype(array.dtype))
