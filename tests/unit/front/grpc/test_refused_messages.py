"""Messages that are refused leave memory at once, not when the garbage collector runs: clients could fill it."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from gateway.errors import Forbidden
from gateway.front.base.access import Check
from gateway.front.grpc.grpcio import _Checks, _server_stream, _unary


class Message(bytes):
    freed = False

    def __del__(self) -> None:
        Message.freed = True


class Aborted(Exception):
    pass


class Context:
    """Keeps the exception that ends the call, as grpc's does."""

    def __init__(self) -> None:
        self.aborted = Aborted()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-request-id", "r-1"),)

    def set_trailing_metadata(self, metadata: object) -> None:
        self.metadata = metadata

    def trailing_metadata(self) -> object:
        return self.metadata

    def time_remaining(self) -> None:
        return None

    async def abort(self, *status: object) -> None:
        raise self.aborted


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    Message.freed = False
    gc.disable()
    yield
    gc.enable()


async def method(raw: bytes, seconds: float | None, check: Check | None) -> bytes:
    raise Forbidden("no")


async def stream(raw: bytes, check: Check | None) -> AsyncGenerator[bytes, None]:
    if raw:
        raise Forbidden("no")
    yield b""


async def _call(context: Any) -> None:
    with suppress(Aborted):
        await _unary("/s/m", method, _Checks(None, None)).unary_unary(Message(b"x"), context)


async def _call_stream(context: Any) -> None:
    with suppress(Aborted):
        async for _ in _server_stream("/s/m", stream, _Checks(None, None)).unary_stream(Message(b"x"), context):
            pass


@pytest.mark.parametrize("call", [_call, _call_stream])
def test_a_refused_message_is_freed(call: Any) -> None:
    context = Context()
    asyncio.run(call(context))
    assert context.aborted.__traceback__ is not None
    assert Message.freed
