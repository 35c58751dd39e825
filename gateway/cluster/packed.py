"""Batches and results as bytes, for the way between the driver and the processes of a cluster."""

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from gateway.cluster.loaded_models import loaded
from gateway.embedded.options import ModelSpec
from gateway.errors import ModelportError
from gateway.score.scorer import BadRow, Scored, ScoreOptions, Scorer, Submitted

# How many batches are sent ahead of the one whose results are awaited, so that the worker is never idle.
_AHEAD = 2


def pack(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def score_packed(spec: ModelSpec, options: ScoreOptions, packed: Iterable[bytes]) -> Iterator[bytes]:
    """Score packed batches in this process, which keeps the model, and yield the results for `unpack`.

    An error of the model is a result as well: it would be the same elsewhere, so that Spark and Ray need not try again.
    """
    waiting = deque[Submitted | ModelportError]()
    for each in packed:
        waiting.append(_submitted(spec, options, _unpacked(each)))
        if len(waiting) > _AHEAD:
            yield _result(waiting.popleft())
    while waiting:
        yield _result(waiting.popleft())


def _submitted(spec: ModelSpec, options: ScoreOptions, batch: pa.RecordBatch) -> Submitted | ModelportError:
    try:
        return Scorer(loaded(spec), batch.schema, options).submit(batch)
    except ModelportError as error:
        return error


def _result(submitted: Submitted | ModelportError) -> bytes:
    try:
        if isinstance(submitted, ModelportError):
            raise submitted
        scored = submitted.result()
    except ModelportError as error:
        return pickle.dumps((type(error), str(error)))
    return pickle.dumps((pack(scored.batch), [tuple(each) for each in scored.bad]))


def unpack(result: bytes) -> Scored:
    """Raises the ModelportError that the other process has met."""
    first: type[ModelportError] | bytes
    first, second = pickle.loads(result)
    if isinstance(first, bytes):
        return Scored(_unpacked(first), [BadRow(*each) for each in second])
    make: Callable[[str], ModelportError] = first
    raise make(second)


def _unpacked(packed: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(packed) as reader:
        return reader.read_next_batch()
