"""PyTorch's tensors as arrays, and the reverse. numpy lacks BF16 and FP8: their arrays have the dtypes of ml_dtypes."""

from typing import Dict

import numpy as np
import torch

from runtimes.contract import DATATYPES, InvalidInput, datatype_of, numpy_dtype

_LACKING = {"BF16": torch.bfloat16, "FP8_E4M3FN": torch.float8_e4m3fn, "FP8_E5M2": torch.float8_e5m2}
_NAMES = {dtype: name for name, dtype in _LACKING.items()}
# PyTorch uses the same names as numpy.
FLOATS: Dict[str, torch.dtype] = {
    each.name: getattr(torch, each.dtype.name)
    for each in DATATYPES.values()
    if each.kind == "float" and each.typestr is not None
}
FLOATS.update(_LACKING)
# Those in which models compute, with fewer bits than FP32.
NARROW = {torch.float16: "FP16", torch.bfloat16: "BF16"}


def datatype_of_tensors(dtype: torch.dtype) -> str:
    """Return the datatype of tensors of this type. Raises KeyError, TypeError or RuntimeError if there is none."""
    return _NAMES.get(dtype) or datatype_of(torch.empty(0, dtype=dtype).numpy().dtype)


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """Return a view of a tensor on the CPU."""
    name = _NAMES.get(tensor.dtype)
    if name is None:
        return tensor.numpy()
    bits = tensor.view(torch.int16 if tensor.dtype.itemsize == 2 else torch.uint8)
    return bits.numpy().view(numpy_dtype(name))


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """Return a view of an array. Raises InvalidInput if PyTorch has no such tensors."""
    if array.dtype.isbuiltin != 2:
        return torch.from_numpy(array)
    name = datatype_of(array.dtype)
    if name not in _LACKING:
        raise InvalidInput("PyTorch has no tensors of %s" % name)
    bits = torch.from_numpy(array.view(np.int16 if array.dtype.itemsize == 2 else np.uint8))
    return bits.view(_LACKING[name])
