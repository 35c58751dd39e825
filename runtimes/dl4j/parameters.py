"""All parameters of a network in one array, consumed layer by layer."""

from typing import Sequence

import numpy as np

from runtimes.contract import LoadError

from .settings import Settings


class Parameters:
    """
    served  datatype of the file, and so of the network's inputs and outputs
    dtype   datatype of the computation. HALF is computed in single precision, because ONNX Runtime's optimizer
            crashes on some HALF networks
    """

    def __init__(self, row: np.ndarray) -> None:
        self.served = row.dtype
        self._row, self._offset = (row.astype(np.float32) if row.dtype == np.float16 else row), 0
        self.dtype = self._row.dtype

    def take(self, shape: Sequence[int], order: str, settings: Settings) -> np.ndarray:
        """Consume the next parameters. Raises LoadError if too few are left.

        order  "F" or "C", DL4J's memory layout for this parameter
        """
        count = 1
        for size in shape:
            count *= size
        left = len(self._row) - self._offset
        if count > left:
            settings.refuse("it needs %d more parameters, and coefficients.bin has only %d left" % (count, left))
        taken = self._row[self._offset : self._offset + count]
        self._offset += count
        return np.ascontiguousarray(taken.reshape(shape, order=order))

    def end(self) -> None:
        """Check that all parameters were consumed. Raises LoadError."""
        left = len(self._row) - self._offset
        if left:
            raise LoadError("coefficients.bin holds %d parameters more than the network's layers use" % left)
