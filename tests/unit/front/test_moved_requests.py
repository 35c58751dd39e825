"""A version is unloaded while it has requests, and its worker dies, with the compiled fast path and without it.

What can be repeated goes to the version's other worker, or to the version that the client means now.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest
import uvloop

from gateway.domain.table import WorkerAddress
from gateway.domain.traffic import Traffic
from gateway.domain.types import ModelStatus
from runtimes import wire
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor
from tests.support.front_pair import Pair, compiled, pair, result_frame

_SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
OLD = ModelStatus("m", "1", "READY", admits=True, signatures={"": _SIGNATURE}, max_batch_size=8)
NEW = replace(OLD, version="2", max_batch_size=0)
BODIES = {
    "/v2/models/m/infer": {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.5]}]},
    "/predict/m": {"inputs": {"x": [[1.5, 2.5]]}},
    "/v1/models/m:predict": {"instances": [[1.5, 2.5]]},
}
NAMED = {
    "/v2/models/m/versions/1/infer": BODIES["/v2/models/m/infer"],
    "/predict/m/versions/1": BODIES["/predict/m"],
    "/v1/models/m/versions/1:predict": BODIES["/v1/models/m:predict"],
}
LABELLED = "/v1/models/m/labels/stable:predict"
UNLOADED = "model 'm' version 1 was unloaded before it answered; send the request to a version that is loaded"


@dataclass
class Bench:
    """Version 1 of `m`, with one worker."""

    pair: Pair
    workers: list[WorkerAddress]

    async def send(self, path: str) -> int:
        """Send a request on a connection of its own, and return the connection's number."""
        number = self.pair.connect()
        body = json.dumps({**BODIES, **NAMED, LABELLED: BODIES["/v1/models/m:predict"]}[path])
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        self.pair.send(number, (head + body).encode())
        await self.pair.compare()
        return number

    async def learn(self, path: str) -> None:
        """Have the fast path know these requests: afterwards, it takes them."""
        before = self.pair.fast.taken["HttpRequest"]
        for _ in range(4):
            number = await self.send(path)
            await self.answer_all()
            assert b"200 OK" in self.pair.answers[number]
        assert self.pair.fast.taken["HttpRequest"] > before

    def asked(self, worker: WorkerAddress) -> list[int]:
        return self.pair.asked().get(worker.id, [])

    async def add_worker(self) -> WorkerAddress:
        self.workers.append(await self.pair.worker(1 << 20))
        return self.workers[-1]

    async def unload(self, *entries: tuple[ModelStatus, list[WorkerAddress]]) -> None:
        """Version 1 leaves the table, which has these entries now."""
        await self.pair.apply(*entries)

    async def kill(self, worker: WorkerAddress, *running: int) -> None:
        self.pair.kill(worker.id, frozenset(running))
        await self.pair.compare()

    async def answer_all(self) -> None:
        for worker, numbers in self.pair.asked().items():
            for number in numbers:
                asked = self.pair.request(worker, number)
                rows = result_frame([(number, asked.inputs[0].shape[0], [Tensor("y", *asked.inputs[0][1:])])])
                self.pair.answer(worker, [number], rows)
                await self.pair.compare()

    def answer_to(self, number: int) -> tuple[int, dict[str, str]]:
        head, _, body = self.pair.answers[number].partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    def is_closed(self, worker: WorkerAddress) -> bool:
        return all(worker.id not in front.engine.routes.connections.clients for front in self.pair.fronts)


Test = Callable[[Bench], Awaitable[None]]
Run = Callable[[Test], None]


@asynccontextmanager
async def _bench(module: ModuleType, folder: Path) -> AsyncIterator[Bench]:
    async with pair(module, folder) as both:
        bench = Bench(both, [])
        await both.apply((OLD, [await bench.add_worker()]))
        yield bench


@pytest.fixture
def run(tmp_path: Path) -> Run:
    module = compiled()

    def run(test: Test) -> None:
        async def main() -> None:
            async with _bench(module, tmp_path) as bench:
                await test(bench)

        uvloop.run(main())

    return run


@pytest.mark.parametrize("path", BODIES)
def test_requests_that_name_no_version_go_to_the_one_that_is_loaded_now(run: Run, path: str) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(path)
        (old,) = bench.workers
        clients = [await bench.send(path) for _ in range(3)]
        running, *waiting = bench.asked(old)
        new = await bench.add_worker()
        await bench.unload((NEW, [new]))
        assert bench.asked(old) == [running, *waiting]  # it answers what it has
        await bench.kill(old, running)
        assert sorted(bench.asked(new)) == [running, *waiting]
        (client,) = [each for each, _ in bench.pair.plain.engine.routes.connections.clients.values()]
        assert {number: sent.crashes for number, sent in client.in_flight.items() if sent.crashes} == {running: 1}
        await bench.answer_all()
        for number in clients:
            status, answer = bench.answer_to(number)
            assert (status, answer.get("model_version", "2")) == (200, "2")

    run(test)


@pytest.mark.parametrize("path", NAMED)
def test_requests_that_name_the_version_fail(run: Run, path: str) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(path)
        (old,) = bench.workers
        client = await bench.send(path)
        new = await bench.add_worker()
        await bench.unload((NEW, [new]))
        await bench.kill(old)
        assert bench.answer_to(client) == (503, {"error": UNLOADED})
        assert not bench.asked(new)

    run(test)


