"""How the engine's requests become frames, and frames of results what the engine needs to know of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtimes import request_frames, result_frames, wire
from runtimes.result_frames import ResultGroup
from runtimes.tensor_bytes import Buffer
from runtimes.wire import Frame, FrameReader

if TYPE_CHECKING:
    from gateway.engine.servable import QueuedRequest

# With more requests, a frame takes longer to pack and read, and a CANCEL waits behind it; with fewer, each request
# pays more of a frame's fixed cost.
MAX_REQUESTS_PER_FRAME = 256


class Frames:
    """Packs and unpacks frames. The compiled fast path has another implementation, of the same name."""

    def pack(self, requests: "Sequence[QueuedRequest]") -> list[Buffer]:
        """Pack adjacent requests with the same layout into one frame; one that may have killed a worker, alone."""
        buffers: list[Buffer] = []
        alike: list[QueuedRequest] = []
        for queued in requests:
            if queued.settled:  # by a worker that answers what it was not asked, since cancelled requests are not here
                continue
            if alike and (
                queued.layout != alike[0].layout
                or queued.crashes
                or alike[0].crashes
                or len(alike) == MAX_REQUESTS_PER_FRAME
            ):
                buffers += pack_alike(alike)
                alike = []
            alike.append(queued)
        return buffers + pack_alike(alike) if alike else buffers

    def pack_in_arena(self, queued: "QueuedRequest", offsets: Sequence[int]) -> list[Buffer]:
        """Pack a request whose inputs are at these offsets in the arena."""
        return pack_alike([queued], offsets)

    def read(self, reader: FrameReader, data: bytes) -> list[Frame | ResultGroup]:
        """Return the frames that `data` completes. Those of kind RESULT are unpacked if they contain the tensors.

        Raises WireError.
        """
        return [
            result_frames.unpack_results(frame.body, frame.flags)
            if frame.kind == wire.RESULT and not frame.flags & wire.IN_RESULT_MEMORY
            else frame
            for frame in reader.feed(data)
        ]


def pack_alike(alike: "Sequence[QueuedRequest]", offsets: Sequence[int] = ()) -> list[Buffer]:
    """Pack requests with the same layout into one frame. `offsets`: those of the only request's inputs in the arena."""
    flags = (wire.ISOLATED if alike[0].crashes else 0) | (wire.IN_ARENA if offsets else 0)
    return request_frames.pack_requests(
        [queued.id for queued in alike],
        [queued.deadline for queued in alike],
        [queued.priority for queued in alike],
        [queued.rows for queued in alike],
        alike[0].layout,
        [queued.buffers for queued in alike],
        flags,
        offsets,
        [queued.context for queued in alike],
    )
