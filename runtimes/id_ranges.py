"""Which numbers a model takes: as its graph says, else found by asking it.

Ids are rows of a table, of which a model has so many and no more. Drawn ids that it refuses are taken modulo the
number of rows: both ends of the table are reached, whatever it holds. Where the graph does not say how many rows there
are, that is where the model begins to refuse.
"""

from typing import Callable, Dict, List, Mapping, Optional

import numpy as np

from runtimes.contract import InputRange, Model, first_line

Arrays = Dict[str, np.ndarray]

# Drawn ids are below it, so that nothing larger need be found.
MAX_IDS = 32768


def read(model: Model, signature: str) -> Dict[str, InputRange]:
    """What the artifact's graph says of the signature's inputs."""
    try:
        found = model.input_ranges(signature)
    except Exception as error:  # noqa: BLE001 - a graph that cannot be read says nothing, and no more
        print("no ranges of inputs could be read from the graph: %s" % first_line(error))
        return {}
    return {spec.name: found[spec.name] for spec in model.signatures[signature].inputs if spec.name in found}


def table_sizes(ranges: Mapping[str, InputRange]) -> Dict[str, int]:
    """Input → number of rows of the table that its numbers pick, of those that start at 0."""
    return {name: int(each.high) + 1 for name, each in ranges.items() if each.rows and -1 < each.low <= 0}


def spread(known: InputRange, part: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers of a range, from parts of it (0 to 1): rows of a table; of limits, also a little beyond them."""
    whole = dtype.kind in "iu"
    low, high = known.low, known.high
    if known.rows:
        low, high = np.ceil(low), np.floor(high)
        drawn = low + np.minimum(np.floor(part * (high - low + 1)), high - low)
    else:
        beyond = max((high - low) / 8, 1.0 if whole else 0.0)
        drawn = low - beyond + part * (high - low + 2 * beyond)
    if whole:
        drawn = np.clip(np.rint(drawn), float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
    return drawn.astype(dtype)


def whole(inputs: Mapping[str, np.ndarray]) -> List[str]:
    """The inputs of whole numbers."""
    return [name for name, array in inputs.items() if array.dtype.kind in "iu"]


def limits(takes: Callable[[Arrays], bool], inputs: Arrays) -> Optional[Dict[str, int]]:
    """Input → the smallest whole number from 1 on that it does not take, MAX_IDS where there is none so small.

    inputs: of one run. takes: whether the model answers. None: it does not answer ones or zeros either, so that
    whole numbers are not what it refuses. Asks at most 2 + 17 times for each input.
    """

    def filled(sizes: Dict[str, int]) -> Arrays:
        return {
            name: np.full_like(array, min(sizes[name], int(np.iinfo(array.dtype).max) + 1) - 1)
            if name in sizes
            else array
            for name, array in inputs.items()
        }

    names = whole(inputs)
    least = next((size for size in (2, 1) if names and takes(filled(dict.fromkeys(names, size)))), 0)
    if not least:
        return None
    found = {}
    for name in names:
        known = dict.fromkeys(names, least)
        low, high = least, MAX_IDS
        if takes(filled(dict(known, **{name: high}))):
            low = high
        while high - low > 1:
            middle = (low + high) // 2
            if takes(filled(dict(known, **{name: middle}))):
                low = middle
            else:
                high = middle
        found[name] = low
    return found


def folded(inputs: Arrays, sizes: Mapping[str, int]) -> Arrays:
    """Numbers modulo these sizes: whole ones, none below zero, and the largest is one less than the size."""
    return {name: _folded(array, sizes[name]) if name in sizes else array for name, array in inputs.items()}


def _folded(array: np.ndarray, size: int) -> np.ndarray:
    if array.dtype.kind == "f":  # ids that a graph makes whole numbers of
        return np.mod(np.floor(array), np.asarray(size, array.dtype))
    return np.mod(array, np.asarray(min(size, np.iinfo(array.dtype).max), array.dtype))
