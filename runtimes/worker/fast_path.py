"""The fast path of a worker: a frame of requests that is a batch as it is, and whose results are a frame.

A worker that shares its core with a front finds the caches cold, so that the cost of a turn is that of the functions
and objects it touches. Those of the general path (batcher, executor, results) take another 20 µs, more than a small
model. Most batches need little of what the general path can do; here is what they need, in two functions.

A frame of requests is served here if

- no other request waits or runs, and no other frame has arrived (loop.py)
- its requests may all run together, at once, as far as the batcher is concerned (`Batcher.fits_at_once`)
- its tensors are in the frame itself or in the arena, and are numbers
- the model is neither pipelined nor decoupled, does not take requests as they came, has neither a target nor a delay,
  its batches have the rows in the first dimension and are not padded, its signatures are known (loop.py), and it is not
  this batch that is considered for an audit

and its results are sent from here if the model returns numbers, with the rows of the inputs, that fit into one frame.
Everything else takes the general path: a frame before it is run, and what the model has returned or raised after that.
"""

import time
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

from runtimes import result_frames, wire
from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES, NARROW_RANGES, datatype_of, numpy_dtype
from runtimes.layouts import ALIGNMENT, TensorLayout, pack_layout
from runtimes.request_frames import RequestGroup
from runtimes.status_page import StatusPage
from runtimes.worker.audit import Auditor
from runtimes.worker.batcher import Batcher
from runtimes.worker.calls import Calls, run_in
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor
from runtimes.worker.pending import Batch
from runtimes.worker.results import MAX_FRAME_BYTES, Outcome
from runtimes.worker.rows import Arrays, sizes_fit

# Layouts that are prepared: as many as the wire caches.
_MAX_LAYOUTS = 1024

# A batch that was answered: its key and rows as in Batch, and when it began, in time.monotonic() seconds.
Done = Tuple[Any, int, float]


class _Prepared:
    """What is known about the requests with one layout.

    inputs   of each, its name, dtype, number of elements per row and shape, whose first size is -1; empty if these
             requests take the general path. A request whose rows are not counted counts as one row
    outputs  of each in the last batch, its name, dtype and shape without the rows; None before the first batch
    packed   the layout of these outputs, as bytes
    """

    __slots__ = ("inputs", "outputs", "packed")

    def __init__(self) -> None:
        self.inputs: List[Tuple[str, np.dtype, int, Tuple[int, ...]]] = []
        self.outputs: Optional[List[Tuple[str, np.dtype, Tuple[int, ...]]]] = None
        self.packed = b""


