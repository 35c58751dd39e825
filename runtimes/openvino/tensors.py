"""Arrays as OpenVINO's tensors, and the reverse."""

from typing import Any

import numpy as np
import openvino as ov

from runtimes.contract import InvalidInput, datatype_of, numpy_dtype

_MAX_STRINGS = 1 << 30  # bytes of an array in which all strings take as much as the longest
_INT32, _FP32 = np.iinfo(np.int32), np.finfo(np.float32)
# Datatypes that numpy lacks → OpenVINO's. Two numbers of four bits share a byte.
_TYPES = {
    "BF16": ov.Type.bf16, "FP8_E4M3FN": ov.Type.f8e4m3, "FP8_E5M2": ov.Type.f8e5m2, "INT4": ov.Type.i4,
    "UINT4": ov.Type.u4,
}  # fmt: skip
_DATATYPES = {kind.get_type_name(): datatype for datatype, kind in _TYPES.items()}
_PACKED = ("INT4", "UINT4")


def to_tensor(name: str, array: np.ndarray) -> Any:
    """Return an input as OpenVINO accepts it. Raises InvalidInput for values that it would change."""
    if array.dtype == object:
        return _strings(name, array)
    datatype = datatype_of(array.dtype)
    if datatype in _TYPES:
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8 if array.itemsize == 1 else np.uint16)
        return ov.Tensor(_packed(raw) if datatype in _PACKED else raw, ov.Shape(array.shape), _TYPES[datatype])
    if not array.size:
        return array
    if array.dtype in (np.int64, np.uint64, np.uint32) and not _INT32.min <= array.min() <= array.max() <= _INT32.max:
        raise InvalidInput("input '%s' has values outside of INT32, in which OpenVINO computes integers" % name)
    if array.dtype == np.float64:
        numbers = np.abs(array[~np.isnan(array)])  # infinity would become the largest number of FP32
        if numbers.size and numbers.max() > _FP32.max:
            raise InvalidInput("input '%s' has values outside of FP32, in which OpenVINO computes FP64" % name)
    return array


def to_array(tensor: Any) -> np.ndarray:
    """Return a copy of an output, because the next run writes to the same memory."""
    if tensor.element_type == ov.Type.string:
        texts = np.empty(tuple(tensor.shape), object)
        texts.flat[:] = [bytes(text) for text in tensor.bytes_data.flat]
        return texts
    datatype = _DATATYPES.get(tensor.element_type.get_type_name(), "")
    if datatype in _PACKED:
        count, shape = int(np.prod(tuple(tensor.shape), dtype=np.int64)), tuple(tensor.shape)
        return _unpacked(tensor.data.reshape(-1).view(np.uint8), datatype)[:count].reshape(shape)
    array = np.array(tensor.data)
    return array.view(numpy_dtype(datatype)) if datatype else array


def _packed(numbers: np.ndarray) -> np.ndarray:
    """Return pairs of numbers in a byte each, the first in the lower half."""
    even = np.zeros(len(numbers) + len(numbers) % 2, np.uint8)
    even[: len(numbers)] = numbers & 15
    return even[::2] | (even[1::2] << 4)


def _unpacked(raw: np.ndarray, datatype: str) -> np.ndarray:
    halves = np.stack([raw & 15, raw >> 4], axis=1).reshape(-1)
    if datatype == "INT4":
        return ((halves ^ 8).astype(np.int8) - 8).astype(numpy_dtype(datatype))
    return halves.astype(numpy_dtype(datatype))


def _strings(name: str, array: np.ndarray) -> np.ndarray:
    texts = list(array.flat)
    if any(text.endswith(b"\0") for text in texts):
        raise InvalidInput("input '%s' has a string that ends in a zero byte, which OpenVINO cuts off" % name)
    if max(map(len, texts), default=0) * len(texts) > _MAX_STRINGS:
        raise MemoryError("the strings are too long for one batch")
    return np.array(texts, "S").reshape(array.shape) if texts else np.empty(array.shape, "S1")
