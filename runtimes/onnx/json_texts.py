"""Values that are not tensors (sequences, maps, optional values) as JSON texts, for answers in JSON."""

import json
import re
from typing import Any

import numpy as np

# Types that `texts` can write. A sparse tensor is none of them, nor is a tensor of a type that numpy lacks.
_WRITTEN = re.compile(
    r"((seq|optional)\()*(map\((int64|string),)?tensor\((bool|u?int(8|16|32|64)|float16|float|double|string)\)\)+"
)


def is_written(kind: str) -> bool:
    """Return whether values of this type, as ONNX Runtime writes it ("seq(map(int64,tensor(float)))"), have texts."""
    return bool(_WRITTEN.fullmatch(kind)) and not kind.startswith("tensor(")


def texts(value: Any, kind: str) -> np.ndarray:
    """Return a BYTES array: an element for each of a sequence, of one dimension, or one scalar for any other value.

    A map is an object, whose keys are texts in JSON. None is null, for an optional value that is absent.
    """
    elements = value if isinstance(value, list) else [value]
    found = np.empty(len(elements), object)
    found[:] = [_text(element, "tensor(float)" in kind) for element in elements]
    return found if isinstance(value, list) else found.reshape(())


def _text(value: Any, is_single: bool) -> bytes:
    return json.dumps(_plain(value, is_single), ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: Any, is_single: bool) -> Any:
    """Return what `json` writes. is_single: whether its floats are those of FP32."""
    if isinstance(value, dict):
        return {str(key): _plain(each, is_single) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, is_single) for each in value]
    if isinstance(value, float):
        return _shortest(np.float32(value)) if is_single else value
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind != "f" or value.dtype.itemsize == 8:
        return value.tolist()
    shortest = np.empty(value.shape, object)
    shortest.flat = [_shortest(each) for each in value.flat]
    return shortest.tolist()


def _shortest(number: Any) -> float:
    """Return the number with the fewest digits that is this one in its own precision."""
    return float(str(number))
