"""Arrays by name in one npz file: how the inputs and the answers of an export's proof pass between processes.

Read by the standard's own numpy.load too, but for strings: those are of a fixed width there, and numpy drops zero
bytes at the end of each, so that every string is written with one more byte behind it.
"""

import zipfile
from typing import Dict, Mapping

import numpy as np

Arrays = Dict[str, np.ndarray]

_BEHIND = b"."


def write(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """As numpy.savez would, which has no room for an array that is called file. Strings are object arrays of bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(name + ".npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, _written(np.asarray(array)), allow_pickle=False)


def read(path: str) -> Arrays:
    """What write() has written."""
    with np.load(path, allow_pickle=False) as file:
        return {name: _as_read(file[name]) for name in file.files}


def _written(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array
    return np.array([element + _BEHIND for element in array.flat], "S").reshape(array.shape)


def _as_read(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "S":
        return array
    strings = np.empty(array.shape, dtype=object)
    strings.flat = [element[: -len(_BEHIND)] for element in array.flat]
    return strings
