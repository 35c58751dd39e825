"""Runs one batch: puts the inputs together, calls the model, splits the outputs back."""

import sys
import time
import traceback
from typing import Any, Callable, List, NamedTuple, Optional, Sequence, Union

from runtimes.contract import DeviceLost, InvalidInput, Model, Unsupported
from runtimes.tensors import to_array
from runtimes.wire import ResultFrame
from runtimes.worker.batcher import Batching, Pending, padded_size
from runtimes.worker.pieces import Pieces, RowsMiscounted
from runtimes.worker.refusal import words
from runtimes.worker.rows import Arrays, answers, gathered


class Failure(NamedTuple):
    """Why one request has no answer: an error kind of the gateway's, and a sentence for the client."""

    kind: str
    message: str


Outcome = Union[ResultFrame, Failure]


class Begun(NamedTuple):
    """A batch under way. Times are time.monotonic() seconds.

    inputs   of all requests together
    started  whether the model works on it already, and gave `handle` for it
    error    why that could not be
    """

    batch: Sequence[Pending]
    rows: int
    began: float
    gathered: float
    inputs: Arrays
    started: bool = False
    handle: Any = None
    error: Optional[Exception] = None


class Executor:
    def __init__(self, model: Model, batching: Batching, max_response_bytes: int) -> None:
        self.model = model
        self.batching = batching
        self.max_response_bytes = max_response_bytes
        # Told which requests are about to run together.
        self.on_run: Callable[[Sequence[Pending]], None] = lambda batch: None
        # Told why requests run by themselves from now on: a word, and a sentence for the log.
        self.on_batching_off: Callable[[str, str], None] = lambda reason, note: None
        # The arrays of the last run that worked: (signature, inputs, outputs). Whoever reads it, clears it.
        self.seen: Optional[tuple] = None
        self.pieces = Pieces(model, batching)
        # The words with which the model refuses whatever it is sent (worker/refusal.py), until it takes something.
        self.refusal = ""
        self._finished = 0.0

    def switch_batching_off(self, reason: str, why: str) -> None:
        """Requests run by themselves from now on, those of batches that are under way too."""
        if not self.batching.max_rows:
            return
        self.batching = Batching(target=self.batching.target)
        self.pieces = Pieces(self.model, self.batching)
        self.on_batching_off(reason, "batching is off: " + why)

    def run(self, batch: Sequence[Pending]) -> List[Outcome]:
        """One outcome per request, in order. A bad request fails alone: the others run again without it."""
        return self.finish(self._gather(batch))

    def begin(self, batch: Sequence[Pending]) -> Begun:
        """Put a batch together and, if the model is pipelined, let it start; the rest is `finish`'s, errors too.

        What runs by itself is not started: it may be what killed a worker, and nothing shall die with it.
        """
        begun = self._gather(batch)
        first = batch[0].frame
        if not self.model.pipelined or batch[0].key is None or begun.error is not None:
            return begun
        if begun.rows > self.pieces.most(begun.inputs, first.signature, begun.rows):
            return begun  # it needs several runs
        try:
            handle = self.model.start(begun.inputs, first.outputs, first.signature)
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - whatever else a framework raises, the worker lives on
            in_pieces = isinstance(error, MemoryError) and begun.rows > 1
            return begun if in_pieces else begun._replace(error=error)
        return begun._replace(started=True, handle=handle)

    def finish(self, begun: Begun) -> List[Outcome]:
        """As `run`, for a batch that `begin` gave.

        Where the batch comes back with another number of rows than went in, nothing in it belongs to anybody:
        batching is switched off, and each request runs as its client sent it.
        """
        failure: List[Outcome] = []
        try:
            if not begun.rows or self.batching.max_rows:
                return self._answers(begun)
            # Batching went off while it was under way.
            if begun.started:
                self.model.finish(begun.handle)
        except DeviceLost:
            raise
        except RowsMiscounted as error:
            self.switch_batching_off("rows", str(error))
        except Exception as error:  # noqa: BLE001 - as above
            if len(begun.batch) == 1:
                failure = [self._failure(error)]
        if failure:
            return failure
        outcomes: List[Outcome] = []
        for pending in begun.batch:
            outcomes += self.run([pending if self.batching.max_rows else pending._replace(rows=0, key=None)])
        return outcomes

    def _gather(self, batch: Sequence[Pending]) -> Begun:
        self.on_run(batch)
        began = time.monotonic()
        rows = sum([pending.rows for pending in batch])
        inputs: Arrays = {}
        error: Optional[Exception] = None
        try:
            if rows:
                # What is too large for one run is cut up later, and filled up then.
                size = padded_size(rows, self.batching.sizes) if rows <= self.batching.max_rows else rows
                frames = [pending.frame for pending in batch]
                inputs = gathered(frames, self.batching.dim, size, self.model.empty)
            else:
                inputs = {tensor.name: to_array(tensor) for tensor in batch[0].frame.inputs}
        except ValueError as why:
            error = InvalidInput(str(why))
        except Exception as why:  # noqa: BLE001 - no memory to put them together, say
            error = why
        return Begun(batch, rows, began, time.monotonic(), inputs, error=error)

    def _answers(self, begun: Begun) -> List[Outcome]:
        batch, rows = begun.batch, begun.rows
        first = batch[0].frame
        outputs = self._outputs(begun)
        inferred = time.monotonic()
        # A pipelined batch waits in the model until the one before it is done.
        waited = max(0.0, self._finished - begun.gathered)
        self._finished = inferred
        self.seen = (first.signature, begun.inputs, outputs)
        self.refusal = ""
        for name in first.outputs:
            if name not in outputs:
                raise InvalidInput("the model has no output '%s'; it has %s" % (name, ", ".join(sorted(outputs))))
        counts = [pending.rows for pending in batch]
        parts = answers(outputs, self.batching.dim if rows else 0, counts)
        finished = time.monotonic()
        took = _ns(begun.gathered - begun.began), _ns(inferred - begun.gathered - waited), _ns(finished - inferred)
        began, most = begun.began + waited, self.max_response_bytes
        outcomes: List[Outcome] = []
        for pending, (tensors, layout) in zip(batch, parts):
            size = sum([length for _, _, _, length in layout[2]])
            if size > most:
                sentence = "the answer has %d bytes and the limit is %d; ask for fewer rows or fewer outputs"
                outcomes.append(Failure("too_large", sentence % (size, most)))
                continue
            queued = _ns(began - pending.arrived)
            outcomes.append(ResultFrame(queued, took[0], took[1], took[2], rows or 1, tensors, layout))
        return outcomes

    def _failure(self, error: BaseException) -> Failure:
        if isinstance(error, InvalidInput) and not (self.refusal and words(str(error)) == self.refusal):
            return Failure("invalid", str(error))
        if isinstance(error, Unsupported):
            return Failure("unsupported", str(error))
        traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
        sys.stderr.flush()
        if isinstance(error, MemoryError):
            return Failure("out_of_memory", "the model ran out of memory on this request; send fewer rows")
        return Failure("internal", "the model failed on this request; the gateway's log says why")

    def _outputs(self, begun: Begun) -> Arrays:
        if begun.error is not None:
            raise begun.error
        if begun.started:
            try:
                outputs = self.model.finish(begun.handle)
                return self.pieces.checked(outputs, begun.rows) if begun.rows else outputs
            except MemoryError:
                if begun.rows <= 1:
                    raise
            # Outside of `except`, where the error would hold the framework's frames, and these the memory.
        first = begun.batch[0].frame
        return self.pieces.run(begun.inputs, first.outputs, first.signature, begun.rows)


def _ns(seconds: float) -> int:
    return max(0, int(seconds * 1e9))
