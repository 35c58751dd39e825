"""Named arrays in an npz file. Processes exchange the inputs and outputs of an export's proof in these files.

numpy.load can read them, except for strings. Numpy stores strings with a fixed width and strips zero bytes at the end
of each, so every string is written with one extra byte that is removed when it is read. It stores the datatypes that it
lacks as bytes without a type, so they are written as records with one field, which is named after the datatype.
"""

import zipfile
from typing import Dict, Mapping

import numpy as np

from runtimes.contract import datatype_of, numpy_dtype

Arrays = Dict[str, np.ndarray]

_TERMINATOR = b"."


def write(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays; strings are object arrays of bytes.

    numpy.savez is not used, because its parameter `file` conflicts with an array of that name.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(name + ".npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, _encode(np.asarray(array)), allow_pickle=False)


def read(path: str) -> Arrays:
    """Return the arrays that `write` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return {name: _decode(file[name]) for name in file.files}


def _encode(array: np.ndarray) -> np.ndarray:
    if array.dtype.isbuiltin == 2:
        return array.view([(datatype_of(array.dtype), "u%d" % array.dtype.itemsize)])
    if array.dtype != object:
        return array
    return np.array([element + _TERMINATOR for element in array.flat], "S").reshape(array.shape)


def _decode(array: np.ndarray) -> np.ndarray:
    if array.dtype.names:
        (datatype,) = array.dtype.names
        return array[datatype].view(numpy_dtype(datatype))
    if array.dtype.kind != "S":
        return array
    strings = np.empty(array.shape, dtype=object)
    strings.flat[:] = [element[: -len(_TERMINATOR)] for element in array.flat]
    return strings
