"""All parameters of a network in one row, taken layer by layer."""

from typing import Sequence

import numpy as np

from runtimes.contract import LoadError

from .settings import Settings


class Parameters:
    """
    served  the file's datatype, that of the network's inputs and outputs
    dtype   what is computed in: single precision for HALF, too, whose networks ONNX Runtime's optimizer crashes on
    """

    def __init__(self, row: np.ndarray) -> None:
        self.served = row.dtype
        self._row, self._place = (row.astype(np.float32) if row.dtype == np.float16 else row), 0
        self.dtype = self._row.dtype

    def take(self, shape: Sequence[int], order: str, settings: Settings) -> np.ndarray:
        """The next ones. order: "F" or "C", as DL4J lays this one out. Raises LoadError where there are too few."""
        count = 1
        for size in shape:
            count *= size
        left = len(self._row) - self._place
        if count > left:
            settings.refuse("it wants %d more parameters, and %d are left in coefficients.bin" % (count, left))
        taken = self._row[self._place : self._place + count]
        self._place += count
        return np.ascontiguousarray(taken.reshape(shape, order=order))

    def end(self) -> None:
        left = len(self._row) - self._place
        if left:
            raise LoadError("coefficients.bin holds %d parameters more than the network's layers take" % left)
