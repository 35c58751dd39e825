"""A variable of CNTK's as it passes between functions."""

from typing import NamedTuple, Optional, Tuple

import numpy as np


class Value(NamedTuple):
    """A variable of CNTK's as a tensor of ONNX's: dynamic axes first, then `shape`.

    shape  static, row-major; -1 for a size that only a request tells
    axes   names of the dynamic axes: none, the batch's, or the batch's and a sequence's
    array  what it holds, where that is known
    uniform  whether it is the same for every row, depending on no input's values
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
