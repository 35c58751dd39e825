"""Bodies of /predict for arrays: npz, or JSON if one of the tensors has a datatype that numpy lacks."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gateway.codecs.json_tensors import json_values
from gateway.codecs.json_text import dumps, loads
from gateway.codecs.npy import NPZ, write_npz
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes.tensors import Tensor

JSON = "application/json"


def form_for(datatypes: Iterable[str]) -> str:
    """Return the media type of bodies with tensors of these datatypes; "" is an unknown one."""
    return JSON if any(each in DATATYPES and DATATYPES[each].typestr is None for each in datatypes) else NPZ


def write(tensors: Sequence[Tensor], form: str) -> bytes:
    """Return the body of a request."""
    if form == NPZ:
        return write_npz(tensors)
    return dumps({"inputs": {tensor.name: json_values(tensor) for tensor in tensors}})


def read_json(body: bytes, datatypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the outputs of an answer in JSON. datatypes: output → datatype, "" if it is unknown."""
    return {
        name: np.array(values, numpy_dtype(datatypes[name]) if datatypes.get(name) else None)
        for name, values in loads(body)["outputs"].items()
    }
