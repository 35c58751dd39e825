"""A gRPC server for an engine: the inference service, health and reflection.

Two libraries can serve them, with the same handlers: see docs/decisions/0009-grpc-native.md.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from gateway.engine.protocol import Engine
from gateway.front.base.access import Access, Action, Check, check_of
from gateway.front.base.grpc_method import InferCall, Method, StreamMethod
from gateway.front.base.limits import Limits
from gateway.front.dialects.registry import DIALECTS
from gateway.front.grpc.errors import refused
from gateway.process.address import GrpcServer

try:
    from gateway.front.grpc.native import NativeServer, Submit
except ImportError:  # there are no wheels for this machine
    NativeServer = None  # type: ignore[assignment,misc]

log = logging.getLogger("front")

# What pygrpc-native calls the time that a call without deadline has left; grpcio says None.
_NO_DEADLINE = float(sys.maxsize)

_Response = health_pb2.HealthCheckResponse

# grpc drops calls beyond 1000 that Python has not taken yet, in part at random, as CANCELLED without a word.
# Here the admission limit decides, and answers RESOURCE_EXHAUSTED with a sentence.
_PENDING = 1 << 20
_QUEUE = [("grpc.server.max_pending_requests", _PENDING), ("grpc.server.max_pending_requests_hard_limit", _PENDING)]

# grpcio has no types.
_Context: TypeAlias = Any


def build_server(
    engine: Engine,
    limits: Limits,
    kind: GrpcServer = "native",
    options: Sequence[tuple[str, Any]] = (),
    health_period_s: float = 1.0,
    access: Access | None = None,
) -> grpc.aio.Server:
    """A server without ports, not started; to be called inside the running event loop.

    Where "native" is not installed, it is grpcio's. `options` are further grpc.* channel arguments
    (("grpc.so_reuseport", 1), say). A client that watches health is told of a change within
    `health_period_s`.
    """
    sizes = [
        ("grpc.max_receive_message_length", limits.binary_bytes),
        # The limit is on tensors, which check_answer tells in words; names and shapes come on top.
        ("grpc.max_send_message_length", limits.response_bytes + (1 << 20)),
    ]
    services = [service for dialect in DIALECTS for service in dialect.services(engine, limits)]
    names = [service.name for service in services]
    if kind == "native" and NativeServer is None:
        log.warning("pygrpc-native is not installed; gRPC is served by grpcio, at several times the cost of a call")
        kind = "grpcio"
    if kind == "native":
        hot: dict[str, Submit | None] = {
            f"/{service.name}/{name}": method.submit if isinstance(method, InferCall) else None
            for service in services
            for name, method in service.methods.items()
        }
        server = NativeServer(hot, [*sizes, *options], access)
    else:
        server = grpc.aio.server(options=[*sizes, *_QUEUE, *options])
    for service in services:
        # By method: handlers that are added only generically are none of the native server's.
        handlers = {name: _handler(name, method, access) for name, method in service.methods.items()}
        for name, stream in service.streams.items():
            handlers[name] = grpc.stream_stream_rpc_method_handler(_streaming(stream, access))
        server.add_registered_method_handlers(service.name, handlers)
    health_pb2_grpc.add_HealthServicer_to_server(EngineHealth(engine, names, health_period_s, access), server)
    described = Reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), access)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(described, server)
    return server


def _handler(name: str, method: Method, access: Access | None) -> Any:
    # No deserializer: grpc would answer what is not protobuf with INTERNAL and words of its own.
    return grpc.unary_unary_rpc_method_handler(_answering(name, method, access))


def _left(context: _Context) -> float | None:
    left: float | None = context.time_remaining()
    return None if left == _NO_DEADLINE else left


def _check(access: Access | None, context: _Context) -> Check | None:
    return None if access is None else check_of(access, context.peer(), context.invocation_metadata() or ())


async def _enter(access: Access | None, action: Action, context: _Context) -> None:
    """Of the services that are not a dialect's: ends the call of who may not make it."""
    try:
        if (check := _check(access, context)) is not None:
            check(action, "")
        return
    except Exception as error:
        refusal = refused(error)
    await context.abort(*refusal)


def _answering(name: str, method: Method, access: Access | None) -> Callable[[bytes, _Context], Awaitable[bytes]]:
    async def call(raw: bytes, context: _Context) -> bytes:
        try:
            return await method(raw, _left(context), _check(access, context))
        except Exception as error:
            refusal = refused(error)
        await context.abort(*refusal)
        raise AssertionError("abort returns never")

    call.__name__ = name
    return call


def _streaming(
    stream: StreamMethod, access: Access | None
) -> Callable[[AsyncIterator[bytes], _Context], AsyncIterator[bytes]]:
    async def call(requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
        async with aclosing(stream(requests, partial(_left, context), _check(access, context))) as answers:
            async for answer in answers:
                yield answer

    return call


class Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """The library's, behind the door."""

    def __init__(self, services: Iterable[str], access: Access | None) -> None:
        super().__init__(services)
        self._access = access

    async def ServerReflectionInfo(self, requests: Any, context: _Context) -> AsyncIterator[Any]:
        await _enter(self._access, "read", context)
        async for answer in super().ServerReflectionInfo(requests, context):
            yield answer


class EngineHealth(health.aio.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1, following engine.ready: looked at for each Check, and each period while somebody watches."""

    def __init__(self, engine: Engine, services: Iterable[str], period_s: float, access: Access | None = None) -> None:
        super().__init__()
        self._engine = engine
        self._services = ("", *services)
        self._period_s = period_s
        self._access = access

    async def Check(self, request: Any, context: _Context) -> Any:
        await _enter(self._access, "health", context)
        await self._follow()
        return await super().Check(request, context)

    async def Watch(self, request: Any, context: _Context) -> None:
        """Tells each change until the client has enough, or the server has drained: the last word is NOT_SERVING.

        The server must not wait for whoever only watches.
        """
        await _enter(self._access, "health", context)
        told = None
        while True:
            drained = self._engine.drained.is_set()
            status = self._status() if request.service in self._services else _Response.SERVICE_UNKNOWN
            if status != told:
                await context.write(_Response(status=status))
                told = status
            if drained:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._engine.drained.wait(), self._period_s)

    def _status(self) -> Any:
        return _Response.SERVING if self._engine.ready else _Response.NOT_SERVING

    async def _follow(self) -> None:
        status = self._status()
        for service in self._services:
            await self.set(service, status)