class FastPath:
    """Serves frames, one at a time. answer: what to do with a batch and its outcomes if the results are not sent here.

    It holds for the batching that the executor has when it is made.
    """

    def __init__(
        self,
        executor: Executor,
        batcher: Batcher,
        auditor: Auditor,
        status: StatusPage,
        answer: Callable[[Batch, Sequence[Outcome]], None],
        calls: Optional[Calls] = None,
    ) -> None:
        batching = executor.batching
        is_plain = not (batching.dim or batching.sizes or batching.delay or batching.target)
        self._can_serve = is_plain and not (
            executor.model.pipelined or executor.model.decoupled or executor.model.takes_requests
        )
        self._executor, self._batcher, self._auditor, self._status = executor, batcher, auditor, status
        self._answer, self._calls = answer, calls
        self._prepared = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[TensorLayout, _Prepared]

    def serve(self, connection: Connection, requests: RequestGroup, now: float) -> Optional[Done]:
        """Run and answer the requests of a frame. Return None, and do nothing, if they take the general path."""
        numbers, inputs, auditor = requests.numbers, requests.inputs, self._auditor
        layout = inputs.layout
        prepared = self._prepared.entries.get(layout) or self._prepare(layout)
        if not prepared.inputs or auditor.since_look + 1 >= auditor.every:
            return None
        fits = self._batcher.fits_at_once(requests, now)
        if fits is None:
            return None
        unit, key = fits
        count = inputs.offsets[-1]
        rows = unit * count
        self._status.set_busy(numbers, now)
        try:
            arrays = {}
            for (name, dtype, elements, shape), start in zip(prepared.inputs, inputs.starts):
                arrays[name] = np.frombuffer(inputs.body, dtype, count * elements, start).reshape(shape)
            gathered = time.monotonic()
            if self._calls is None:
                outputs = self._executor.chunked_model.run(arrays, layout[1], layout[0], rows)
            else:
                self._calls.parents = ((connection, numbers),)
                with self._calls:
                    outputs = self._executor.chunked_model.run(arrays, layout[1], layout[0], rows)
            inferred = time.monotonic()
            frame = self._pack(prepared, requests, rows, outputs, (now, gathered, inferred))
            if frame:
                self._executor.refusal = ""
                auditor.since_look += 1
                self._status.set_idle()
                connection.write(frame)
                return key, rows, now
            batch = self._batcher.all_at_once(connection, requests, now)
            outcomes = self._executor.results(batch, arrays, outputs, now, gathered, inferred)
        except Exception as error:  # noqa: BLE001 - frameworks raise anything, and the worker must survive it
            batch = self._batcher.all_at_once(connection, requests, now)
            outcomes = self._executor.failed(batch, error, now)
        if not outcomes:
            outcomes = run_in(self._calls, self._executor.run_again, batch, time.monotonic() - now)
        self._answer(batch, outcomes)
        return key, rows, now

    def _prepare(self, layout: TensorLayout) -> _Prepared:
        prepared = _Prepared()
        for name, datatype, shape, size in layout[2] if self._can_serve and sizes_fit(layout) else ():
            if datatype == "BYTES" or not size:
                prepared.inputs.clear()
                break
            elements = size // DATATYPES[datatype].itemsize
            prepared.inputs.append(
                (name, numpy_dtype(datatype), elements, shape if -1 in shape or not shape else (-1,) + shape[1:])
            )
        if type(layout) is not tuple:  # the others are too long to be cached
            self._prepared.put(layout, prepared)
        return prepared

    def _pack(
        self,
        prepared: _Prepared,
        requests: RequestGroup,
        rows: int,
        outputs: Arrays,
        times: Tuple[float, float, float],
    ) -> bytes:
        """Return the frame of the results, or b"" if they take the general path."""
        numbers, inputs = requests.numbers, requests.inputs
        total, described = 0, []
        for name, array in outputs.items():
            total += array.nbytes
            described.append((name, array.dtype, array.shape[1:] if rows else array.shape))
        if total > MAX_FRAME_BYTES or total > self._executor.max_response_bytes:
            return b""
        if described != prepared.outputs and not self._describe(prepared, inputs.layout, described, rows > 0):
            return b""
        parts = []
        for array in outputs.values():
            data = array.tobytes()
            parts.append(data)
            if len(data) % ALIGNMENT:
                parts.append(bytes(-len(data) % ALIGNMENT))
        count = len(numbers)
        began, gathered, inferred = times
        input_ns, infer_ns = int((gathered - began) * 1e9), int((inferred - gathered) * 1e9)
        return result_frames.join_results(
            numbers,
            (0,) * count,
            inputs.rows if inputs.by_row and rows else (rows // count or 1,) * count,
            (input_ns, infer_ns, int((time.monotonic() - inferred) * 1e9), rows or 1),
            prepared.packed,
            parts,
            wire.FIRST_OF_BATCH,
        )

    def _describe(
        self,
        prepared: _Prepared,
        layout: TensorLayout,
        described: List[Tuple[str, np.dtype, Tuple[int, ...]]],
        has_rows: bool,
    ) -> bool:
        """Prepare for outputs like these. Return False if they take the general path."""
        tensors, names = [], [name for name, _, _ in described]
        if not all([name in names for name in layout[1]]):
            return False
        for name, dtype, shape in described:
            size = dtype.itemsize
            for each in shape:
                size *= each
            if dtype.kind in "OSU" or not size or dtype != numpy_dtype(datatype_of(dtype)):
                return False
            if datatype_of(dtype) in NARROW_RANGES:
                return False
            tensors.append((name, datatype_of(dtype), (-1,) + shape if has_rows else shape, size))
        prepared.outputs, prepared.packed = described, pack_layout(("", (), tuple(tensors)))
        return True
