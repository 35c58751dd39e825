"""Runs one batch: concatenates the inputs, calls the model, splits the outputs."""

import sys
import time
import traceback
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.contract import CallFailed, DeviceLost, InvalidInput, Model, ModelFailed, Unsupported
from runtimes.layouts import layout_of
from runtimes.result_frames import ResultFrame
from runtimes.tensors import from_array, from_rows
from runtimes.worker.batcher import Batching, padded_size
from runtimes.worker.chunked_model import ChunkedModel, RowCountMismatch
from runtimes.worker.pending import Batch
from runtimes.worker.refusal import without_numbers
from runtimes.worker.requests import run_requests
from runtimes.worker.results import BatchResults, Failure, Outcome
from runtimes.worker.rows import Arrays, gather_inputs, split

# Errors of a called model that are temporary for the client of the calling one as well. All others are failures of the
# calling model: it has sent a request that is wrong.
_PASSED_ON = ("cancelled", "deadline", "out_of_memory", "overloaded", "unavailable")


class RunningBatch(NamedTuple):
    """A batch in progress. Times are time.monotonic() seconds.

    inputs   of all requests, concatenated
    error    why the inputs could not be concatenated, or the model could not start
    started  whether the model is working on it; `handle` is what `Model.start` returned
    """

    batch: Batch
    began_at: float
    gathered_at: float
    inputs: Arrays
    error: Optional[Exception] = None
    started: bool = False
    handle: Any = None


