"""How large the whole numbers may be that a model takes: found by asking it.

Ids are rows of a table, of which a model has so many and no more. Drawn ids that it refuses are taken modulo the
number of rows, which is where the model begins to refuse: both ends of the table are reached, whatever it holds.
"""

from typing import Callable, Dict, List, Mapping, Optional

import numpy as np

Arrays = Dict[str, np.ndarray]

# Drawn ids are below it, so that nothing larger need be found.
MOST_IDS = 32768


def whole(inputs: Mapping[str, np.ndarray]) -> List[str]:
    """The inputs of whole numbers."""
    return [name for name, array in inputs.items() if array.dtype.kind in "iu"]


def limits(takes: Callable[[Arrays], bool], inputs: Arrays) -> Optional[Dict[str, int]]:
    """Input → the smallest whole number from 1 on that it does not take, MOST_IDS where there is none so small.

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
        low, high = least, MOST_IDS
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
    """Whole numbers modulo these sizes: none below zero, and the largest is one less than the size."""
    return {
        name: np.mod(array, np.asarray(min(sizes[name], np.iinfo(array.dtype).max), array.dtype))
        if name in sizes
        else array
        for name, array in inputs.items()
    }
