"""Large results in shared memory: what a front reads there, when it is free again, and what a hostile worker gains."""

import asyncio
import fcntl
import gc
import mmap
import os
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.codecs import json_text
from gateway.domain.table import Table, TableEntry, WorkerAddress
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.engine.arenas import Arenas
from gateway.engine.client import WorkerClient
from gateway.engine.engine import FrontEngine
from gateway.engine.result_memory import RESULT_MEMORY_BYTES, ResultMemory
from runtimes import request_frames, result_frames, status_page, wire
from runtimes.contract import Signature, TensorSpec
from runtimes.result_frames import ResultFrame
from runtimes.tensors import Buffer, Tensor, from_array, to_array
from runtimes.wire import Frame, WireError
from runtimes.worker import mapping
from runtimes.worker.connection import Connection
from runtimes.worker.mapping import MIN_SHARED_BYTES

_BYTES = MIN_SHARED_BYTES
_VALUES = _BYTES // 4


@dataclass
class Worker:
    """The worker's end of a connection, used without a loop of its own: each method does one step.

    frames  that the front has sent and nobody has looked at
    """

    connection: Connection
    client: WorkerClient
    frames: list[Frame] = field(default_factory=list)

    @property
    def memory(self) -> mapping.ResultMemory:
        assert self.connection.results is not None
        return self.connection.results

    async def receive(self, kind: int) -> Frame:
        """Wait for a frame of this kind, and release what the front no longer reads."""
        async with asyncio.timeout(10):
            while True:
                for index, frame in enumerate(self.frames):
                    if frame.kind == kind:
                        return self.frames.pop(index)
                await asyncio.sleep(0.001)
                for frame in self.connection.receive():
                    if frame.kind == wire.RELEASE:
                        self.memory.release(frame.id)
                    self.frames.append(frame)

    async def request(self) -> int:
        return (await self.receive(wire.INFER)).id

    def answer(self, number: int, array: np.ndarray) -> int:
        """Send a result, and return the flags of its frame."""
        result = ResultFrame(0, 0, 0, 0, 1, [from_array("y", array)])
        buffers = result_frames.pack_result([(number, result)], wire.FIRST_OF_BATCH, self.connection.put_results)
        self.send(b"".join(bytes(buffer) for buffer in buffers))
        return int(wire.HEADER.unpack_from(bytes(buffers[0]))[3])

    def send(self, data: bytes) -> None:
        self.connection.sock.setblocking(True)
        self.connection.sock.sendall(data)
        self.connection.sock.setblocking(False)

    async def answer_in_background(self, number: int, array: np.ndarray) -> int:
        return await asyncio.to_thread(self.answer, number, array)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[FrontEngine, Worker]]:
    status_page.create(str(folder / "status"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "worker"))
        listener.listen()
        engine = FrontEngine(1, AdmissionLimits(), lambda *_: asyncio.sleep(0), Arenas(1 << 20))
        x, y = TensorSpec("x", "FP32", (-1,)), TensorSpec("y", "FP32", (-1,))
        status = ModelStatus("m", "1", "READY", admits=True, signatures={"": Signature((x,), (y,))})
        address = WorkerAddress(1, str(folder / "worker"), str(folder / "status"), 64)
        engine.apply(Table((TableEntry(status, (address,)),), True))
        connection = Connection((await asyncio.to_thread(listener.accept))[0])
        while not engine.routes._queues["m", "1"].clients:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
        worker = Worker(connection, engine.routes._queues["m", "1"].clients[0])
        sizes = wire.unpack_json((await worker.receive(wire.ARENA)).body)
        assert connection.map_memory(**sizes)
        worker.send(wire.pack_json(wire.ARENA, {}))
        while not worker.client._worker_maps_arena:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        try:
            yield engine, worker
        finally:
            connection.close()
            engine.apply(Table())
            await asyncio.sleep(0.01)


