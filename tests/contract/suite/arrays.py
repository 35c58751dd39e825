"""Arrays and specs of the cases."""

import numpy as np

from . import imports  # noqa: F401 - makes `runtimes` importable
from runtimes import wire
from runtimes.contract import datatype_of, numpy_dtype
from runtimes.tensors import from_array, to_array


def specs(raw):
    return wire.specs_from_json(raw)


def ones(spec):
    shape = tuple(2 if size == -1 else size for size in spec.shape or ())
    array = np.ones(shape, numpy_dtype(spec.datatype or "FP32"))
    if array.dtype == object:
        array[...] = b"one"
    return array


def array_of(value, datatype):
    array = np.asarray(value)
    if datatype == "BYTES" or array.dtype.kind in "US":
        objects = np.empty(array.shape, object)  # numpy's own strings drop trailing zeros
        objects[...] = np.asarray(value, object)
        return np.asarray(np.vectorize(encoded, otypes=[object])(objects), object) if objects.size else objects
    if not datatype and array.dtype.kind == "f":
        datatype = "FP32"
    return array.astype(numpy_dtype(datatype)) if datatype else array


def encoded(text):
    return text.encode(errors="surrogateescape") if isinstance(text, str) else text


def as_objects(array):
    """Return numpy's fixed-width strings as an object array of bytes."""
    if array.dtype.kind != "S":
        return array
    objects = np.empty(array.shape, object)
    objects[...] = array.astype(object)
    return objects


def sent(name, array):
    """Return the array as it arrives through the wire's own functions."""
    tensor = from_array(name, as_objects(array))
    return to_array(tensor._replace(data=bytes(tensor.data)))


def content(array):
    return array.tolist() if array.dtype == object else array.tobytes()


def fits(array, spec):
    if spec.datatype and datatype_of(array.dtype) != spec.datatype:
        return False
    if spec.shape is None:
        return True
    return len(spec.shape) == array.ndim and all(
        expected in (-1, size) for expected, size in zip(spec.shape, array.shape)
    )
