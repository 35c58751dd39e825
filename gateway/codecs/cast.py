"""Converts arrays to the datatype of an input, as the JSON codec converts numbers: only if no value changes."""

import numpy as np

from gateway.codecs.json_tensors import read_tensor, rounded
from gateway.errors import InvalidRequest
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes.tensors import integer_range, to_array, widened


def cast(name: str, array: np.ndarray, datatype: str) -> np.ndarray:
    """Convert the array to the input's datatype, because numpy defaults to FP64 and INT64.

    Arrays of another kind are returned as they are, and the engine refuses them. Raises InvalidRequest if a value is
    out of range.
    """
    if datatype not in DATATYPES:
        return array
    dtype, input_kind = numpy_dtype(datatype), DATATYPES[datatype].kind
    if array.dtype == dtype:
        return array
    array = widened(array)
    kind = array.dtype.kind
    if input_kind == "float" and kind in "iuf" and DATATYPES[datatype].typestr is None:
        return rounded(name, array, datatype)
    if input_kind == "float" and kind in "iuf":
        with np.errstate(over="ignore"):
            converted = array.astype(dtype)
        if not np.array_equal(np.isinf(converted), np.isinf(array)):
            raise InvalidRequest(f"the data of input '{name}' holds a number too large for {datatype}")
        return converted
    if input_kind in ("int", "uint") and kind in "iu":
        least, most = integer_range(datatype)
        if not array.size or (int(array.min()) >= least and int(array.max()) <= most):
            return array.astype(dtype)
    if input_kind in ("bool", "int", "uint") and kind in "iu":
        return to_array(read_tensor(name, array.tolist(), datatype)).reshape(array.shape)
    return array
