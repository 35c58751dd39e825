"""Parameters of gRPC requests mean the same on the compiled fast path as in the Python code."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import uvloop

from gateway.domain.types import InferRequest
from gateway.engine.admitted_requests import MAX_WAIT_S
from gateway.engine.engine import FrontEngine
from gateway.errors import ModelportError
from gateway.front.base.limits import Limits
from gateway.front.dialects.v2.grpc_request import RequestReader
from gateway.generated import open_inference_pb2 as pb
from tests.support.front_pair import compiled, pair
from tests.unit.front.test_compiled_requests import STATUS

_STATUS = replace(STATUS, priority_levels=5, default_priority_level=4)
_INPUTS = pb.ModelInferRequest(
    inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 2]}], raw_input_contents=[bytes(8)]
)
# Sends a request with these bytes as its parameters, this time until its deadline, and these inputs and outputs.
# Returns whether the fast path took it.
Send = Callable[..., Awaitable[bool]]
Run = Callable[[Callable[[Send], Awaitable[None]]], None]


def _fields(**parameters: pb.InferParameter) -> bytes:
    return pb.ModelInferRequest(parameters=parameters).SerializeToString(deterministic=True)


def _entry(entry: bytes) -> bytes:
    return b"\x22" + bytes([len(entry)]) + entry


def _named(name: bytes, value: bytes) -> bytes:
    return _entry(b"\x0a" + bytes([len(name)]) + name + b"\x12" + bytes([len(value)]) + value)


def _submit(
    engine: FrontEngine, text: bytes, seconds: float | None, reader: RequestReader | None = None
) -> InferRequest | ModelportError:
    """Do what the Python code does with a message. Return the request, or why it was refused."""
    try:
        request, _ = (reader or RequestReader(engine)).read(text, seconds)
        engine.submit(request, lambda answer: None)
    except ModelportError as error:
        return error
    return request


@pytest.fixture
def run(tmp_path: Path) -> Run:
    module = compiled()

    async def main(test: Callable[[Send], Awaitable[None]]) -> None:
        async with pair(module, tmp_path) as both:
            await both.apply((_STATUS, [await both.worker(1 << 20)]))
            quick, plain = both.fast.engine, both.plain.engine
            reader, calls_in_progress = RequestReader(quick), dict[int, Any]()
            calls = module.FastPath(quick, Limits()).calls(
                reader, None, calls_in_progress, [], lambda: None, lambda *outcome: None, 1 << 20, {}
            )

            async def send(parameters: bytes, seconds: float | None, rest: pb.ModelInferRequest = _INPUTS) -> bool:
                head = pb.ModelInferRequest(model_name="m", id="7").SerializeToString()
                text = head + parameters + rest.SerializeToString()
                call = len(calls_in_progress)
                before = time.monotonic()
                taken: bool = calls.take(call, text, seconds, None)
                expected = _submit(plain, text, seconds)
                if not taken:
                    assert type(_submit(quick, text, seconds, reader)) is type(expected)
                    return False
                assert isinstance(expected, InferRequest)
                deadline = before + min(60 if expected.deadline is None else expected.deadline - before, MAX_WAIT_S)
                assert abs(calls_in_progress[call].deadline - deadline) < 5
                assert not expected.sequence
                assert not expected.signature
                await both.compare()  # also of what a worker is asked, with the priority
                return True

            await send(b"", None)  # the Python code checks the first request for a model
            await test(send)

    return lambda test: uvloop.run(main(test))


@pytest.mark.parametrize(
    "parameters",
    [
        b"",
        _fields(priority=pb.InferParameter(int64_param=2)),
        _fields(priority=pb.InferParameter(uint64_param=1 << 62)),
        _fields(priority=pb.InferParameter(int64_param=0)),
        _fields(timeout=pb.InferParameter(int64_param=400_000_000)),
        _fields(timeout=pb.InferParameter(uint64_param=0)),
        _fields(timeout=pb.InferParameter(uint64_param=(1 << 63) - 1)),
        _fields(user=pb.InferParameter(string_param="user-17")),
        _fields(user=pb.InferParameter(string_param="")),
        _fields(user=pb.InferParameter(double_param=-1.5)),
        _fields(a=pb.InferParameter(bool_param=True), b=pb.InferParameter(uint64_param=9)),
        _fields(
            priority=pb.InferParameter(int64_param=3),
            timeout=pb.InferParameter(int64_param=20_000_000),
            user=pb.InferParameter(string_param="x"),
        ),
        # The last of a name counts.
        _fields(priority=pb.InferParameter(int64_param=3)) + _fields(priority=pb.InferParameter(int64_param=5)),
        # More bytes than the number needs.
        _named(b"priority", b"\x10\x83\x80\x00"),
    ],
)
@pytest.mark.parametrize("seconds", [None, 30.0, 900.0])
def test_usual_parameters_are_taken(run: Run, parameters: bytes, seconds: float | None) -> None:
    async def test(send: Send) -> None:
        assert await send(parameters, seconds)

    run(test)


@pytest.mark.parametrize(
    "parameters",
    [
        _fields(priority=pb.InferParameter(int64_param=-1)),
        _fields(priority=pb.InferParameter(uint64_param=1 << 63)),
        _fields(priority=pb.InferParameter(string_param="2")),
        _fields(priority=pb.InferParameter(bool_param=True)),
        _fields(priority=pb.InferParameter(double_param=1)),
        _fields(priority=pb.InferParameter()),
        _fields(timeout=pb.InferParameter(int64_param=-1)),
        _fields(timeout=pb.InferParameter(uint64_param=1 << 63)),
        _fields(timeout=pb.InferParameter(string_param="1")),
        _fields(signature=pb.InferParameter(string_param="")),
        _fields(sequence_id=pb.InferParameter(int64_param=0)),
        _fields(sequence_id=pb.InferParameter(string_param="s"), sequence_start=pb.InferParameter(bool_param=True)),
        _fields(triton_own=pb.InferParameter(bool_param=True)),
        _fields(user=pb.InferParameter(string_param="José")),
        _fields(user=pb.InferParameter(string_param="x" * 2000)),
        _named(b"user", b"\x1a\x02\xff\xff"),
        _named(b"\xff", b"\x08\x01"),
        _named(b"user", b"\x08\x02"),
        _named(b"user", b"\x08\x01\x08\x00"),
        _named(b"priority", b"\x10" + b"\x80" * 9 + b"\x01"),
        _named(b"priority", b"\x10\x80"),
        _named(b"priority", b"\x10\x01\x00"),
        _named(b"priority", b"\x10"),
        _named(b"priority", b"\x50\x01"),
        _entry(b"\x12\x02\x10\x02\x0a\x08priority"),
        _entry(b"\x0a\x08priority\x12\x02\x10\x02\x12\x02\x10\x03"),
        _entry(b"\x0a\x08priority"),
        _entry(b"\x12\x02\x10\x02"),
        _entry(b""),
        b"\x22",
        b"\x22\x7f",
    ],
)
def test_unusual_parameters_are_left_to_the_python_code(run: Run, parameters: bytes) -> None:
    async def test(send: Send) -> None:
        assert not await send(parameters, None)

    run(test)


def test_parameters_with_changed_bytes(run: Run) -> None:
    random = Random(16)
    usual = _fields(
        priority=pb.InferParameter(int64_param=3),
        timeout=pb.InferParameter(uint64_param=20_000_000),
        user=pb.InferParameter(string_param="user"),
        weight=pb.InferParameter(double_param=0.5),
        last=pb.InferParameter(bool_param=True),
    )

    async def test(send: Send) -> None:
        taken = 0
        for _ in range(1000):
            changed = bytearray(usual)
            for _ in range(random.randint(1, 2)):
                changed[random.randrange(len(changed))] = random.choice(
                    (0, 1, 2, 8, 10, 16, 18, 34, 128, 255, random.randrange(256))
                )
            taken += await send(bytes(changed), None)
        assert 100 < taken < 900

    run(test)


def test_a_message_with_outputs_and_without_inputs_is_left_to_the_python_code(run: Run) -> None:
    async def test(send: Send) -> None:
        assert not await send(b"", None, pb.ModelInferRequest(outputs=[{"name": "y"}]))

    run(test)
