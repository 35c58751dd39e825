"""A front's end of one worker's socket: frames out, answers in, by request id."""

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from gateway.engine.table import WorkerAddress
from runtimes import wire
from runtimes.wire import Buffer, Frame, FrameReader
from runtimes.worker.status import StatusPage


class WorkerClient(asyncio.Protocol):
    """What is sent during one turn of the event loop leaves with one write.

    `on_frame` gets every answer. `on_lost` gets, once, the ids that the worker was running when it
    ended; everything else that was sent and not answered has not been touched.
    """

    def __init__(
        self,
        address: WorkerAddress,
        on_frame: Callable[["WorkerClient", Frame], None],
        on_lost: Callable[["WorkerClient", frozenset[int]], None],
    ) -> None:
        self.address = address
        # Request id → rows, for all that has been sent and not answered.
        self.in_flight: dict[int, int] = {}
        self.rows_in_flight = 0
        self.retiring = False
        self.closed = False
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._status = StatusPage(address.status)
        self._transport: asyncio.Transport | None = None
        self._out: list[Buffer] = []

    async def connect(self) -> None:
        """Raises OSError when the worker has already gone."""
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, self.address.socket)
        except OSError:
            self._status.close()
            raise

    @property
    def has_room(self) -> bool:
        if self.retiring or self.closed or self._transport is None:
            return False
        return self.rows_in_flight < self.address.window

    def send(self, request_id: int, rows: int, buffers: Sequence[Buffer]) -> None:
        self.in_flight[request_id] = rows
        self.rows_in_flight += rows
        self._write(buffers)

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

    def data_received(self, data: bytes) -> None:
        for frame in self._reader.feed(data):
            self.rows_in_flight -= self.in_flight.pop(frame.id, 0)
            self._on_frame(self, frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        running = self._status.running()
        self._status.close()
        self._on_lost(self, running)

    def _write(self, buffers: Sequence[Buffer]) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.extend(buffers)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None:
            self._transport.writelines(out)
