"""A gRPC server for an engine: the dialects' services, health and reflection.

Either of two libraries serves them, with the same handlers: see docs/decisions/0009-grpc-native.md.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
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
from gateway.front.grpc.errors import to_status
from gateway.process.address import GrpcServer

try:
    from gateway.front.grpc.native import NativeServer, Submit
except ImportError:  # there is no wheel for this platform
    NativeServer = None  # type: ignore[assignment,misc]

log = logging.getLogger("front")

# What pygrpc-native returns as the remaining time of a call without a deadline; grpcio returns None.
_NO_DEADLINE = float(sys.maxsize)

_HealthStatus = health_pb2.HealthCheckResponse

# By default, grpc cancels some calls at random, without a message, when 1000 of them wait for Python. This limit is out
# of reach, so the admission limit decides instead, with RESOURCE_EXHAUSTED and a message.
_MAX_PENDING = 1 << 20
_PENDING_OPTIONS = [
    ("grpc.server.max_pending_requests", _MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
]

# grpcio has no type annotations.
_Context: TypeAlias = Any


def build_server(
    engine: Engine,
    limits: Limits,
    kind: GrpcServer = "native",
    options: Sequence[tuple[str, Any]] = (),
    health_period_s: float = 1.0,
    access: Access | None = None,
) -> grpc.aio.Server:
    """Return a server that has no ports and is not started. Must be called inside the running event loop.

    If pygrpc-native is not installed, "native" is replaced by grpcio. `options` are further grpc.* channel arguments,
    such as ("grpc.so_reuseport", 1). Clients that watch health are notified of a change within `health_period_s`.
    """
    sizes = [
        ("grpc.max_receive_message_length", limits.binary_bytes),
        # check_answer enforces the limit, with a message that says what to do, but counts only tensors. The rest is for
        # names and shapes.
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
        server = grpc.aio.server(options=[*sizes, *_PENDING_OPTIONS, *options])
    for service in services:
        # As registered methods: the native server does not serve generic handlers.
        handlers = {name: _unary(name, method, access) for name, method in service.methods.items()}
        for name, stream in service.streams.items():
            handlers[name] = _streaming(stream, access)
        server.add_registered_method_handlers(service.name, handlers)
    health_pb2_grpc.add_HealthServicer_to_server(EngineHealth(engine, names, health_period_s, access), server)
    reflected = Reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), access)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, server)
    return server


def _seconds_left(context: _Context) -> float | None:
    seconds: float | None = context.time_remaining()
    return None if seconds == _NO_DEADLINE else seconds


def _check(access: Access | None, context: _Context) -> Check | None:
    return None if access is None else check_of(access, context.peer(), context.invocation_metadata() or ())


async def _authorize(access: Access | None, action: Action, context: _Context) -> None:
    """Abort the call if the caller lacks permission. For services that do not belong to a dialect."""
    try:
        if (check := _check(access, context)) is not None:
            check(action, "")
        return
    except Exception as error:
        status = to_status(error)
    await context.abort(*status)


def _unary(name: str, method: Method, access: Access | None) -> Any:
    """Return grpc's handler. It has no deserializer: for invalid protobuf, grpc would answer INTERNAL."""

    async def call(raw: bytes, context: _Context) -> bytes:
        try:
            return await method(raw, _seconds_left(context), _check(access, context))
        except Exception as error:
            status = to_status(error)
        await context.abort(*status)
        raise AssertionError("abort does not return")

    call.__name__ = name
    return grpc.unary_unary_rpc_method_handler(call)


def _streaming(stream: StreamMethod, access: Access | None) -> Any:
    """Return grpc's handler."""

    async def call(requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
        async with aclosing(stream(requests, partial(_seconds_left, context), _check(access, context))) as answers:
            async for answer in answers:
                yield answer

    return grpc.stream_stream_rpc_method_handler(call)


class Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """The library's reflection service with an access check."""

    def __init__(self, services: Iterable[str], access: Access | None) -> None:
        super().__init__(services)
        self._access = access

    async def ServerReflectionInfo(self, requests: Any, context: _Context) -> AsyncIterator[Any]:
        await _authorize(self._access, "read", context)
        async for answer in super().ServerReflectionInfo(requests, context):
            yield answer


class EngineHealth(health.aio.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1 based on engine.ready, which is read for each Check, and every period for each Watch."""

    def __init__(self, engine: Engine, services: Iterable[str], period_s: float, access: Access | None = None) -> None:
        super().__init__()
        self._engine = engine
        self._services = ("", *services)
        self._period_s = period_s
        self._access = access

    async def Check(self, request: Any, context: _Context) -> Any:
        await _authorize(self._access, "health", context)
        await self._refresh()
        return await super().Check(request, context)

    async def Watch(self, request: Any, context: _Context) -> None:
        """Send each change until the client cancels or the server has drained; the last status is NOT_SERVING.

        It must end when the server has drained, because the server waits for all calls.
        """
        await _authorize(self._access, "health", context)
        sent = None
        while True:
            drained = self._engine.drained.is_set()
            status = self._status() if request.service in self._services else _HealthStatus.SERVICE_UNKNOWN
            if status != sent:
                await context.write(_HealthStatus(status=status))
                sent = status
            if drained:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._engine.drained.wait(), self._period_s)

    def _status(self) -> Any:
        return _HealthStatus.SERVING if self._engine.ready else _HealthStatus.NOT_SERVING

    async def _refresh(self) -> None:
        status = self._status()
        for service in self._services:
            await self.set(service, status)
