"""The values that pass between functions."""

from typing import NamedTuple, Optional, Tuple

import numpy as np


class Value(NamedTuple):
    """A CNTK variable as an ONNX tensor, whose dimensions are the dynamic axes, then `shape`.

    name     name of the tensor; "" for a constant that has none yet
    shape    static shape, row-major; -1 is a free dimension
    axes     names of the dynamic axes: none, the batch, or the batch and a sequence
    array    the elements of a constant; None for anything else
    uniform  whether it is the same for every row, because it does not depend on the values of any input
    """

    name: str
    shape: Tuple[int, ...]
    axes: Tuple[str, ...]
    dtype: np.dtype
    array: Optional[np.ndarray] = None
    uniform: bool = False

    @property
    def lead(self) -> int:
        return len(self.axes)
