"""A front answers, asks its workers and counts the same with the compiled fast path as without it."""

import gc
import json
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvloop

from gateway.domain.table import WorkerAddress
from gateway.domain.types import ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.front.base.limits import Limits
from gateway.front.dialects.v2.grpc_request import RequestReader
from gateway.generated import open_inference_pb2 as pb
from runtimes.contract import DATATYPES, Signature, TensorSpec
from runtimes.tensors import Tensor, from_array, pack_bytes
from tests.support.front_pair import Pair, compiled, error_frame, pair, result_frame
from tests.support.front_traffic import Traffic

_SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
STATUS = ModelStatus("m", "1", "READY", admits=True, signatures={"": _SIGNATURE}, max_batch_size=8)
Test = Callable[["Bench"], Awaitable[None]]
Run = Callable[..., None]


def http(body: bytes, model: str = "m", more: str = "", json_length: int | None = None) -> bytes:
    if json_length is not None:
        more += f"inference-header-content-length: {json_length}\r\n"
    return post(f"/v2/models/{model}/infer", body, more)


def post(path: str, body: bytes | str, more: str = "") -> bytes:
    body = body.encode() if isinstance(body, str) else body
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def document(value: float = 1.0, rows: int = 1, **more: Any) -> bytes:
    data = [value] * (2 * rows)
    inputs = [{"name": "x", "shape": [rows, 2], "datatype": "FP32", "data": data}]
    return json.dumps({**more, "inputs": inputs}).encode()


def request(value: float = 1.0, rows: int = 1, model: str = "m", **more: Any) -> bytes:
    return http(document(value, rows, **more), model)


@dataclass
class Bench:
    """One model `m`, with one worker, and a connection whose requests the fast path takes."""

    pair: Pair
    address: WorkerAddress
    number: int

    @property
    def taken(self) -> int:
        return self.pair.fast.taken["HttpRequest"]

    async def learn(self, data: bytes | None = None, number: int | None = None) -> None:
        """Send a request until it is one that the fast path takes."""
        before = self.taken
        kept = set(self.ids())
        for _ in range(4):
            self.pair.send(number or self.number, data or request())
            await self.pair.compare()
            await self.answer(*set(self.ids()) - kept)
        assert self.taken > before

    async def ask(self, data: bytes | None = None, number: int | None = None) -> int:
        """Send a request that the fast path must take. Return its id."""
        before, known = self.taken, set(self.ids())
        self.pair.send(number or self.number, data or request())
        await self.pair.compare()
        assert self.taken == before + 1
        new = set(self.ids()) - known
        return new.pop() if new else 0

    def ids(self) -> list[int]:
        return [number for numbers in self.pair.asked().values() for number in numbers]

    def worker_of(self, number: int) -> int:
        return next(worker for worker, numbers in self.pair.asked().items() if number in numbers)

    async def answer(self, *numbers: int, outputs: Any = None, final: bool = True) -> None:
        """Answer these requests, each with its own frame and its input as output."""
        for number in numbers:
            worker = self.worker_of(number)
            asked = self.pair.request(worker, number)
            tensors = outputs or [Tensor("y", *asked.inputs[0][1:])]
            rows = 0 if outputs else asked.inputs[0].shape[0]
            self.pair.answer(worker, [number], result_frame([(number, rows, tensors)], final), final)
            await self.pair.compare()

    async def answer_all(self) -> None:
        await self.answer(*self.ids())

    async def answer_together(self) -> None:
        """Answer all requests of one row in one frame."""
        (worker, numbers), *_ = self.pair.asked().items()
        results = [(each, 1, [Tensor("y", *self.pair.request(worker, each).inputs[0][1:])]) for each in numbers]
        self.pair.answer(worker, numbers, result_frame(results))
        await self.pair.compare()

    async def fail(self) -> None:
        for number in self.ids():
            self.pair.answer(self.worker_of(number), [number], error_frame(number, "internal", "it failed"))
        await self.pair.compare()

    async def expire(self) -> None:
        self.pair.expire(3600)
        await self.pair.compare()

    async def leave(self) -> None:
        """The client that came last leaves."""
        for client in self.pair.each(max(self.pair.plain.clients)):
            client.lose(None)
        await self.pair.compare()

    async def crash(self, number: int) -> None:
        """End the worker that runs this request, and start another."""
        self.pair.kill(self.worker_of(number), frozenset({number}))
        await self.pair.compare()
        await self.pair.apply((STATUS, [await self.pair.worker(2)]))

    def answers(self, number: int | None = None) -> bytes:
        found = self.pair.answers[number or self.number]
        self.pair.answers[number or self.number] = b""
        return found


@asynccontextmanager
async def _bench(
    module: ModuleType, folder: Path, window: int, status: ModelStatus, **options: Any
) -> AsyncIterator[Bench]:
    async with pair(module, folder, **options) as both:
        address = await both.worker(window)
        await both.apply((status, [address]))
        bench = Bench(both, address, both.connect())
        yield bench


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return compiled()


@pytest.fixture
def run(module: ModuleType, tmp_path: Path) -> Run:
    def run(test: Test, window: int = 1 << 20, status: ModelStatus = STATUS, **options: Any) -> None:
        async def main() -> None:
            async with _bench(module, tmp_path, window, status, **options) as bench:
                await test(bench)

        uvloop.run(main())

    return run


