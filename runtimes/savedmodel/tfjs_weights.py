"""Reads the weights of a TensorFlow.js model: a manifest in model.json, and files with their bytes."""

import math
import os
import struct
from typing import Any, Dict, List, Tuple

import numpy as np

from runtimes.contract import LoadError

_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "?", "complex64": "<c8"}
_QUANTIZED = {"float16": "<f2", "uint8": "<u1", "uint16": "<u2"}


def read_weights(folder: str, manifest: Any) -> Dict[str, np.ndarray]:
    """Return the weights by name, dequantized. Strings are object arrays of bytes.

    folder: that of model.json. Raises LoadError.
    """
    try:
        return _read(folder, manifest)
    except (LoadError, MemoryError):
        raise
    except Exception as error:  # a shape that no array can have, text in place of an object, …
        raise LoadError(
            "the manifest of the weights is damaged (%s): copy the model again" % type(error).__name__
        ) from error


def _read(folder: str, manifest: Any) -> Dict[str, np.ndarray]:
    found: Dict[str, np.ndarray] = {}
    for group in manifest if isinstance(manifest, list) else []:
        paths, weights = _list(group, "paths"), _list(group, "weights")
        data, position = _joined(folder, paths), 0
        for entry in weights:
            name, array, position = _weight(entry, data, position)
            if name in found:
                raise LoadError("the manifest has the weight '%.60s' twice" % name)
            found[name] = array
        if position != len(data):
            raise LoadError(
                "the files %s have %d bytes, but the weights in the manifest need %d: copy all files of the model again"
                % (_named(paths), len(data), position)
            )
    return found


def _joined(folder: str, paths: List[Any]) -> memoryview:
    data = bytearray()
    for path in paths:
        parts = path.split("/") if isinstance(path, str) else []
        if not parts or "\\" in path or ":" in path or any(part in ("", "..") for part in parts):
            raise LoadError("the manifest names the file '%.60s', which is not a file below the model's folder" % path)
        try:
            with open(os.path.join(folder, *parts), "rb") as file:
                data += file.read()
        except FileNotFoundError:
            raise LoadError(
                "the file '%.60s' is missing, which has weights: copy it next to model.json" % path
            ) from None
        except OSError as error:
            raise LoadError("the file '%.60s' cannot be read: %s" % (path, error.strerror)) from None
    return memoryview(data)


def _weight(entry: Any, data: memoryview, position: int) -> Tuple[str, np.ndarray, int]:
    """Return name and array of a weight, and the position after it."""
    name, shape, dtype = (entry.get(key) if isinstance(entry, dict) else None for key in ("name", "shape", "dtype"))
    if not isinstance(name, str) or not isinstance(shape, list) or not all(_is_size(size) for size in shape):
        raise LoadError("the manifest of the weights is damaged: each needs a name, a shape and a dtype")
    quantization = entry.get("quantization") or {}
    stored = quantization.get("dtype", dtype)
    if dtype == "string":
        texts, position = _strings(name, math.prod(shape), data, position)
        array = np.empty(len(texts), object)
        array[:] = texts
        return name, array.reshape(shape), position
    layout = (_QUANTIZED if quantization else _DTYPES).get(stored)
    if layout is None or dtype not in _DTYPES:
        raise LoadError("the weight '%.60s' has the datatype %.40s, which TensorFlow.js lacks" % (name, stored))
    end = position + math.prod(shape) * np.dtype(layout).itemsize
    array = np.frombuffer(_part(name, data, position, end), layout).reshape(shape)
    return name, _dequantized(array, quantization, np.dtype(_DTYPES[dtype])), end


def _is_size(size: Any) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size >= 0


def _dequantized(array: np.ndarray, quantization: Dict[str, Any], dtype: np.dtype) -> np.ndarray:
    """Compute in float64, as JavaScript does, and round the result."""
    if array.dtype.kind != "u":
        return array.astype(dtype)
    scale, low = (quantization.get(key) for key in ("scale", "min"))
    if not isinstance(scale, (int, float)) or not isinstance(low, (int, float)):
        raise LoadError("a quantized weight has no scale or no minimum in the manifest")
    values = array.astype(np.float64) * scale + low
    return (np.floor(values + 0.5) if dtype.kind == "i" else values).astype(dtype)


def _strings(name: str, count: int, data: memoryview, position: int) -> Tuple[List[bytes], int]:
    texts = []
    for _ in range(count):
        (length,) = struct.unpack("<I", _part(name, data, position, position + 4))
        end = position + 4 + length
        texts.append(bytes(_part(name, data, position + 4, end)))
        position = end
    return texts, position


def _part(name: str, data: memoryview, start: int, end: int) -> memoryview:
    if end > len(data):
        raise LoadError(
            "the files with the weights end within '%.60s', at %d bytes: copy all files of the model again"
            % (name, len(data))
        )
    return data[start:end]


def _list(group: Any, key: str) -> List[Any]:
    found = group.get(key) if isinstance(group, dict) else None
    if not isinstance(found, list):
        raise LoadError("the manifest of the weights has a group without '%s'" % key)
    return found


def _named(paths: List[Any]) -> str:
    return ", ".join("'%s'" % path for path in paths[:3]) + (", …" if len(paths) > 3 else "")