@pytest.mark.parametrize(
    "other",
    [
        replace(NEW, signatures={"": Signature((TensorSpec("x", "FP32", (-1, 3)),), _SIGNATURE.outputs)}),
        replace(NEW, state="UNAVAILABLE", admits=False),
        replace(NEW, decoupled=True),
        replace(NEW, takes_context=True),
        replace(NEW, sequence=True),
        replace(NEW, stateful=True),
        replace(NEW, name="other"),
    ],
)
def test_a_version_that_cannot_answer_them_does_not_get_them(run: Run, other: ModelStatus) -> None:
    async def test(bench: Bench) -> None:
        path = "/v2/models/m/infer"
        await bench.learn(path)
        client = await bench.send(path)
        await bench.unload((other, []))
        await bench.kill(bench.workers[0])
        assert bench.answer_to(client) == (503, {"error": UNLOADED})

    run(test)


def test_a_request_that_ends_two_workers_fails(run: Run) -> None:
    async def test(bench: Bench) -> None:
        path = "/v2/models/m/infer"
        await bench.learn(path)
        old, new = bench.workers[0], await bench.add_worker()
        client = await bench.send(path)
        (number,) = bench.asked(old)
        await bench.unload((NEW, [new]))
        await bench.kill(old, number)
        await bench.kill(new, number)
        assert bench.answer_to(client)[0] == 500

    run(test)


def test_requests_that_waited_for_a_worker_are_sent_to_the_other_version(run: Run) -> None:
    async def test(bench: Bench) -> None:
        path = "/v2/models/m/infer"
        await bench.learn(path)
        await bench.kill(bench.workers[0])
        client = await bench.send(path)
        new = await bench.add_worker()
        await bench.unload((NEW, [new]))
        await bench.answer_all()
        assert bench.answer_to(client)[0] == 200

    run(test)


@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/v2/models/m/versions/1/infer"])
def test_the_other_worker_of_the_version_gets_them(run: Run, path: str) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(path)
        one, other = bench.workers[0], await bench.add_worker()
        await bench.pair.apply((OLD, [one, other]))
        client = await bench.send(path)
        if not bench.asked(one):
            one, other = other, one
        new = await bench.add_worker()
        await bench.unload((NEW, [new]))
        assert not bench.is_closed(other)  # it has nothing to do, but may be needed
        await bench.kill(one, *bench.asked(one))
        assert len(bench.asked(other)) == 1
        await bench.answer_all()
        status, answer = bench.answer_to(client)
        assert (status, answer["model_version"]) == (200, "1")
        assert bench.is_closed(other)

    run(test)


def test_nothing_keeps_a_worker_when_all_are_answered(run: Run) -> None:
    async def test(bench: Bench) -> None:
        path = "/v2/models/m/infer"
        await bench.learn(path)
        one, other = bench.workers[0], await bench.add_worker()
        await bench.pair.apply((OLD, [one, other]))
        await bench.send(path)
        await bench.unload()
        await bench.answer_all()
        assert bench.is_closed(one)
        assert bench.is_closed(other)

    run(test)


def test_a_version_that_is_loaded_on_demand_is_wanted_again(run: Run) -> None:
    async def test(bench: Bench) -> None:
        path = "/v2/models/m/infer"
        await bench.learn(path)
        wanted: list[tuple[str, str]] = []
        for front in bench.pair.fronts:
            front.engine.routes._want = lambda *key: wanted.append(key)
        client = await bench.send(path)
        await bench.pair.apply((replace(OLD, state="UNLOADED"), []))
        assert not wanted  # its worker answers
        await bench.kill(bench.workers[0], *bench.asked(bench.workers[0]))
        assert wanted == [("m", "1")] * 2
        await bench.pair.apply((OLD, [await bench.add_worker()]))
        await bench.answer_all()
        assert bench.answer_to(client)[0] == 200

    run(test)


def test_weights_that_chose_the_version_are_no_choice_of_the_client(run: Run) -> None:
    async def test(bench: Bench) -> None:
        new = await bench.add_worker()
        for front in bench.pair.fronts:
            front.engine.routes.choice.apply({"m": Traffic({"1": 1})}, front.engine.routes._by_model)
        client = await bench.send("/v2/models/m/infer")
        await bench.unload((NEW, [new]))
        await bench.kill(bench.workers[0])
        await bench.answer_all()
        assert bench.answer_to(client)[0] == 200

    run(test)


def test_a_label_means_the_version_that_has_it_now(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.pair.apply((replace(OLD, version_labels=("stable",)), bench.workers))
        client = await bench.send(LABELLED)
        new = await bench.add_worker()
        await bench.unload((replace(NEW, version_labels=("stable",)), [new]))
        await bench.kill(bench.workers[0])
        await bench.answer_all()
        assert bench.answer_to(client)[0] == 200
        lost = await bench.send(LABELLED)
        await bench.unload((replace(NEW, version="3"), []))
        await bench.kill(new)
        assert bench.answer_to(lost)[0] == 503

    run(test)


def test_a_request_keeps_its_flag_for_the_worker(run: Run) -> None:
    async def test(bench: Bench) -> None:
        path = "/v2/models/m/infer"
        await bench.learn(path)
        old, new = bench.workers[0], await bench.add_worker()
        await bench.send(path)
        (number,) = bench.asked(old)
        await bench.unload((NEW, [new]))
        flags: list[int] = []
        reader = wire.FrameReader()
        bench.pair.plain.workers[new.id]._transport.on_write = lambda: flags.extend(
            frame.flags
            for frame in reader.feed(bench.pair.plain.workers[new.id]._transport.history[-1])
            if frame.kind == wire.INFER
        )
        await bench.kill(old, number)
        assert [each & wire.ISOLATED for each in flags] == [wire.ISOLATED]
        await bench.answer_all()

    run(test)