def ask(engine: FrontEngine, x: Buffer = bytes(4)) -> "asyncio.Task[InferResponse]":
    request = InferRequest("m", [Tensor("x", "FP32", (len(x) // 4,), x)])
    return asyncio.create_task(engine.infer(request))


def run(folder: Path, test: Callable[[FrontEngine, Worker], Any]) -> None:
    async def main() -> None:
        async with serving(folder) as (engine, worker):
            await test(engine, worker)

    asyncio.run(main())


async def lost(worker: Worker) -> None:
    """Wait until the front has lost the connection."""
    async with asyncio.timeout(10):
        while worker.client._transport is not None:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)


async def all_free(worker: Worker) -> None:
    """Wait until the front has released everything."""
    while worker.memory._free.total < RESULT_MEMORY_BYTES:
        await worker.receive(wire.RELEASE)


def test_a_large_result_is_read_where_the_worker_wrote_it_and_then_released(tmp_path: Path) -> None:
    async def test(engine: FrontEngine, worker: Worker) -> None:
        answer = ask(engine)
        values = np.arange(_VALUES, dtype=np.float32)
        assert worker.answer(await worker.request(), values) & wire.IN_RESULT_MEMORY
        (tensor,) = (await answer).outputs
        array = to_array(tensor)
        np.testing.assert_array_equal(array, values)
        worker.memory._whole[:4] = struct.pack("<f", 7)
        assert array[0] == 7, "the bytes were copied"
        assert worker.memory._free.total == RESULT_MEMORY_BYTES - _BYTES
        del answer, tensor, array
        await all_free(worker)

    run(tmp_path, test)


def test_a_worker_cannot_change_the_inputs_that_another_gets_from_it(tmp_path: Path) -> None:
    """As between two steps of a pipeline: the second checks its inputs, and relies on them afterwards."""

    async def test(engine: FrontEngine, worker: Worker) -> None:
        answer = ask(engine)
        worker.answer(await worker.request(), np.ones(_VALUES, np.float32))
        following = ask(engine, (await answer).outputs[0].data)
        frame = await worker.receive(wire.INFER)
        assert frame.flags & wire.IN_ARENA
        ((_, request),) = request_frames.unpack_infer(frame.body, worker.connection.arena)
        seen = to_array(request.inputs[0])
        worker.memory._whole[:_BYTES] = bytes(_BYTES)
        assert seen.all()
        assert not seen.flags.writeable
        following.cancel()

    run(tmp_path, test)


def test_small_results_and_strings_go_through_the_socket(tmp_path: Path) -> None:
    async def test(engine: FrontEngine, worker: Worker) -> None:
        for array in (np.ones(_VALUES - 4, np.float32), np.array([b"x" * _BYTES], object)):
            answer = ask(engine)
            number = await worker.request()
            assert not await worker.answer_in_background(number, array) & wire.IN_RESULT_MEMORY
            np.testing.assert_array_equal(to_array((await answer).outputs[0]), array)

    run(tmp_path, test)


def test_results_go_through_the_socket_while_clients_have_not_read_those_in_memory(tmp_path: Path) -> None:
    """And through memory again once they have, in any order, however often."""

    async def test(engine: FrontEngine, worker: Worker) -> None:
        values = np.ones(RESULT_MEMORY_BYTES // 16, np.float32)  # a quarter of the memory
        for _ in range(3):
            unread = []
            for index in range(5):
                answer = ask(engine)
                flags = await worker.answer_in_background(await worker.request(), values * index)
                assert bool(flags & wire.IN_RESULT_MEMORY) == (index < 4)
                unread.append(await answer)
                del answer
            for index in (3, 0, 4, 2, 1):
                assert to_array(unread[index].outputs[0])[-1] == index
                unread[index] = None  # type: ignore[call-overload]
            await all_free(worker)

    run(tmp_path, test)


def test_the_result_of_a_cancelled_request_is_released(tmp_path: Path) -> None:
    async def test(engine: FrontEngine, worker: Worker) -> None:
        for _ in range(20):
            answer = ask(engine)
            number = await worker.request()
            answer.cancel()
            assert (await worker.receive(wire.CANCEL)).id == number
            worker.answer(number, np.ones(_VALUES, np.float32))
        await all_free(worker)
        assert not worker.client.in_flight

    run(tmp_path, test)


def test_results_stay_readable_when_their_worker_has_died(tmp_path: Path) -> None:
    async def test(engine: FrontEngine, worker: Worker) -> None:
        answer = ask(engine)
        values = np.arange(_VALUES, dtype=np.float32)
        worker.answer(await worker.request(), values)
        (tensor,) = (await answer).outputs
        worker.connection.close()
        await lost(worker)
        assert worker.client._result_memory is None
        np.testing.assert_array_equal(to_array(tensor), values)
        del answer, tensor  # nobody is left to be told
        await asyncio.sleep(0)

    run(tmp_path, test)


@pytest.mark.parametrize("fewer", [True, False])
def test_values_may_change_while_they_are_written_as_json(fewer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker can write to its results at any time. What the front makes of them must be an answer nevertheless."""
    memory = np.array([1, np.nan, 2, np.nan], np.float32)
    values = memory[:]
    values.flags.writeable = False

    def dumps(document: Any, before: Callable[[Any], bytes] = json_text.dumps) -> bytes:
        text = before(document)
        memory[:] = [1, np.nan, 2, 3] if fewer else [np.nan, np.nan, -np.inf, np.nan]
        return text

    monkeypatch.setattr(json_text, "dumps", dumps)
    assert json_text.number_list(values) == (b"[1.0,NaN,2.0,3.0]" if fewer else b"[NaN,NaN,-Infinity,NaN]")


def shared(number: int, offset: int, size: int, array: np.ndarray, flags: int = 0) -> bytes:
    """Return the frame of a result with this range, whatever it contains."""
    result = ResultFrame(0, 0, 0, 0, 1, [from_array("y", array)])
    buffers = result_frames.pack_result([(number, result)], flags, lambda _: (offset, size))
    return b"".join(bytes(buffer) for buffer in buffers)


def strings(number: int) -> bytes:
    """Return a frame that says its strings are in memory."""
    result = ResultFrame(0, 0, 0, 0, 1, [from_array("y", np.array([b"abc"], object))])
    frame = bytearray(b"".join(bytes(buffer) for buffer in result_frames.pack_result([(number, result)])))
    struct.pack_into("<H", frame, 10, wire.FINAL | wire.IN_RESULT_MEMORY)
    return bytes(frame)


def without_range(number: int) -> bytes:
    frame = bytearray(shared(number, 0, 16, ONES)[:-16])
    struct.pack_into("<Q", frame, 0, len(frame) - wire.HEADER.size)
    return bytes(frame)


ONES = np.ones(4, np.float32)
HOSTILE = {
    "an offset after the end": lambda number: shared(number, RESULT_MEMORY_BYTES, 16, ONES),
    "an end after the end": lambda number: shared(number, RESULT_MEMORY_BYTES - 16, 32, ONES),
    "a sum that overflows": lambda number: shared(number, 2**64 - 16, 32, ONES),
    "an offset that is not aligned": lambda number: shared(number, 8, 16, ONES),
    "fewer bytes than the layout": lambda number: shared(number, 0, 15, ONES),
    "no bytes": lambda number: shared(number, 0, 0, ONES),
    "strings": strings,
    "a request that was not sent": lambda number: shared(number + 1, 0, 16, ONES),
    "a request that was answered": lambda number: shared(number, 0, 16, ONES) * 2,
    "no range": without_range,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_worker_that_sends_what_no_worker_sends_loses_its_connection(what: str, tmp_path: Path) -> None:
    async def test(engine: FrontEngine, worker: Worker) -> None:
        answer = ask(engine)
        worker.send(HOSTILE[what](await worker.request()))
        await lost(worker)
        # Nothing of the frame reaches the client, except a valid answer that came first.
        assert answer.done() == (what == "a request that was answered")
        answer.cancel()

    run(tmp_path, test)


def test_results_in_memory_that_a_front_does_not_share_end_the_connection(tmp_path: Path) -> None:
    async def test(engine: FrontEngine, worker: Worker) -> None:
        worker.client._result_memory = None
        answer = ask(engine)
        worker.send(shared(await worker.request(), 0, 16, ONES))
        await lost(worker)
        answer.cancel()

    run(tmp_path, test)


def test_a_worker_cannot_take_memory_away_that_a_front_reads() -> None:
    async def test() -> None:
        memory = ResultMemory(lambda offset: None)
        for attempt in (
            lambda: os.ftruncate(memory.descriptor, 0),
            lambda: os.ftruncate(memory.descriptor, 2 * memory.size),
            lambda: fcntl.fcntl(memory.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
        ):
            with pytest.raises(PermissionError):
                attempt()
        block = memory.block(0, 16)
        assert block.readonly
        with mmap.mmap(memory.descriptor, memory.size) as mapped:
            mapped[:2] = b"ab"
            assert bytes(block[:2]) == b"ab"
            mapped.madvise(mmap.MADV_REMOVE)
            assert bytes(block[:2]) == b"\0\0"
        with pytest.raises(WireError):
            memory.block(16, memory.size)
        memory.close_descriptor()

    asyncio.run(test())


def test_an_idle_worker_returns_memory_to_the_system() -> None:
    async def test() -> None:
        shared = ResultMemory(lambda offset: None)
        memory = mapping.map_results(os.dup(shared.descriptor), shared.size)
        assert memory is not None

        def resident() -> int:
            return os.fstat(shared.descriptor).st_blocks * 512

        low = memory.put([bytes(6 << 20)])
        high = memory.put([bytes(6 << 20)])
        assert low is not None
        assert high is not None
        memory.trim()
        assert resident() == 12 << 20
        memory.release(low[0])
        memory.trim()
        assert resident() == 10 << 20
        memory.release(high[0])
        memory.trim()
        assert resident() == 4 << 20
        shared.close_descriptor()

    asyncio.run(test())


def test_a_worker_that_cannot_map_the_memory_for_results_logs_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert mapping.map_results(-1, mmap.PAGESIZE) is None
    assert "results go through the socket" in capsys.readouterr().out


@pytest.mark.parametrize("crashes", [False, True])
def test_the_memory_of_a_model_is_freed_with_its_last_connection(tmp_path: Path, crashes: bool) -> None:
    """Without the garbage collector: fronts rarely collect, and models may be unloaded often."""

    async def main() -> None:
        async with serving(tmp_path) as (engine, worker):
            assert engine._arenas is not None
            freed = [weakref.ref(worker.client), weakref.ref(engine._arenas.of("m"))]
            del worker.client
            gc.disable()
            try:
                if crashes:
                    worker.connection.close()
                engine.apply(Table())
                while engine.routes.connections.clients:  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0)
                await asyncio.sleep(0)  # the loop still has what it has just called
                assert [reference() for reference in freed] == [None, None]
            finally:
                gc.enable()

    asyncio.run(main())