class Executor:
    """Runs batches on a model.

    on_run            called with the requests that are about to run together
    on_failure        called with the exception for which a request fails
    on_batching_off   called when batching turns out to be unsafe: a reason (see Facts), and a sentence for the log
    last_run          arrays of the last successful run: (signature, inputs, outputs). Its reader sets it to None
    refusal           the words with which the model refuses every input (worker/refusal.py); "" once it accepts one
    """

    def __init__(self, model: Model, batching: Batching, max_response_bytes: int) -> None:
        self.model = model
        self.batching = batching
        self.max_response_bytes = max_response_bytes
        self.on_run: Callable[[Batch], None] = lambda batch: None
        self.on_batching_off: Callable[[str, str], None] = lambda reason, note: None
        self.on_failure: Callable[[BaseException], None] = lambda error: None
        self.last_run: Optional[Tuple[str, Arrays, Arrays]] = None
        self.chunked_model = ChunkedModel(model, batching)
        self.refusal = ""
        self._finished_at = 0.0

    def switch_batching_off(self, reason: str, why: str) -> None:
        """Run each request alone from now on, including those of batches in progress."""
        if not self.batching.max_rows:
            return
        self.batching = Batching(target=self.batching.target)
        self.chunked_model = ChunkedModel(self.model, self.batching)
        self.on_batching_off(reason, "batching is off: " + why)

    def run(self, batch: Batch) -> Sequence[Outcome]:
        """Return one outcome per request, in order. A bad request fails alone: the others run again without it.

        If an output has another number of rows than the inputs, it is unknown which rows belong to which request: the
        outputs are discarded, batching is switched off, and each request runs as its client sent it.
        """
        if batch.rows and not self.batching.max_rows:
            return self.run_alone(batch)  # batching was switched off by the request before this one, which ran alone
        self.on_run(batch)
        began = time.monotonic()
        failure: List[Outcome] = []
        try:
            if self.model.takes_requests:
                return run_requests(self, batch, began)
            inputs = self.inputs(batch)
            gathered = time.monotonic()
            outputs = self.chunked_model.run(inputs, batch.outputs, batch.signature, batch.rows)
            return self.results(batch, inputs, outputs, began, gathered, time.monotonic())
        except Exception as error:  # noqa: BLE001 - frameworks raise anything, and the worker must survive it
            failure = self.failed(batch, error, began)
        return failure or self.run_again(batch, time.monotonic() - began)

    def failed(self, batch: Batch, error: Exception, began: float) -> List[Outcome]:
        """Return the outcome of a request that ran alone; nothing if the requests of the batch have to run alone."""
        self._finished_at = time.monotonic()
        if isinstance(error, DeviceLost):
            raise error
        if isinstance(error, RowCountMismatch):
            self.switch_batching_off("rows", str(error))
            return []
        return [self.failure(error).after(self._finished_at - began)] if len(batch) == 1 else []

    def run_again(self, batch: Batch, seconds: float) -> List[Outcome]:
        """Run each request of a batch that has failed alone. Those that fail then have cost what the batch took."""
        outcomes = self.run_alone(batch)
        failures = sum([isinstance(outcome, Failure) for outcome in outcomes])
        return [each.after(seconds / failures) if isinstance(each, Failure) else each for each in outcomes]

    def run_alone(self, batch: Batch) -> List[Outcome]:
        outcomes: List[Outcome] = []
        for alone in batch.alone(bool(self.batching.max_rows)):
            outcomes += self.run(alone)
        return outcomes

    def inputs(self, batch: Batch) -> Arrays:
        """Return the inputs of all requests, concatenated. Raises InvalidInput."""
        size, batching = batch.rows, self.batching
        # A batch that is too large for one run is split into chunks later, and padded then.
        if batching.sizes and 0 < size <= batching.max_rows:
            size = padded_size(size, batching.sizes)
        try:
            return gather_inputs(batch, size, batching.dim, self.model.empty)
        except ValueError as error:
            raise InvalidInput(str(error)) from error

    def begin(self, batch: Batch) -> RunningBatch:
        """Start a batch of a pipelined model. `finish` does the rest of what `run` does, and reports errors.

        An isolated request is not started: it may have killed a worker, so no other batch may be in progress with it.
        """
        self.on_run(batch)
        began = time.monotonic()
        inputs: Arrays = {}
        error: Optional[Exception] = None
        try:
            inputs = self.inputs(batch)
        except Exception as why:  # noqa: BLE001 - for example, there is no memory to concatenate them
            error = why
        running = RunningBatch(batch, began, time.monotonic(), inputs, error)
        return self._start(running) if batch.key is not None and error is None else running

    def _start(self, running: RunningBatch) -> RunningBatch:
        batch = running.batch
        if batch.rows > self.chunked_model.max_rows(running.inputs, batch.signature, batch.rows):
            return running  # it takes several runs
        try:
            handle = self.model.start(running.inputs, batch.outputs, batch.signature)
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - frameworks raise anything, and the worker must survive it
            can_be_chunked = isinstance(error, MemoryError) and batch.rows > 1
            return running if can_be_chunked else running._replace(error=error)
        return running._replace(started=True, handle=handle)

    def finish(self, running: RunningBatch) -> Sequence[Outcome]:
        """Return the outcomes of a batch that `begin` returned."""
        batch = running.batch
        failure: List[Outcome] = []
        # It waits in the model until the previous batch is done; that counts as queue time.
        waited = max(0.0, self._finished_at - running.gathered_at)
        began, gathered = running.began_at + waited, running.gathered_at + waited
        try:
            if not batch.rows or self.batching.max_rows:
                outputs = self._outputs_of(running)
                return self.results(batch, running.inputs, outputs, began, gathered, time.monotonic())
            # Batching was switched off while this batch was in progress.
            if running.started:
                self.model.finish(running.handle)
        except Exception as error:  # noqa: BLE001 - as above
            failure = self.failed(batch, error, began)
        return failure or self.run_again(batch, time.monotonic() - began)

    def results(
        self, batch: Batch, inputs: Arrays, outputs: Arrays, began: float, gathered: float, inferred: float
    ) -> Sequence[Outcome]:
        dim = self.batching.dim
        self.last_run = (batch.signature, inputs, outputs)
        self.note_finished(inferred)
        for name in batch.outputs:
            if name not in outputs:
                raise InvalidInput("the model has no output '%s'; it has %s" % (name, ", ".join(sorted(outputs))))
        input_ns, infer_ns = int((gathered - began) * 1e9), max(0, int((inferred - gathered) * 1e9))
        if dim == 0 or len(batch.ids) == 1:
            rows = batch.rows if dim == 0 else 0
            tensors = [from_rows(name, array, rows or 1) for name, array in outputs.items()]
            output_ns = int((time.monotonic() - inferred) * 1e9)
            results = BatchResults(batch, tensors, rows > 0, began, (input_ns, infer_ns, output_ns, batch.rows or 1))
            limit = self.max_response_bytes
            if results.total <= limit or results.largest <= limit:
                return results
            return [self.limited(result, rows) for result, rows in zip(results, results.rows)]
        parts = split(outputs, dim, [pending.rows for pending in batch])
        each = [[from_array(name, array) for name, array in part.items()] for part in parts]
        times = input_ns, infer_ns, int((time.monotonic() - inferred) * 1e9), batch.rows
        queue_ns = [int((began - pending.arrived) * 1e9) for pending in batch]
        return [
            self.limited(ResultFrame(queued, *times, part, layout_of("", (), part)), pending.rows)
            for queued, part, pending in zip(queue_ns, each, batch)
        ]

    def note_finished(self, now: float) -> None:
        """Note that the model has returned from a run."""
        self.refusal = ""
        self._finished_at = now

    def limited(self, result: ResultFrame, rows: int = 1) -> Outcome:
        """Return the result, or a failure if it is larger than a response may be. `rows`: of its batch's rows."""
        size, limit = sum([len(tensor.data) for tensor in result.outputs]), self.max_response_bytes
        if size <= limit:
            return result
        message = "the answer has %d bytes and the limit is %d; ask for fewer rows or fewer outputs"
        return Failure("too_large", message % (size, limit), result.compute_infer_ns * rows // result.batch_rows)

    def failure(self, error: BaseException) -> Failure:
        """Return the outcome of a request for which the model raised this."""
        self.on_failure(error)
        if isinstance(error, InvalidInput) and not (self.refusal and without_numbers(str(error)) == self.refusal):
            return Failure("invalid", str(error) or "the model refuses this request, and does not say why")
        if isinstance(error, Unsupported):
            return Failure("unsupported", str(error))
        if isinstance(error, ModelFailed):
            return Failure("internal", str(error))
        if isinstance(error, CallFailed):
            kind = error.kind if error.kind in _PASSED_ON else "internal"
            return Failure(kind, "model '%s', which this model calls, has failed: %s" % (error.model, error))
        traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
        sys.stderr.flush()
        if isinstance(error, MemoryError):
            return Failure("out_of_memory", "the model ran out of memory on this request; send fewer rows")
        return Failure("internal", "the model failed on this request; the gateway's log says why")

    def _outputs_of(self, running: RunningBatch) -> Arrays:
        batch = running.batch
        if running.error is not None:
            raise running.error
        if running.started:
            try:
                outputs = self.model.finish(running.handle)
                return self.chunked_model.check_rows(outputs, batch.rows) if batch.rows else outputs
            except MemoryError:
                if batch.rows <= 1:
                    raise
        # Not inside `except`: there, the traceback keeps the framework's frames alive, and they keep the memory.
        return self.chunked_model.run(running.inputs, batch.outputs, batch.signature, batch.rows)
