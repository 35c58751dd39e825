"""BF16 arrays in DLPack's form and back, which numpy cannot convert: as UINT16 with another type code.

Models in Triton's form exchange BF16 tensors with PyTorch in this way.
"""

import ctypes
from typing import Any

import numpy as np

from runtimes.contract import numpy_dtype

_UINT, _BFLOAT = 1, 4  # DLDataTypeCode
# Of DLTensor's type code: after the address of the data, the device and the number of dimensions.
_CODE_OFFSET = 20
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def is_bfloat16(array: np.ndarray) -> bool:
    return array.dtype.name == "bfloat16"


def export(array: np.ndarray) -> Any:
    """Return a capsule of a BF16 array, which shares its memory if that may be written to."""
    capsule = (array if array.flags.writeable else array.copy()).view(np.uint16).__dlpack__()
    _code(capsule).value = _BFLOAT
    return capsule


def as_array(tensor: Any) -> np.ndarray:
    """Return the array of a tensor, or of a capsule, in main memory. Its type is one of numpy's, or BF16."""
    if hasattr(tensor, "__dlpack__"):
        try:
            return np.from_dlpack(tensor)
        except (BufferError, RuntimeError):  # numpy's words for a type that it lacks
            tensor = tensor.__dlpack__()
    return _of_capsule(tensor)


def _of_capsule(capsule: Any) -> np.ndarray:
    is_bfloat = _code(capsule).value == _BFLOAT
    if is_bfloat:
        _code(capsule).value = _UINT
    array = np.from_dlpack(_Capsule(capsule))
    return array.view(numpy_dtype("BF16")) if is_bfloat else array


def _code(capsule: Any) -> Any:
    return ctypes.c_uint8.from_address(_pointer_of(capsule, b"dltensor") + _CODE_OFFSET)


class _Capsule:
    """A capsule in the form that numpy takes."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> Any:
        return 1, 0  # main memory
