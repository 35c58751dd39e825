"""A front's connection to one worker: sends requests, and receives their answers by request id."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import cast

from gateway.domain.table import WorkerAddress
from gateway.engine.arena import MIN_ARENA_BYTES, Arena
from gateway.engine.slo import Estimator
from runtimes import wire
from runtimes.layouts import TensorLayout
from runtimes.status_page import StatusPage
from runtimes.tensors import Buffer, Tensor
from runtimes.wire import Frame, FrameReader, InferFrame

# With more requests, a frame takes longer to pack and read, and a CANCEL waits behind it; with fewer, each request
# pays more of a frame's fixed cost.
_MAX_REQUESTS_PER_FRAME = 256


class WorkerClient(asyncio.Protocol):
    """Collects the frames sent during one turn of the event loop, and writes them together.

    `on_frame` is called with every answer. `on_lost` is called once, when the connection has ended, with the ids
    of the requests that the worker was running; the worker had not begun any other unanswered request.
    """

    def __init__(
        self,
        address: WorkerAddress,
        arena: Arena | None,
        on_frame: Callable[["WorkerClient", Frame], None],
        on_lost: Callable[["WorkerClient", frozenset[int]], None],
        front: int = 0,
    ) -> None:
        self.address = address
        # Request id → rows, for each request that was sent and has no final answer.
        self.in_flight: dict[int, int] = {}
        self.rows_in_flight = 0
        self.retiring = False
        self.closed = False
        self._arena = arena
        self._worker_maps_arena = False
        # Request id → its blocks in the arena. The reference keeps them allocated while the worker may read them.
        self._arena_inputs: dict[int, list[Buffer]] = {}
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._status = StatusPage(address.status)
        self.estimator = Estimator(self._status, front)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        # Written at the end of this turn of the loop: first the requests, which may share frames, then the rest.
        self._requests: list[tuple[int, InferFrame, int]] = []
        self._out: list[Buffer] = []

    async def connect(self) -> None:
        """Raises OSError if the worker has already ended."""
        try:
            await self._loop.create_unix_connection(lambda: self, self.address.socket)
        except OSError:
            self._status.close()
            raise

    @property
    def has_room(self) -> bool:
        """Whether the worker's window has room for another request, whatever its rows."""
        if self.retiring or self.closed or self._transport is None:
            return False
        return self.rows_in_flight < self.address.window

    def send(self, request_id: int, rows: int, frame: InferFrame, flags: int) -> None:
        """Send a request at the end of this turn of the event loop. `flags` are those of INFER frames."""
        self.in_flight[request_id] = rows
        self.rows_in_flight += rows
        offsets = self._put_in_arena(request_id, frame.inputs) if self._worker_maps_arena else None
        if offsets is None:
            self._schedule_flush()
            self._requests.append((request_id, frame, flags))
        else:
            self._write(wire.pack_infer([(request_id, frame)], flags | wire.IN_ARENA, offsets))

    def complete(self, request_id: int) -> None:
        """The final answer has arrived: the request no longer uses the window, nor its blocks in the arena."""
        self.rows_in_flight -= self.in_flight.pop(request_id, 0)
        if self._arena_inputs:
            self._arena_inputs.pop(request_id, None)

    def cancel(self, request_id: int) -> None:
        """Ask the worker to drop a request. The worker answers it nevertheless, and only that frees the window."""
        self._write(wire.pack(wire.CANCEL, request_id))

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._arena is not None:
            self._transport.write(wire.pack_json(wire.ARENA, {"path": self._arena.path, "size": self._arena.size}))

    def data_received(self, data: bytes) -> None:
        for frame in self._reader.feed(data):
            if frame.kind == wire.ARENA:
                self._worker_maps_arena = True
                continue
            self._on_frame(self, frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._arena_inputs.clear()
        running = self._status.running()
        self._status.close()
        self._on_lost(self, running)

    def _put_in_arena(self, request_id: int, inputs: Sequence[Tensor]) -> list[int] | None:
        """Return the inputs' offsets in the arena; inputs that are elsewhere are copied into it.

        Return None if the inputs are small or the arena is full; they go through the socket then.
        """
        if sum([len(tensor.data) for tensor in inputs]) < MIN_ARENA_BYTES:
            return None
        assert self._arena is not None
        offsets, blocks = [], []
        for tensor in inputs:
            data, offset = tensor.data, self._arena.offset_of(tensor.data)
            if offset is None:
                block = self._arena.allocate(len(data))
                if block is None:
                    return None
                block[: len(data)] = data
                data, offset = block, self._arena.offset_of(block)
            offsets.append(offset or 0)
            blocks.append(data)
        self._arena_inputs[request_id] = blocks
        return offsets

    def _write(self, buffers: Sequence[Buffer]) -> None:
        self._schedule_flush()
        self._out.extend(buffers)

    def _schedule_flush(self) -> None:
        if not self._out and not self._requests:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        out = self._pack_requests() + self._out
        self._out = []
        if out and self._transport is not None:
            self._transport.writelines(out)

    def _pack_requests(self) -> list[Buffer]:
        """Pack adjacent requests with the same layout and flags into one frame."""
        requests, self._requests = self._requests, []
        buffers: list[Buffer] = []
        for (_, flags), group in groupby(requests, _layout_and_flags):
            alike = [(request_id, frame) for request_id, frame, _ in group]
            for start in range(0, len(alike), _MAX_REQUESTS_PER_FRAME):
                buffers += wire.pack_infer(alike[start : start + _MAX_REQUESTS_PER_FRAME], flags)
        return buffers


def _layout_and_flags(request: tuple[int, InferFrame, int]) -> tuple[TensorLayout | None, int]:
    return request[1].layout, request[2]
