"""Runs a session that has inputs or outputs of BF16, FP8, INT4 or UINT4, which `run` refuses because numpy lacks them.

They are passed as ONNX Runtime's own values, which are made of bytes. Four-bit integers take half a byte each there,
the first of two in the lower bits, and a byte each in arrays.
"""

import ctypes
from typing import Any, Dict, List, Sequence

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from runtimes.contract import NARROW_RANGES, datatype_of, numpy_dtype

from .direct import Run

# Type of ONNX Runtime → datatype.
SMALL_TYPES = {
    "tensor(bfloat16)": "BF16",
    "tensor(float8e4m3fn)": "FP8_E4M3FN",
    "tensor(float8e5m2)": "FP8_E5M2",
    "tensor(int4)": "INT4",
    "tensor(uint4)": "UINT4",
}
# Datatype → TensorProto.DataType.
_NUMBERS = {"BF16": 16, "FP8_E4M3FN": 17, "FP8_E5M2": 19, "UINT4": 21, "INT4": 22}


def run_with_small_types(session: ort.InferenceSession, run: Run) -> Run:
    """Return `run`, or a function that does the same if the session has such tensors."""
    if not any(node.type in SMALL_TYPES for node in session.get_inputs() + session.get_outputs()):
        return run

    def run_values(outputs: Sequence[str], feed: Dict[str, np.ndarray], options: ort.RunOptions) -> List[Any]:
        contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in feed.items()}
        try:
            values = {name: _value(array) for name, array in contiguous.items()}
        except RuntimeError as error:  # `run` raises a subclass for each kind of error
            raise Fail(str(error)) from error
        return [_array(value) for value in session.run_with_ort_values(list(outputs), values, options)]

    return run_values


def _value(array: np.ndarray) -> ort.OrtValue:
    """Return a value that uses the array's memory, unless it holds four-bit integers."""
    if array.dtype.isbuiltin != 2:
        return ort.OrtValue.ortvalue_from_numpy(array)
    datatype = datatype_of(array.dtype)
    if datatype not in NARROW_RANGES:
        bits = array.view("u%d" % array.dtype.itemsize)
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _NUMBERS[datatype])
    value = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, _NUMBERS[datatype])
    nibbles = array.view(np.uint8).ravel() & 15
    if len(nibbles) % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    packed = (nibbles[::2] | nibbles[1::2] << 4).tobytes()
    ctypes.memmove(value.data_ptr(), packed, len(packed))
    return value


def _array(value: ort.OrtValue) -> Any:
    datatype = SMALL_TYPES.get(value.data_type())
    if datatype is None:
        return value.numpy()
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    if datatype in NARROW_RANGES:
        packed = np.frombuffer(data, np.uint8)
        unpacked = np.stack([packed & 15, packed >> 4], axis=-1).ravel()
        data = unpacked[: int(np.prod(value.shape()))].tobytes()
    return np.frombuffer(data, numpy_dtype(datatype)).reshape(value.shape())
