"""Requests of a worker's queue and batches, as they are read from frames."""

from typing import Any

from runtimes import wire
from runtimes.wire import InferFrame, RequestGroup
from runtimes.worker.batcher import Batcher
from runtimes.worker.pending import Batch, PendingGroup


def one_frame(*requests: tuple[int, InferFrame]) -> RequestGroup:
    """Return requests with these ids, which have the same layout, as a worker reads them from one frame."""
    (read,) = wire.FrameReader().feed(b"".join(bytes(part) for part in wire.pack_infer(requests)))
    return wire.unpack_requests(read.body)


def add(
    batcher: Batcher, source: Any, request_id: int, frame: InferFrame, isolated: bool = False, now: float = 0.0
) -> None:
    """Add a request that is alone in its frame."""
    batcher.add(source, one_frame((request_id, frame)), isolated, now)


def batch_of(*frames: InferFrame) -> Batch:
    """Return a batch of requests that are alone in their frames. Their rows are in the first dimension."""
    groups = []
    for number, frame in enumerate(frames):
        rows = frame.inputs[0].shape[0]
        groups.append(PendingGroup("front", one_frame((number, frame)), 0, 1, 0.0, rows, "key"))
    return Batch(groups)
