"""An array and a buffer as ND4J writes them (Nd4j.write, BaseDataBuffer.write)."""

import struct
from typing import Literal

import numpy as np

# Up to 1.0.0-alpha, a buffer's length and its shape have 32 bits, and from beta3 on 64. From beta4 on, the
# shape also contains the type, as bits of ArrayOptions instead of the offset.
SHAPE_TYPES = {"JAVACPP": "INT", "LONG_SHAPE": "LONG", "MIXED_DATA_TYPES": "LONG"}
TYPE_FLAGS = {"HALF": 4096, "FLOAT": 8192, "DOUBLE": 16384}
NUMPY = {"HALF": ">f2", "FLOAT": ">f4", "DOUBLE": ">f8", "INT": ">i4", "LONG": ">i8"}


def utf(text: str) -> bytes:
    """DataOutputStream.writeUTF, for ASCII."""
    return struct.pack(">H", len(text)) + text.encode("ascii")


def buffer(values: np.ndarray, kind: str, era: str) -> bytes:
    length = struct.pack(">i" if era == "JAVACPP" else ">q", values.size)
    return utf(era) + length + utf(kind) + values.astype(NUMPY[kind]).tobytes()


def array(
    values: np.ndarray, dtype: str = "FLOAT", era: str = "MIXED_DATA_TYPES", order: Literal["C", "F"] = "C"
) -> bytes:
    """Write an array. Rank 1 becomes a row [1, N], like all of ND4J's arrays before beta4 and parameter rows since."""
    values = np.atleast_2d(values)
    steps = [1] * values.ndim
    if not (values.ndim == 2 and values.shape[0] == 1):  # in real files, a row has the strides 1, 1
        axes = range(values.ndim) if order == "F" else range(values.ndim - 1, -1, -1)
        step = 1
        for axis in axes:
            steps[axis], step = step, step * values.shape[axis]
    extras = TYPE_FLAGS[dtype] if era == "MIXED_DATA_TYPES" else 0
    shape = np.array([values.ndim, *values.shape, *steps, extras, 1, ord({"C": "c", "F": "f"}[order])])
    return buffer(shape, SHAPE_TYPES[era], era) + buffer(values.flatten(order=order), dtype, era)
