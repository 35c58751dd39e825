"""A front's end of one worker's socket: frames out, answers in, by request id."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import cast

from gateway.domain.table import WorkerAddress
from gateway.engine.arena import LARGE, Arena
from gateway.engine.slo import Estimator
from runtimes import wire
from runtimes.status_page import StatusPage
from runtimes.tensors import Buffer, Tensor
from runtimes.wire import Form, Frame, FrameReader, InferFrame

# Requests in one frame: so that one that is cancelled is answered soon, and frames stay small.
_MAX_TOGETHER = 256


class WorkerClient(asyncio.Protocol):
    """What is sent during one turn of the event loop leaves with one write.

    `on_frame` gets every answer. `on_lost` gets, once, the ids that the worker was running when it
    ended; everything else that was sent and not answered has not been touched.
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
        # Request id → rows, for all that has been sent and not answered.
        self.in_flight: dict[int, int] = {}
        self.rows_in_flight = 0
        self.retiring = False
        self.closed = False
        self._arena = arena
        self._worker_maps_arena = False
        # What the worker reads in the arena, until it has answered.
        self._lent: dict[int, list[Buffer]] = {}
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._status = StatusPage(address.status)
        self.estimator = Estimator(self._status, front)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        # What leaves at the end of this turn: requests, which may share a frame, then whatever else.
        self._requests: list[tuple[int, InferFrame, int]] = []
        self._out: list[Buffer] = []

    async def connect(self) -> None:
        """Raises OSError when the worker has already gone."""
        try:
            await self._loop.create_unix_connection(lambda: self, self.address.socket)
        except OSError:
            self._status.close()
            raise

    @property
    def has_room(self) -> bool:
        if self.retiring or self.closed or self._transport is None:
            return False
        return self.rows_in_flight < self.address.window

    def send(self, request_id: int, rows: int, frame: InferFrame, flags: int) -> None:
        self.in_flight[request_id] = rows
        self.rows_in_flight += rows
        places = self._lend(request_id, frame.inputs) if self._worker_maps_arena else None
        if places is None:
            self._flush_later()
            self._requests.append((request_id, frame, flags))
        else:
            self._write(wire.pack_infer([(request_id, frame)], flags | wire.IN_ARENA, places))

    def answered(self, request_id: int) -> None:
        """The worker has answered: there is room for others."""
        self.rows_in_flight -= self.in_flight.pop(request_id, 0)
        if self._lent:
            self._lent.pop(request_id, None)

    def cancel(self, request_id: int) -> None:
        """The answer comes all the same: its place in the window is free only then."""
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
        self._lent.clear()
        running = self._status.running()
        self._status.close()
        self._on_lost(self, running)

    def _lend(self, request_id: int, inputs: Sequence[Tensor]) -> list[int] | None:
        """Where the inputs lie in the arena, if they are large; what came by another way is copied there."""
        if sum([len(tensor.data) for tensor in inputs]) < LARGE:
            return None
        assert self._arena is not None
        places, lent = [], []
        for tensor in inputs:
            data, place = tensor.data, self._arena.place_of(tensor.data)
            if place is None:
                block = self._arena.take(len(data))
                if block is None:
                    return None
                block[: len(data)] = data
                data, place = block, self._arena.place_of(block)
            places.append(place or 0)
            lent.append(data)
        self._lent[request_id] = lent
        return places

    def _write(self, buffers: Sequence[Buffer]) -> None:
        self._flush_later()
        self._out.extend(buffers)

    def _flush_later(self) -> None:
        if not self._out and not self._requests:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        out = self._pack_requests() + self._out
        self._out = []
        if out and self._transport is not None:
            self._transport.writelines(out)

    def _pack_requests(self) -> list[Buffer]:
        """Neighbours of one form share a frame."""
        requests, self._requests = self._requests, []
        buffers: list[Buffer] = []
        for (_, flags), group in groupby(requests, _form_and_flags):
            each = [(request_id, frame) for request_id, frame, _ in group]
            for start in range(0, len(each), _MAX_TOGETHER):
                buffers += wire.pack_infer(each[start : start + _MAX_TOGETHER], flags)
        return buffers


def _form_and_flags(request: tuple[int, InferFrame, int]) -> tuple[Form | None, int]:
    return request[1].form, request[2]
