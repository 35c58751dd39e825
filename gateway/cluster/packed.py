"""Batches and results as bytes, for the way between the driver and the processes of a cluster."""

import pickle
from collections.abc import Callable

import pyarrow as pa

from gateway.cluster.loaded_models import loaded
from gateway.embedded.options import ModelSpec
from gateway.errors import ModelportError
from gateway.score.scorer import BadRow, Scored, ScoreOptions, Scorer


def pack(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def score_packed(spec: ModelSpec, options: ScoreOptions, packed: bytes) -> bytes:
    """Score a packed batch in this process, which keeps the model, and return the result for `unpack`.

    An error of the model is a result as well: it would be the same elsewhere, so that Spark and Ray need not try again.
    """
    try:
        batch = _unpacked(packed)
        scored = Scorer(loaded(spec), batch.schema, options).score(batch)
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
