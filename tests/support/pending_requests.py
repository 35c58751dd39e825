"""Requests of a worker's queue and batches, as they are read from frames."""

from typing import Any

from runtimes import request_frames, wire
from runtimes.layouts import by_row, cached, layout_of
from runtimes.request_frames import InferFrame, RequestGroup
from runtimes.worker.batcher import Batcher
from runtimes.worker.pending import Batch, PendingGroup


def one_frame(*requests: tuple[int, InferFrame], dim: int | None = None) -> RequestGroup:
    """Return requests with these ids, which have the same layout, as a worker reads them from one frame.

    dim: the dimension of their rows, in which they may differ; None if they state none.
    """
    packed = request_frames.pack_infer(requests)
    if dim is not None:
        frames = [frame for _, frame in requests]
        first = frames[0]
        packed = request_frames.pack_requests(
            [number for number, _ in requests],
            [frame.deadline for frame in frames],
            [frame.priority for frame in frames],
            [frame.inputs[0].shape[dim] for frame in frames],
            cached(by_row(layout_of(first.signature, first.outputs, first.inputs), dim)),
            [[tensor.data for tensor in frame.inputs] for frame in frames],
        )
    (read,) = wire.FrameReader().feed(b"".join(bytes(part) for part in packed))
    return request_frames.unpack_requests(read.body)


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