def test_a_usual_request_is_taken_and_answered(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn()
        bench.answers()
        await bench.ask(request(2.5))
        await bench.answer_all()
        assert b"[2.5,2.5]" in bench.answers()

    run(test)


@pytest.mark.parametrize("parameters", [{}, {"timeout": 60_000_000}])
def test_a_deadline_that_passes_is_answered_once(run: Run, parameters: dict[str, int]) -> None:
    data = request(parameters={**parameters, "a": 1})

    async def test(bench: Bench) -> None:
        await bench.learn(data)
        first, second = await bench.ask(data), await bench.ask(data, bench.pair.connect())
        bench.answers()
        await bench.expire()
        assert b"504" in bench.answers()
        await bench.answer(second, first)
        await bench.ask(data)
        await bench.answer_all()
        assert b"200" in bench.answers()

    run(test)


def test_a_request_object_used_again_is_like_new(run: Run) -> None:
    """Its worker and its crashes must not be those of the request before."""

    async def test(bench: Bench) -> None:
        await bench.learn()
        other = bench.pair.connect()
        await bench.learn(number=other)
        first = await bench.ask()
        await bench.crash(first)
        await bench.learn(number=other)
        await bench.answer(first)
        second = await bench.ask()
        await bench.crash(second)
        await bench.learn(number=other)
        await bench.answer(second)
        bench.pair.send(bench.pair.connect(), request(rows=2))  # it uses the whole window
        await bench.pair.compare()
        await bench.ask()  # it waits
        for client in bench.pair.each(bench.number):
            client.lose(None)
        await bench.pair.compare()
        await bench.answer_all()
        await bench.learn(number=other)

    run(test)


def test_a_client_that_leaves_with_a_cold_request_behind_ends_both(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn()
        await bench.ask()
        bench.pair.send(bench.number, b"GET /cold HTTP/1.1\r\nhost: x\r\n\r\n")
        await bench.pair.compare()
        for client in bench.pair.each(bench.number):
            client.lose(ConnectionResetError())
        await bench.pair.compare()
        assert bench.pair.plain.engine.snapshot()[0]["outcomes"]["cancelled"] == 1

    run(test)


def test_cancelled_requests_that_still_run_count_for_the_share_of_their_model(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.pair.apply((STATUS, [bench.address]), (replace(STATUS, name="other"), []))
        await bench.learn()
        for _ in range(2):
            gone = bench.pair.connect()
            await bench.ask(number=gone)
            for client in bench.pair.each(gone):
                client.lose(None)
        bench.answers()
        bench.pair.send(bench.number, request())
        await bench.pair.compare()
        assert b"429" in bench.answers() or b"503" in bench.answers()

    run(test, limits=AdmissionLimits(max_requests=4))


def test_the_server_shuts_down_while_requests_run(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn()
        await bench.ask()
        bench.answers()
        for front in bench.pair.fronts:
            for connection in list(front.server.server_state.connections):
                connection.shutdown()
        await bench.answer_all()
        assert b"connection: close" in bench.answers()

    run(test)


def test_an_answer_that_cannot_be_written_is_an_error(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn()
        bench.answers()
        await bench.ask()
        # A string that is longer than its tensor. Numbers of another size than their shape's end the worker.
        await bench.answer(*bench.ids(), outputs=[Tensor("y", "BYTES", (1,), b"x" * 5)])
        assert b" 500 " in bench.answers()

    run(test)


def test_a_form_with_strings(run: Run) -> None:
    signature = Signature((TensorSpec("s", "BYTES", (-1,)),), (TensorSpec("t", "BYTES", (-1,)),))
    status = replace(STATUS, signatures={"": signature})

    def text(*strings: str) -> bytes:
        inputs = [{"name": "s", "shape": [len(strings)], "datatype": "BYTES", "data": strings}]
        return http(json.dumps({"inputs": inputs}, ensure_ascii=False).encode())

    async def test(bench: Bench) -> None:
        await bench.learn(text("a", "b"))
        bench.answers()
        for strings in (("", "ä\U0001f600"), ('"', "\\\u0001"), ("x" * 300, "]")):
            bench.pair.send(bench.number, text(*strings))
            await bench.pair.compare()
            await bench.answer_all()
            bench.answers()
        for answer in ([b"", b"1234"], [b"\xff", b"b"], [b"12", b"34"], [b"123456789", b"0"]):
            await bench.ask(text("c", "d"))
            await bench.answer(*bench.ids(), outputs=[Tensor("t", "BYTES", (2,), pack_bytes(answer))])
            assert b" 200 " in bench.answers() or len(b"".join(answer)) > 4

    run(test, status=status, body_limits=Limits(response_bytes=12))


@pytest.mark.parametrize(
    ("seed", "named"), [*((seed, 0.2) for seed in range(6)), *((seed, 1) for seed in range(7, 10))]
)
def test_random_traffic(module: ModuleType, tmp_path: Path, seed: int, named: float) -> None:
    async def main() -> None:
        random = Random(seed)
        limits = random.choice((AdmissionLimits(), AdmissionLimits(max_requests=6), AdmissionLimits(max_bytes=300)))
        async with pair(module, tmp_path, limits, random.choice((Limits(), Limits(response_bytes=40)))) as both:
            await Traffic(both, random, named).run(150)
            assert both.fast.taken["HttpRequest"] > 3, both.fast.taken
            assert set(both.plain.taken) == {"AdmittedRequest"}

    uvloop.run(main())


def test_requests_are_freed_without_the_garbage_collector(run: Run) -> None:
    """Fronts rarely collect."""

    async def test(bench: Bench) -> None:
        binary = request(parameters={"binary_data_output": True})
        other = bench.pair.connect()
        usual: tuple[Callable[[], Awaitable[Any]], ...] = (
            lambda: bench.ask(),
            lambda: bench.ask(number=other),
            lambda: bench.answer_together(),
            lambda: bench.ask(binary),
            lambda: bench.ask(request(rows=2), other),
            lambda: bench.answer_all(),
            lambda: bench.ask(),
            lambda: bench.answer(*bench.ids(), outputs=[from_array("y", np.full((1, 2), np.nan, np.float32))]),
            lambda: bench.ask(),
            lambda: bench.fail(),
            lambda: bench.ask(),
            lambda: bench.expire(),
            lambda: bench.answer_all(),
            lambda: bench.ask(number=bench.pair.connect()),
            lambda: bench.leave(),
            lambda: bench.answer_all(),
            lambda: bench.ask(number=bench.pair.connect()),
            lambda: bench.answer_all(),
            lambda: bench.leave(),
        )
        for data in (request(), binary, request(rows=2)):
            await bench.learn(data)
            await bench.learn(data, other)
        kinds = (
            "HttpRequest", "Results", "AdmittedRequest", "TensorGroup", "GroupedTensors", "HotRequest",
            "HttpConnection",
        )  # fmt: skip
        for step in usual:
            await step()
        before = _count(kinds)
        gc.disable()
        try:
            for _ in range(5):
                for step in usual:
                    await step()
            assert _count(kinds) == before
        finally:
            gc.enable()

    run(test)


def _count(kinds: tuple[str, ...]) -> Counter[str]:
    return Counter(name for name in (type(each).__name__ for each in gc.get_objects()) if name in kinds)


def test_an_answer_to_a_call_that_cannot_be_written_is_an_error(run: Run, module: ModuleType) -> None:
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[bytes(8)])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    text = message.SerializeToString()

    async def test(bench: Bench) -> None:
        engine, failed = bench.pair.fast.engine, []
        reader = RequestReader(engine)
        engine.submit(reader.read(text, None)[0], lambda answer: None)
        writer = SimpleNamespace(fields=lambda *arguments: 1 / 0)
        path = module.FastPath(engine, Limits())
        calls = path.calls(reader, writer, {}, [], lambda: None, lambda *outcome: failed.append(outcome), 1 << 20, {})
        assert calls.take(7, text, None, None)
        bench.pair.plain.engine.submit(reader.read(text, None)[0], lambda answer: None)
        bench.pair.plain.engine.submit(reader.read(text, None)[0], lambda answer: None)
        await bench.pair.compare()
        await bench.answer_all()
        [(call, error)] = failed
        assert call == 7
        assert isinstance(error, ZeroDivisionError)

    run(test)


_IDS = ["a\x1fb", "a\x7fb", "a\\nb", 'a"b', "ä", "\u2028", "", "x" * 256, "x" * 257, "a\x00b", '","id":"', '"data":[1]']
_VALUES = (
    "true", "null", '"1"', "1e400", "3.4028235e38", "3.4028236e38", "65519", "65520", "-0", "-0.0", "1.5", "1e2",
    "[1]", "01", "127", "128", "-129", "255", "256", "32768", "-32769", "65535", "65536", "2147483648",
    "-2147483649", "4294967296", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "18446744073709551616", "1,1", "", "NaN", "-Infinity", "5e-324", "1e-46", "0.1",
    "16777217", "NaN]", "1]", "1 ", "\n1",
)  # fmt: skip


@pytest.mark.parametrize("datatype", [each for each in DATATYPES if each != "BYTES"])
def test_odd_values_and_ids_within_a_form(run: Run, datatype: str) -> None:
    spec = TensorSpec("x", datatype, (-1,))
    status = replace(STATUS, signatures={"": Signature((spec,), (spec._replace(name="y"),))}, max_batch_size=0)

    is_usual = datatype != "BOOL" and DATATYPES[datatype].typestr is not None

    def text(value: str, name: str = "a") -> bytes:
        body = f'{{"id":"{name}","inputs":[{{"name":"x","shape":[2],"datatype":"{datatype}","data":[1,{value}]}}]}}'
        return http(body.encode())

    async def test(bench: Bench) -> None:
        if is_usual:
            await bench.learn(text("0"))
        for data in [*map(text, _VALUES), *(text("0", name) for name in _IDS), text("1")]:
            bench.pair.send(bench.number, data)
            await bench.pair.compare()
            await bench.answer_all()
            if bench.number not in bench.pair.plain.clients:
                bench.number = bench.pair.connect()
        assert bench.taken > 8 or not is_usual

    run(test, status=status)


def test_heads_that_are_almost_alike(run: Run) -> None:
    lengths = [
        "{0}",
        " {0}",
        "{0} ",
        "0{0}",
        "+{0}",
        "{1}",
        "{2}",
        "",
        "{0}\tx",
        "{0}, {0}",
        "{0}\r\ncontent-length: {0}",
    ]

    def text(length: str = "{0}", trace: str = "a") -> bytes:
        head, _, body = request().partition(b"\r\n\r\n")
        size = len(body)
        line = f"content-length: {length.format(size, size + 1, size - 1)}\r\ntraceparent: {trace}"
        return head.replace(b"content-length: %d" % size, line.encode("latin-1")) + b"\r\n\r\n" + body

    async def test(bench: Bench) -> None:
        await bench.learn(text())
        traces = [
            "",
            "b" * 99,
            "\x80",
            "a\tb",
            " a",
            "a\r\n b",
            "a\r\nexpect: 100-continue",
            "a\r\nb: c",
            "a\x00",
            "a\r\nb3: ",
        ]
        for data in [*map(text, lengths), *(text(trace=trace) for trace in traces)]:
            bench.number = bench.pair.connect()
            await bench.ask(text())
            await bench.answer_all()
            bench.pair.send(bench.number, data)
            await bench.pair.compare()
            await bench.answer_all()

    run(test)


@pytest.mark.parametrize("more", [-4, -1, 0, 1, 4])
def test_sections_of_another_length(run: Run, more: int) -> None:
    described = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    body = json.dumps({"inputs": [described]}).encode()

    async def test(bench: Bench) -> None:
        await bench.learn(http(body + bytes(8), json_length=len(body)))
        bench.pair.send(bench.number, http(body + bytes(8 + more), json_length=len(body)))
        await bench.pair.compare()
        await bench.answer_all()

    run(test)


def test_priorities_are_levels(run: Run) -> None:
    async def test(bench: Bench) -> None:
        for priority in (-1, 1, 3, 4, 1 << 40):
            await bench.learn(request(parameters={"priority": priority}))

    run(test, status=replace(STATUS, priority_levels=3, default_priority_level=2))


def test_a_client_that_does_not_read_is_not_read_from(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn()
        await bench.ask()
        for client in bench.pair.each(bench.number):
            client.transport.on_write = client.receiver.pause_writing
        await bench.answer_all()
        bench.pair.send(bench.number, request())
        await bench.pair.compare()
        assert not bench.ids()
        for client in bench.pair.each(bench.number):
            client.transport.on_write = lambda: None
            client.receiver.resume_writing()
        await bench.pair.compare()
        await bench.answer_all()
        assert bench.pair.plain.clients[bench.number].unread == b""


def _heads(random: Random, length: int) -> bytes:
    """Return a head of one of three clients that is usual, or differs from one in a detail that may matter."""
    spell, agent = random.choice(((str.lower, "a"), (str.title, "b"), (str.upper, "c")))
    lines = [f"{spell('host')}: localhost", f"{spell('user-agent')}: {agent}"]
    for name in random.sample(("traceparent", "x-request-id", "b3", "traceparent"), random.randint(0, 3)):
        lines.append(f"{spell(name)}: {random.randbytes(8).hex()}")
    lines.insert(2, f"{spell('content-length')}: {length}")
    position, other = random.randint(0, len(lines) - 1), random.randint(0, len(lines) - 1)
    match random.randint(0, 15):
        case 0:
            lines[2] = lines[2].replace(
                f" {length}",
                random.choice((f" 0{length}", f" +{length}", f"{length} ", f"\t{length}", "", f" {length + 1}")),
            )
        case 1:
            lines.insert(position, lines[other])
        case 2:
            lines.insert(position, random.choice((" folded", "\tfolded", "no colon", "a : b", ": b", "x-unknown: 1")))
        case 3:
            lines[position] += random.choice((" ", "\t", "é", "\x7f", "\n", "\r", ": c", " d"))
        case 4:
            lines[position] = lines[position].replace(": ", random.choice((":", ":  ", " : ", ":\t")))
        case 5:
            lines[position] = lines[position].swapcase()
        case 6:
            lines[position], lines[other] = lines[other], lines[position]
    version = "1.1" if random.randrange(20) else "1.0"
    return "\r\n".join([f"POST /v2/models/m/infer HTTP/{version}", *lines, "", ""]).encode("latin-1")


def test_heads_are_told_apart_as_a_parser_does(run: Run) -> None:
    async def test(bench: Bench) -> None:
        random = Random(16)
        before, rounds, number = bench.taken, 600, -1
        for turn in range(rounds):
            if number not in bench.pair.plain.clients or not random.randrange(20):  # an error closes a connection
                number = bench.pair.connect()
            body = document(turn)
            bench.pair.send(number, _heads(random, len(body)) + body)
            await bench.pair.compare()
            await bench.answer_all()
        assert rounds / 10 < bench.taken - before < rounds

    run(test)


def test_inputs_larger_than_their_text_go_through_the_arena(run: Run) -> None:
    specs = tuple(TensorSpec(name, "INT64", (-1,)) for name in "abc")
    status = replace(STATUS, signatures={"": Signature(specs, specs)}, max_batch_size=0)
    inputs = [{"name": name, "shape": [4096], "datatype": "INT64", "data": [1] * 4096} for name in "abc"]
    data = http(json.dumps({"inputs": inputs}, separators=(",", ":")).encode())

    async def test(bench: Bench) -> None:
        await bench.learn(data)
        await bench.ask(data)
        assert bench.pair.fast.state()["arena"] == [bench.ids()]
        await bench.answer_all()
        assert bench.pair.fast.state()["arena"] == [[]]

    run(test, status=status, arena=1 << 20)


# -- large bodies, which are received into the arena ----------------------------------------------------------------


def large(seed: int = 0, rows: int = 1 << 13, size: int | None = None, **more: Any) -> bytes:
    """Return a request with 8 bytes a row, and with `size` bytes after the JSON."""
    data = (struct.pack("<f", seed) * 2 * rows + bytes(8))[: 8 * rows if size is None else size]
    described = {"name": "x", "shape": [rows, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8 * rows}}
    body = json.dumps({"inputs": [described], **more}).encode()
    return http(body + data, json_length=len(body))


@pytest.mark.parametrize("more", [{}, {"id": "a1"}, {"parameters": {"binary_data_output": True}}])
@pytest.mark.parametrize("arena", [1 << 24, 0])
def test_a_large_body_is_taken_where_it_was_received(run: Run, arena: int, more: dict[str, Any]) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn()
        await bench.learn(large(**more))
        bench.answers()
        for seed in range(1, 4):
            number = await bench.ask(large(seed, **more))
            assert bench.pair.fast.state()["arena"] == [[number] if arena else []]
            await bench.answer(number)
            assert b"200 OK" in bench.answers()
            await bench.ask()  # a small one on the same connection, with the same object
            await bench.answer_all()
        await bench.ask(large(5, **more))
        await bench.fail()
        await bench.ask(large(6, **more))
        await bench.expire()
        await bench.ask(large(7, **more))
        await bench.leave()

    run(test, arena=arena)


def test_a_large_body_beyond_the_window_waits_and_is_sent_again_after_a_crash(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(large())
        bench.answers()
        running = await bench.ask(large(1))
        others = [bench.pair.connect() for _ in range(3)]
        for seed, number in enumerate(others):
            bench.pair.send(number, large(seed))
            bench.pair.send(number, large(seed + 9))  # behind it, on the same connection
            await bench.pair.compare()
        await bench.crash(running)
        for _ in range(9):
            await bench.answer_all()
        assert [bench.answers(number).count(b"200 OK") for number in others] == [2, 2, 2]
        assert bench.answers().count(b"200 OK") == 1

    run(test, window=1, arena=1 << 24)


@pytest.mark.parametrize("size", [(1 << 16) - 8, (1 << 16) - 1, (1 << 16) + 1, (1 << 16) + 8])
def test_a_large_body_of_another_length_is_refused(run: Run, size: int) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(large())
        bench.pair.send(bench.number, large(1, size=size))
        await bench.pair.compare()
        assert b"400 Bad Request" in bench.answers()
        assert not bench.ids()

    run(test, arena=1 << 24)


def test_large_bodies_count_for_the_limits(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn(large())
        await bench.ask(large(1))
        other = bench.pair.connect()
        bench.pair.send(other, large(2))
        await bench.pair.compare()
        assert b"429 Too Many Requests" in bench.answers(other)

    run(test, limits=AdmissionLimits(max_bytes=1 << 17), arena=1 << 24)


def test_a_large_body_counts_while_a_thread_reads_it(run: Run) -> None:
    body = request(rows=1 << 15)

    async def test(bench: Bench) -> None:
        await bench.learn(request(rows=2))
        for _ in range(3):
            bench.pair.send(bench.number, body)
            for front in bench.pair.fronts:  # what the thread has read is not seen before the next turn of the loop
                assert front.engine.admission.admitted_bytes > len(body) - 200
            while not bench.ids():
                await bench.pair.compare()
            await bench.answer_all()

    run(test, arena=1 << 24)


def test_a_large_body_counts_while_its_model_is_loaded(run: Run) -> None:
    async def test(bench: Bench) -> None:
        never_loaded = ModelStatus("m", "1", "UNLOADED", admits=True)
        await bench.pair.apply((never_loaded, []))
        bench.pair.send(bench.number, post("/v1/models/m:predict", json.dumps({"instances": [[1.5, 2.5]] * 8192})))
        await bench.pair.compare()
        for front in bench.pair.fronts:
            assert front.engine.admission.admitted_bytes >= 1 << 16
        await bench.pair.apply((STATUS, [bench.address]))
        await bench.answer_all()
        assert b"200 OK" in bench.answers()

    run(test, arena=1 << 24)


def test_an_answer_with_many_outputs(run: Run) -> None:
    signature = Signature(_SIGNATURE.inputs, tuple(TensorSpec(f"y{number}", "FP32", (1,)) for number in range(40)))

    async def test(bench: Bench) -> None:
        await bench.learn()
        bench.answers()
        await bench.ask()
        await bench.answer(*bench.ids(), outputs=[Tensor(f"y{number}", "FP32", (1,), bytes(4)) for number in range(40)])
        assert b'"y39"' in bench.answers()

    run(test, status=replace(STATUS, signatures={"": signature}))


def test_a_worker_that_answers_before_it_is_asked_harms_no_other_request(run: Run) -> None:
    async def test(bench: Bench) -> None:
        numbers = [bench.number, bench.pair.connect(), bench.pair.connect()]
        for number in numbers:
            await bench.learn(number=number)
        for number in numbers:
            bench.pair.send(number, request())
        guessed = [number for _, numbers, _ in bench.pair.plain.state()["in flight"] for number in numbers]
        frame = result_frame([(guessed[1], 1, [Tensor("y", "FP32", (1, 2), bytes(8))])])
        for front in bench.pair.fronts:
            front.workers[1].client.data_received(frame)
        await bench.pair.compare()
        assert bench.ids() == [guessed[0], guessed[2]]
        await bench.answer_all()

    run(test)


def test_the_grace_period_ends_while_requests_run_and_wait(run: Run) -> None:
    async def test(bench: Bench) -> None:
        other = bench.pair.connect()
        for number in (bench.number, other):
            await bench.learn(number=number)
        await bench.ask()
        await bench.ask(number=other)  # it waits
        assert bench.pair.plain.state()["queued"]["m", "1"][0]
        bench.answers()
        for front in bench.pair.fronts:
            await front.engine.drain(0)
            assert front.engine.drained.is_set()
        await bench.pair.compare()
        assert b" 503 " in bench.answers()
        bench.pair.send(other, request())
        await bench.pair.compare()
        assert bench.answers(other).count(b" 503 ") == 2

    run(test, window=1)


@pytest.mark.parametrize(
    ("version", "more"),
    [
        ("1.0", "connection: keep-alive\r\n"),
        ("1.0", ""),
        ("1.1", "connection: close\r\n"),
        ("1.1", "expect: 100-continue\r\n"),
    ],
)
def test_a_request_with_other_rules_arrives_while_one_runs(run: Run, version: str, more: str) -> None:
    async def test(bench: Bench) -> None:
        await bench.learn()
        await bench.ask()
        behind = http(document(2.0), more=more).replace(b"HTTP/1.1", f"HTTP/{version}".encode())
        bench.pair.send(bench.number, behind[:-9])
        await bench.pair.compare()
        bench.pair.send(bench.number, behind[-9:])
        await bench.pair.compare()
        for _ in range(2):
            await bench.answer_all()
        if bench.number in bench.pair.plain.clients:
            bench.pair.send(bench.number, request())
            await bench.pair.compare()
            await bench.answer_all()

    run(test)


_PLAIN, _TFSERVING = "/predict/m", "/v1/models/m:predict"


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        (_PLAIN, '{"inputs":{"x":[[1,2.5]]}}', b'{"model":"m","version":"1","outputs":{"y":[[1.0,2.5]]}}'),
        (_PLAIN, '{"inputs":[[1,2.5]]}', b'{"model":"m","version":"1","outputs":{"y":[[1.0,2.5]]}}'),
        (_PLAIN, '{"instances":[[1,2],[3,4]],"outputs":["y"]}', b'"outputs":{"y":[[1.0,2.0],[3.0,4.0]]}}'),
        (_PLAIN, '{"parameters":{"priority":1},"inputs": [ [1,\t2] ] }', b'"outputs":{"y":[[1.0,2.0]]}}'),
        (_PLAIN + "/versions/1", '{"inputs":[[1,2]]}', b'"outputs":{"y":[[1.0,2.0]]}}'),
        (_TFSERVING, '{"instances":[[1,2],[3,4]]}', b'{"predictions":[[1.0,2.0],[3.0,4.0]]}'),
        (_TFSERVING, '{"inputs":[[1,2]],"other":0}', b'{"outputs":[[1.0,2.0]]}'),
        (_TFSERVING, '{"inputs":{"x":[[1,2]]},"signature_name":"serving_default"}', b'{"outputs":[[1.0,2.0]]}'),
    ],
)
def test_a_request_with_nested_lists_is_taken_and_answered(run: Run, path: str, body: str, answer: bytes) -> None:
    data = post(path, body)

    async def test(bench: Bench) -> None:
        await bench.learn(data)
        bench.answers()
        await bench.ask(data)
        await bench.answer_all()
        assert bench.answers().endswith(answer)
        # Other values have the same form, another number of rows has not.
        await bench.ask(post(path, body.replace("2", "-7")))
        await bench.answer_all()
        taken = bench.taken
        bench.pair.send(bench.number, post(path, body.replace("1,", "5,6],[1,", 1)))
        await bench.pair.compare()
        assert bench.taken == taken
        await bench.answer_all()

    run(test)


@pytest.mark.parametrize("path", [_PLAIN, _TFSERVING])
@pytest.mark.parametrize("datatype", [each for each in DATATYPES if each != "BYTES"])
def test_odd_values_within_nested_lists(run: Run, path: str, datatype: str) -> None:
    spec = TensorSpec("x", datatype, (-1, 2))
    status = replace(STATUS, signatures={"": Signature((spec,), (spec._replace(name="y"),))}, max_batch_size=0)
    is_number = datatype != "BOOL" and DATATYPES[datatype].typestr is not None

    async def test(bench: Bench) -> None:
        if is_number:
            await bench.learn(post(path, '{"instances":[[0,1],[1,0]]}'))
        for value in (*_VALUES, "[]", "1],[2", "[1,2]", "1,2],[3,4],[5", "1]]", "]", "1],1,[1", "1", "0"):
            bench.pair.send(bench.number, post(path, f'{{"instances":[[0,1],[1,{value}]]}}'))
            await bench.pair.compare()
            await bench.answer_all()
            if bench.number not in bench.pair.plain.clients:
                bench.number = bench.pair.connect()
        assert bench.taken > 4 or not is_number

    run(test, status=status)


def test_nested_lists_that_are_ragged(run: Run) -> None:
    spec = TensorSpec("x", "FP32", (-1, -1, 2))
    status = replace(STATUS, signatures={"": Signature((spec,), (spec._replace(name="y"),))}, max_batch_size=0)
    blocks = (
        "[[1,2],[3,4]]",
        "[[1,2]]",
        "[[1,2],[3,4],[5,6]]",
        "[[1,2],[3]]",
        "[[1,2],3]",
        "[1,2]",
        "[]",
        "[[],[]]",
        "1",
    )

    async def test(bench: Bench) -> None:
        await bench.learn(post(_PLAIN, f'{{"inputs":[{blocks[0]},{blocks[0]}]}}'))
        for text in [f"[{first},{second}]" for first in blocks for second in blocks]:
            bench.pair.send(bench.number, post(_PLAIN, f'{{"inputs":{text}}}'))
            await bench.pair.compare()
            await bench.answer_all()

    run(test, status=status)


_ALMOST = (
    '{"inputs":{"x":[[1,2]],"x":[[3,4]]}}', '{"inputs":[[1,2]],"inputs":[[3,4]]}',
    '{"inputs":[[1,2]],"instances":[[3,4]]}', '{"inputs":{"x":[[1,2]]},"outputs":["[1]"]}',
    '{"inputs":{"x":[[1,2]]},"outputs":[1]}', '{"x":[[1,2]],"inputs":0}', '{"inputs":{"x":[[1,2]],"y":[1]}}',
    '{"inputs":{"x":[[1,2]],"y":1}}', '{"inputs":{"x":[[1,2]]},"a[1]":0}',
    '{"inputs":{"x":[[1,2]]},"parameters":{"a":[1]}}', '{"inputs":{"x":[[1,2]]},"parameters":{"timeout":9000000}}',
    '{"inputs":{"x":[[1,2]]},"signature":""}', '{"inputs":{"x":[[1,2]]},"signature_name":"no"}',
    '{"inputs":{"b64":[[1,2]]}}', '{"inputs":{"x":[[1,2]]},"version":"1"}', '{"inputs":{"x":[[1,2]]},"version":1}',
    '{"inputs":{"x":[[1,2]]},"model":"m"}', '{"inputs":{"x":[[1,2]]},"model":"n"}',
    '{"inputs":{"x":[[1,2]]},"model":null}', '{"inputs":null,"instances":[[1,2]]}', '{"instances":[{"x":[1,2]}]}',
    '{"instances":[{"x":[1,2]},{"x":[3,4]}]}', '{"instances":[]}', '{"instances":[[]]}',
    '{"inputs":{"x":[[1,2],[3,4]]}}', '{"inputs":{"x":[[1,2],[3]]}}', '{"inputs":{"x":[[1,2],[3],[4]]}}',
    '{"inputs":{"x":[[[1,2]]]}}', '{"inputs":{"x":[1,2]}}', '{"inputs":{"x":[[1,2],3]}}',
    '{"inputs":{"x":[3,[1,2]]}}', '{"inputs":{"x":[[1,2]]}', '{"inputs":{"x":[[1,2]]]}}', '{"inputs":{"x":[[1,2]]}}}',
    '{"inputs":{"x":[[1,2],]}}', '{"inputs":{"x":[[1 2]]}}', '{"inputs":{"x":[[1,2]][3]}}', '{"inputs":{"x":1[2]}}',
    '{"inputs":{"x":[[+1,2]]}}', '{"inputs":{"x":[[1,NaN]]}}', '{"inputs":{"x":[[1,2]]},"parameters":NaN}',
    '\ufeff{"inputs":{"x":[[1,2]]}}', '{"inputs":{"x":[[1,2]]},"parameters":{"priority":2}}',
    '{"inputs":{"x":' + "[" * 40 + "1" + "]" * 40 + "}}", '{"inputs":{"x":[[1,true]]}}', '{"inputs":{"x":[["1",2]]}}',
    '[[1,2]]', '{"inputs":{"x":' + "[" * 9000 + "}}", '{"inputs":{"x":[' + ",".join(["[1,2]"] * 4096) + "]}}",
)  # fmt: skip


@pytest.mark.parametrize("path", [_PLAIN, _TFSERVING])
def test_documents_that_are_almost_those_of_a_nested_form(run: Run, path: str) -> None:
    async def test(bench: Bench) -> None:
        usual = post(path, '{"inputs":{"x":[[1,2]]}}')
        await bench.learn(usual)
        for text in _ALMOST:
            for _ in range(3):
                if bench.number not in bench.pair.plain.clients:
                    bench.number = bench.pair.connect()
                bench.pair.send(bench.number, post(path, text))
                await bench.pair.compare()
                await bench.answer_all()
        await bench.ask(usual)
        await bench.answer_all()

    run(test)


@pytest.mark.parametrize(
    "more",
    [
        "accept: application/x-npy\r\n",
        "accept: application/json\r\n",
        "content-type: application/x-npy\r\n",
        "content-type: text/plain\r\n",
        "content-type: image/png\r\n",
        "accept-encoding: gzip\r\n",
        "inference-header-content-length: 3\r\n",
    ],
)
@pytest.mark.parametrize("path", [_PLAIN, _TFSERVING])
def test_heads_of_requests_with_nested_lists(run: Run, path: str, more: str) -> None:
    async def test(bench: Bench) -> None:
        body = '{"inputs":{"x":[[1,2]]}}'
        await bench.learn(post(path, body))
        for _ in range(4):
            if bench.number not in bench.pair.plain.clients:
                bench.number = bench.pair.connect()
            bench.pair.send(bench.number, post(path, body, more))
            await bench.pair.compare()
            await bench.answer_all()

    run(test)


_OUTPUTS = (
    [Tensor("y", "FP32", (1, 2), np.array([np.nan, -np.inf], np.float32).tobytes())],
    [Tensor("y", "FP32", (), bytes(4))],
    [Tensor("y", "FP32", (2,), bytes(8))],
    [Tensor("y", "FP32", (3, 0), b"")],
    [Tensor("y", "FP32", (2, 1, 3), bytes(24))],
    [Tensor("y", "INT64", (1, 2, 2, 1), np.arange(4).tobytes())],
    [Tensor("y", "BOOL", (1, 2), b"\1\0")],
    [Tensor("y", "FP16", (1, 2), np.array([0.1, 65504], np.float16).tobytes())],
    [Tensor("y", "BYTES", (1, 2), pack_bytes([b"a", b"\xff"]))],
    [Tensor("y", "FP32", (2, 2), bytes(16)), Tensor("z", "UINT8", (2,), b"ab")],
    [Tensor("y", "FP32", (2, 2), bytes(16)), Tensor("y", "FP32", (2, 2), bytes(16))],
    [Tensor("y", "FP32", (9, 2), bytes(72))],
    [Tensor("y", "FP32", (1,) * 8, bytes(4))],
)


@pytest.mark.parametrize(
    ("path", "body"),
    [(_PLAIN, '{"inputs":[[1,2],[3,4]]}'), (_TFSERVING, '{"inputs":[[1,2]]}'), (_TFSERVING, '{"instances":[[1,2]]}'),
     (_TFSERVING, '{"instances":[[1,2],[3,4]]}')],
)  # fmt: skip
def test_answers_as_nested_lists(run: Run, path: str, body: str) -> None:
    data = post(path, body)

    async def test(bench: Bench) -> None:
        await bench.learn(data)
        for outputs in _OUTPUTS:
            for _ in range(2):
                await bench.ask(data)
                await bench.answer(*bench.ids(), outputs=outputs)

    run(test, body_limits=Limits(response_bytes=64))


def test_answers_of_one_frame_to_several_dialects(run: Run) -> None:
    """What was written for one member must not be what another dialect gets."""

    async def test(bench: Bench) -> None:
        requests = [post(_PLAIN, '{"inputs":[[1,2]]}'), request(), post(_TFSERVING, '{"instances":[[3,4]]}')]
        numbers = [bench.pair.connect() for _ in range(4)]
        for number, data in zip(numbers, [*requests, requests[0]], strict=True):
            await bench.learn(data, number)
        for number in numbers:
            bench.answers(number)
        for number, data in zip(numbers, [*requests, requests[0]], strict=True):
            await bench.ask(data, number)
        await bench.answer_together()
        assert b"[[1.0,2.0]]" in bench.answers(numbers[0])
        assert b"[1.0,1.0]" in bench.answers(numbers[1])
        assert bench.answers(numbers[2]).endswith(b'{"predictions":[[3.0,4.0]]}')

    run(test)


def test_a_nested_form_is_of_one_status_of_the_model(run: Run) -> None:
    """Its datatypes are the model's."""
    data = post(_PLAIN, '{"inputs":{"x":[[1,2]]}}')
    signature = Signature((TensorSpec("x", "INT64", (-1, 2)),), (TensorSpec("y", "INT64", (-1, 2)),))

    async def test(bench: Bench) -> None:
        await bench.learn(data)
        await bench.pair.apply((replace(STATUS, signatures={"": signature}), [bench.address]))
        bench.answers()
        await bench.learn(data)
        assert b"[[1,2]]" in bench.answers()
        await bench.pair.apply((replace(STATUS, batch_dim=1), [bench.address]))
        await bench.learn(data)
        undeclared = Signature((TensorSpec("x", "", None),), (TensorSpec("y", "", None),))
        await bench.pair.apply((replace(STATUS, signatures={"": undeclared}), [bench.address]))
        for value in ("1", "1.5", "1"):
            bench.pair.send(bench.number, post(_PLAIN, f'{{"inputs":{{"x":[[{value},2]]}}}}'))
            await bench.pair.compare()
            await bench.answer_all()

    run(test)


def test_forms_of_one_text_are_of_their_models(run: Run) -> None:
    body = '{"inputs":[[1,2]]}'
    signature = Signature((TensorSpec("x", "INT64", (-1, 2)),), (TensorSpec("y", "INT64", (-1, 2)),))
    other = replace(STATUS, name="other", signatures={"": signature})

    async def test(bench: Bench) -> None:
        await bench.pair.apply((STATUS, [bench.address]), (other, [await bench.pair.worker(1 << 20)]))
        for _ in range(2):
            for path, answer in ((_PLAIN, b"[[1.0,2.0]]"), ("/predict/other", b"[[1,2]]")):
                bench.answers()
                await bench.learn(post(path, body))
                assert answer in bench.answers()

    run(test)
