"""What users write by hand for Spark and Ray: the bare framework in a function of Arrow batches, with one thread.

The input is the column "x", vectors of fixed size, which the model gets in its best batch; the result has "id" and "y".
"""

import os
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

BEST_BATCH = 32
# The variable with the folder of the framework's packages.
PACKAGES = "BARE_PACKAGES"


@cache
def _session(path: str) -> Any:
    """Load the model, once in a process."""
    sys.path.append(os.environ[PACKAGES])  # last, so that numpy is the one that Arrow has
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def scored(path: str, batch: pa.RecordBatch, shape: tuple[int, ...]) -> pa.RecordBatch:
    session = _session(path)
    rows = batch.column("x").flatten().to_numpy().reshape(batch.num_rows, *shape)
    starts = range(0, len(rows), BEST_BATCH)
    y = np.concatenate([session.run(None, {"x": rows[start : start + BEST_BATCH]})[0] for start in starts])
    offsets = pa.array(np.arange(len(y) + 1, dtype=np.int32) * y.shape[1])
    column = pa.ListArray.from_arrays(offsets, pa.array(y.reshape(-1)))
    return pa.RecordBatch.from_arrays([batch.column("id"), column], ["id", "y"])


class InPartition:
    """For mapInArrow of Spark."""

    def __init__(self, path: str, shape: tuple[int, ...]) -> None:
        self._path, self._shape = path, shape

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return (scored(self._path, batch, self._shape) for batch in batches)


class InActor:
    """For map_batches of Ray Data."""

    def __init__(self, path: str, shape: tuple[int, ...]) -> None:
        self._path, self._shape = path, shape
        _session(path)

    def __call__(self, table: pa.Table) -> pa.Table:
        batches = table.combine_chunks().to_batches()
        return pa.Table.from_batches([scored(self._path, batch, self._shape) for batch in batches])
