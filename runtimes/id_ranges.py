"""Finds out which integers a model accepts, from its graph or else by running the model.

Ids are indices of rows in a table. Random ids that a model refuses are taken modulo the number of rows, so that both
ends of the table are used, whatever its size. If the graph does not show the number of rows, it is the smallest id that
the model refuses.
"""

from typing import Callable, Dict, List, Mapping, Optional

import numpy as np

from runtimes.contract import InputRange, Model, first_line

Arrays = Dict[str, np.ndarray]

# Random ids are below this limit, so larger tables need not be measured. It exceeds the vocabulary of BERT (30,522); a
# higher limit would cost a run of the model for each doubling.
MAX_IDS = 32768


def read_ranges(model: Model, signature: str) -> Dict[str, InputRange]:
    """Return the ranges of the signature's inputs as the artifact's graph shows them, by name."""
    try:
        found = model.input_ranges(signature)
    except Exception as error:  # noqa: BLE001 - an unreadable graph shows nothing, and is no reason to fail
        print("no ranges of inputs could be read from the graph: %s" % first_line(error))
        return {}
    return {spec.name: found[spec.name] for spec in model.signatures[signature].inputs if spec.name in found}


def table_sizes(ranges: Mapping[str, InputRange]) -> Dict[str, int]:
    """Return the number of rows of the table that each input indexes, for tables that are indexed from 0."""
    return {name: int(each.high) + 1 for name, each in ranges.items() if each.rows and -1 < each.low <= 0}


def sample_range(known: InputRange, fraction: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return numbers in a range, at the given fractions of it (0 to 1).

    Indices stay within the range. Other numbers exceed it by an eighth at both ends, as real inputs may.
    """
    is_integer = dtype.kind in "iu"
    low, high = known.low, known.high
    if known.rows:
        low, high = np.ceil(low), np.floor(high)
        numbers = low + np.minimum(np.floor(fraction * (high - low + 1)), high - low)
    else:
        margin = max((high - low) / 8, 1.0 if is_integer else 0.0)
        numbers = low - margin + fraction * (high - low + 2 * margin)
    if is_integer:
        numbers = np.clip(np.rint(numbers), float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
    return numbers.astype(dtype)


def integer_inputs(inputs: Mapping[str, np.ndarray]) -> List[str]:
    """Return the names of the integer inputs."""
    return [name for name, array in inputs.items() if array.dtype.kind in "iu"]


def find_limits(accepts: Callable[[Arrays], bool], inputs: Arrays) -> Optional[Dict[str, int]]:
    """Return for each integer input the smallest positive number that the model refuses, or MAX_IDS if that is smaller.

    inputs: of one run. accepts: runs the model and returns whether it accepts the inputs; it is called twice at first
    and up to 17 times for each input.

    Returns None if the model refuses ones and zeros as well, so that the integers are not the reason.
    """

    def fill(sizes: Dict[str, int]) -> Arrays:
        return {
            name: np.full_like(array, min(sizes[name], int(np.iinfo(array.dtype).max) + 1) - 1)
            if name in sizes
            else array
            for name, array in inputs.items()
        }

    names = integer_inputs(inputs)
    smallest = next((size for size in (2, 1) if names and accepts(fill(dict.fromkeys(names, size)))), 0)
    if not smallest:
        return None
    found = {}
    for name in names:
        known = dict.fromkeys(names, smallest)
        low, high = smallest, MAX_IDS
        if accepts(fill(dict(known, **{name: high}))):
            low = high
        while high - low > 1:
            middle = (low + high) // 2
            if accepts(fill(dict(known, **{name: middle}))):
                low = middle
            else:
                high = middle
        found[name] = low
    return found


def wrap_ids(inputs: Arrays, sizes: Mapping[str, int]) -> Arrays:
    """Return the inputs modulo these sizes: integers from 0 to the size minus 1."""
    return {name: _wrap(array, sizes[name]) if name in sizes else array for name, array in inputs.items()}


def _wrap(array: np.ndarray, size: int) -> np.ndarray:
    if array.dtype.kind == "f":  # ids that the graph converts to integers
        return np.mod(np.floor(array), np.asarray(size, array.dtype))
    return np.mod(array, np.asarray(min(size, np.iinfo(array.dtype).max), array.dtype))
