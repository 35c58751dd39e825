"""A front's connection to one worker: sends requests, and receives their answers by request id."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from gateway.domain.default_limits import MAX_RESPONSE_BYTES
from gateway.domain.table import WorkerAddress
from gateway.engine.arena import MIN_ARENA_BYTES, Arena
from gateway.engine.calls import Calls
from gateway.engine.frames import Frames
from gateway.engine.result_memory import ResultMemory
from gateway.engine.slo import Estimator
from gateway.engine.window import Window
from gateway.errors import ModelportError, from_kind
from gateway.process.cgroup import has_exceeded
from runtimes import result_frames, wire
from runtimes.result_frames import ResultGroup
from runtimes.status_page import StatusPage
from runtimes.tensor_bytes import Buffer
from runtimes.wire import Frame, FrameReader

if TYPE_CHECKING:
    from gateway.engine.servable import QueuedRequest

# What a frame may have besides the tensors of its results: once, and for each result. Layouts have long names at most.
_FRAME_BYTES, _RESULT_BYTES = 1 << 24, 1 << 10
# Releases of results wait for the next request, so that they do not wake the worker, or for this long.
_RELEASE_S = 0.25
# More releases than this do not wait. A worker whose memory is full sends results through the socket.
_MAX_RELEASES = 8
# Answers to calls that wait until the worker reads them, in multiples of the largest. A worker reads while its model
# runs, unless the model holds Python's lock all the time.
_MAX_UNREAD_RESPONSES = 4
MakeCalls = Callable[["Mapping[int, QueuedRequest]", Callable[[Sequence[Buffer]], None]], Calls]


class WorkerClient(asyncio.Protocol):
    """Collects the frames sent during one turn of the event loop, and writes them together.

    `on_results` is called with the results in each frame, `on_error` with the id of a request that failed, the error,
    and how many seconds its model has run for it. A worker that sends anything else, or more than its results can have,
    loses the connection. `on_lost` is called once, when the connection has ended, with the ids of the requests that the
    worker was running; the worker had not begun any other unanswered request.
    """

    def __init__(
        self,
        address: WorkerAddress,
        arena: Arena | None,
        on_results: Callable[["WorkerClient", ResultGroup], None],
        on_error: Callable[["WorkerClient", int, ModelportError, float], None],
        on_lost: Callable[["WorkerClient", frozenset[int]], None],
        front: int = 0,
        frames: Frames | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        make_calls: MakeCalls | None = None,
    ) -> None:
        """make_calls: what answers calls of the model to others; None: there are no others."""
        self._max_response_bytes = max_response_bytes
        self.address = address
        self._frames = frames or Frames()
        # Each request that was sent and has no final answer, by its id.
        self.in_flight: dict[int, QueuedRequest] = {}
        # How many rows may be in flight; 0 if nothing can be sent. The room says how they are divided.
        self.window = 0
        self._room = Window()
        self.retiring = False
        self.closed = False
        self.over_limit = False  # whether the worker ended because it exceeded its memory limit
        self.ran_s = 0.0  # how long the batch that it was running when it ended had taken
        self._arena = arena
        self._worker_maps_arena = False
        # Of requests with several answers: how many of them the client has not read.
        self._unread: dict[int, int] = {}
        # Where the worker writes large results; None if they come through the socket.
        self._result_memory: ResultMemory | None = None
        self._releases: list[int] = []
        self._release_timer: asyncio.TimerHandle | None = None
        # Request id → its blocks in the arena. The reference keeps them allocated while the worker may read them.
        self._arena_inputs: dict[int, list[Buffer]] = {}
        self._calls = None if make_calls is None else make_calls(self.in_flight, self._write_to_caller)
        self._max_bytes = max_response_bytes if self._calls is None else max(max_response_bytes, self._calls.max_bytes)
        self._on_results, self._on_error = on_results, on_error
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._status = StatusPage(address.status)
        self.estimator = Estimator(self._status, front)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        # Written at the end of this turn of the loop: first the requests, which may share frames, then the rest.
        self._requests: list[QueuedRequest] = []
        self._out: list[Buffer] = []

    async def connect(self) -> None:
        """Raises OSError if the worker has already ended."""
        try:
            await self._loop.create_unix_connection(lambda: self, self.address.socket)
        except OSError:
            self._status.close()
            self._let_go()
            raise

    def update(self, address: WorkerAddress | None) -> None:
        """Apply what the newest table says of the worker; None if it does not list it."""
        self.retiring = address is None
        self.address = address or self.address
        self._update_window()

    def _update_window(self) -> None:
        can_send = self._transport is not None and not self.retiring and not self.closed
        self.window = self.address.window if can_send else 0
        under_way = [(queued.id, queued.rows) for queued in self.in_flight.values()]
        self._room.resize(self.window, self.address.batch_rows, under_way)

    @property
    def rows_in_flight(self) -> int:
        return self._room.rows

    def has_room(self, rows: int) -> bool:
        """Whether the window has room for a request with this many rows."""
        return self._room.has_room(rows)

    def send(self, queued: "QueuedRequest") -> None:
        """Send a request at the end of this turn of the event loop."""
        self.in_flight[queued.id] = queued
        self._room.add(queued.id, queued.rows)
        offsets = None
        if queued.size >= MIN_ARENA_BYTES and self._worker_maps_arena:
            offsets = self._put_in_arena(queued.id, queued.buffers)
        if offsets is not None:
            self._write(self._frames.pack_in_arena(queued, offsets))
            return
        if not self._out and not self._requests:
            self._loop.call_soon(self._flush)
        self._requests.append(queued)

    def complete(self, numbers: "Sequence[int]") -> "list[tuple[int, QueuedRequest]]":
        """Return the requests with these ids that are in flight, each with its index in `numbers`.

        Their final answers have arrived: they no longer use the window, nor blocks in the arena.
        """
        in_flight, room, ended = self.in_flight, self._room, []
        for index, number in enumerate(numbers):
            queued = in_flight.pop(number, None)
            if queued is not None:
                room.remove(number, queued.rows)
                ended.append((index, queued))
        if self._arena_inputs:
            for number in numbers:
                self._arena_inputs.pop(number, None)
        if self._unread:
            for number in numbers:
                self._unread.pop(number, None)
        if self._calls:
            for number in numbers:
                self._calls.end_for(number)
        return ended

    def count_unread(self, request_id: int) -> bool:
        """Count an answer that is not the final one. Return False, and end the connection, if there are too many.

        A worker stops before that, so this one is hostile.
        """
        unread = self._unread[request_id] = self._unread.get(request_id, 0) + 1
        if unread > wire.MAX_UNREAD_ANSWERS:
            self._end_invalid()
        return unread <= wire.MAX_UNREAD_ANSWERS

    def acknowledge(self, request_id: int) -> None:
        """Have the worker continue: one more answer was read."""
        if self._unread.get(request_id):
            self._unread[request_id] -= 1
            self._write(wire.pack(wire.ACK, request_id))

    def has(self, request_id: int) -> bool:
        """Whether the worker has this request, and will answer it, even if it was cancelled."""
        return self._transport is not None and request_id in self.in_flight

    def cancel(self, request_id: int) -> bool:
        """Drop a request. Return whether the worker will answer it nevertheless; only that frees the window then."""
        queued = self.in_flight[request_id]
        if queued in self._requests:
            self._requests.remove(queued)
            self.complete((request_id,))
            return False
        self._write(wire.pack(wire.CANCEL, request_id))
        if self._calls:
            self._calls.end_for(request_id)
        return True

    def end_sequence(self, sequence: int | str) -> None:
        """End a sequence of which no request is in flight, before those that are sent after this call."""
        self._write([wire.pack_json(wire.END_SEQUENCE, {"sequence": sequence})])
        self._flush()

    def close(self) -> None:
        self.closed = True
        self._update_window()
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._update_window()
        if self._arena is not None:
            with contextlib.suppress(OSError):  # no descriptors are left
                self._result_memory = ResultMemory(self._on_released)
            self._send_memory(transport.get_extra_info("socket").dup(), self._arena)

    def _send_memory(self, sock: socket.socket, arena: Arena) -> None:
        """Send the descriptors of what the worker maps.

        asyncio's transports cannot, but nothing has been written to this one yet.
        """
        results, descriptors = self._result_memory, [arena.descriptor]
        if results is not None:
            descriptors.append(results.descriptor)
        frame = wire.pack_json(wire.ARENA, {"size": arena.size, "results": 0 if results is None else results.size})
        with sock, contextlib.suppress(OSError):  # if it fails, everything goes through the socket
            socket.send_fds(sock, [frame], descriptors)
        if results is not None:
            results.close_descriptor()

    def data_received(self, data: bytes) -> None:
        # All results in flight may come in one frame.
        self._reader.max_bytes = _FRAME_BYTES + len(self.in_flight) * (self._max_bytes + _RESULT_BYTES)
        try:
            frames = self._frames.read(self._reader, data)
        except wire.MALFORMED:
            self._end_invalid()
            return
        for received in frames:
            if not isinstance(received, Frame):
                self._on_results(self, received)
            elif received.kind == wire.ARENA:
                self._worker_maps_arena = True
            elif received.kind == wire.RESULT:
                try:
                    results = self._read_shared(received)
                except wire.MALFORMED:
                    self._end_invalid()
                    return
                self._on_results(self, results)
            else:
                try:
                    if received.kind in wire.CALLS and self._calls is not None:
                        self._calls.on_frame(received)
                        continue
                    kind, message, compute_ns = result_frames.unpack_failure(received.body)
                except wire.MALFORMED:
                    self._end_invalid()
                    return
                self._on_error(self, received.id, from_kind(kind, message), compute_ns * 1e-9)

    def _read_shared(self, frame: Frame) -> ResultGroup:
        """Return the results of a frame whose tensors are in shared memory. Raises one of MALFORMED."""
        memory = self._result_memory
        results = result_frames.unpack_results(frame.body, frame.flags, None if memory is None else memory.block)
        # Otherwise a worker that reads nothing could have releases written without end.
        if not results.numbers or any(number not in self.in_flight for number in results.numbers):
            raise wire.WireError("a result belongs to no request in progress")
        return results

    def _on_released(self, offset: int) -> None:
        """Nothing reads the results at this offset any more."""
        if self._transport is None:
            return
        self._releases.append(offset)
        if len(self._releases) >= _MAX_RELEASES:
            self._write_releases()
        elif self._release_timer is None:
            self._release_timer = self._loop.call_later(_RELEASE_S, self._write_releases)

    def _write_releases(self) -> None:
        self._release_timer = None
        self._write([])

    def _end_invalid(self) -> None:
        """The worker has sent what no worker sends."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._update_window()
        self._requests, self._out = [], []
        self._arena_inputs.clear()
        # What is still read of it stays mapped.
        self._result_memory = None
        if self._release_timer is not None:
            self._release_timer.cancel()
        self._let_go()
        running, since = self._status.running(), self._status.busy_since()
        self.ran_s = time.monotonic() - since if since > 0.0 else 0.0
        if not self.closed:
            self._status.set_invalid()  # if it is still alive, it must not stay without this front
        # In this order: the supervisor publishes it on the page before it removes the group with its events.
        self.over_limit = has_exceeded(self.address.memory_events) or self._status.is_over_limit()
        self._status.close()
        self._on_lost(self, running)

    def _let_go(self) -> None:
        """Forget what refers back, so that this, and the arena of a model that is unloaded, need no collector."""
        if self._calls is not None:
            self._calls.close()
        self._calls = None

    def _put_in_arena(self, request_id: int, inputs: Sequence[Buffer]) -> list[int] | None:
        """Return the inputs' offsets in the arena; inputs that are elsewhere are copied into it.

        Return None if the inputs are small or the arena is full; they go through the socket then.
        """
        if sum(map(len, inputs)) < MIN_ARENA_BYTES:
            return None
        assert self._arena is not None
        offsets, blocks = [], []
        for data in inputs:
            offset = self._arena.offset_of(data)
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
        if not self._out and not self._requests:
            self._loop.call_soon(self._flush)
        self._out.extend(buffers)

    def _write_to_caller(self, buffers: Sequence[Buffer]) -> None:
        """Send answers to calls. A worker that calls others and does not read their answers loses the connection."""
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size() > _MAX_UNREAD_RESPONSES * self._max_response_bytes:
            self._end_invalid()
            return
        self._write(buffers)

    def _flush(self) -> None:
        requests, out = self._requests, self._out
        if requests:
            self._requests = []
            out = self._frames.pack(requests) + out
        if self._releases:
            # First, so that the worker can use the memory for the results of these requests.
            released, self._releases = self._releases, []
            out = [buffer for offset in released for buffer in wire.pack(wire.RELEASE, offset)] + out
        if out:
            self._out = []
            if self._transport is not None:
                self._transport.writelines(out)
