"""grpcio's server, which also serves reflection. Only this module imports grpcio, which takes 16 MiB."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2  # noqa: F401 - reflection describes health by it
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from gateway.domain.identity import Action
from gateway.front.base.access import Access, Check, check_of
from gateway.front.base.grpc_method import Method, ServerStreamMethod, Service, StreamMethod
from gateway.front.grpc.errors import to_status

# By default, grpc cancels some calls at random, without a message, when 1000 of them wait for Python. This limit is out
# of reach, so the admission limit decides instead, with RESOURCE_EXHAUSTED and a message.
_MAX_PENDING = 1 << 20
_PENDING_OPTIONS = [
    ("grpc.server.max_pending_requests", _MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
]

_REFLECTION = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"

# grpcio has no type annotations.
_Context: TypeAlias = Any


def grpcio_server(
    services: Sequence[Service], options: Sequence[tuple[str, Any]], access: Access | None
) -> "grpc.aio.Server":
    """Return a server of these services and of reflection. Must be called inside the running event loop."""
    server = grpc.aio.server(options=[*_PENDING_OPTIONS, *options])
    for service in services:
        path = f"/{service.name}/"
        handlers = {name: _unary(path + name, method, access) for name, method in service.methods.items()}
        handlers |= {name: _server_stream(path + name, each, access) for name, each in service.server_streams.items()}
        handlers |= {name: _stream(path + name, each, access) for name, each in service.streams.items()}
        server.add_registered_method_handlers(service.name, handlers)
    reflected = Reflection((*[service.name for service in services], reflection.SERVICE_NAME), access)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, server)
    return server


def _check(access: Access | None, context: _Context, path: str) -> Check | None:
    return None if access is None else check_of(access, context.peer(), context.invocation_metadata() or (), path)


async def _abort(context: _Context, error: Exception) -> None:
    code, details, trailing_metadata = to_status(error)
    await context.abort(grpc.StatusCode[code.name], details, trailing_metadata)


def _unary(path: str, method: Method, access: Access | None) -> Any:
    """Return grpc's handler. It has no deserializer: for invalid protobuf, grpc would answer INTERNAL."""

    async def call(raw: bytes, context: _Context) -> bytes:
        try:
            return await method(raw, context.time_remaining(), _check(access, context, path))
        except Exception as error:
            failure = error
        await _abort(context, failure)
        raise AssertionError("abort does not return")

    call.__name__ = path
    return grpc.unary_unary_rpc_method_handler(call)


def _server_stream(path: str, stream: ServerStreamMethod, access: Access | None) -> Any:
    """Return grpc's handler."""

    async def call(raw: bytes, context: _Context) -> AsyncIterator[bytes]:
        try:
            async with aclosing(stream(raw, _check(access, context, path))) as answers:
                async for answer in answers:
                    yield answer
            return
        except Exception as error:
            failure = error
        await _abort(context, failure)

    return grpc.unary_stream_rpc_method_handler(call)


def _stream(path: str, stream: StreamMethod, access: Access | None) -> Any:
    """Return grpc's handler."""

    async def call(requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
        async with aclosing(stream(requests, context.time_remaining, _check(access, context, path))) as answers:
            async for answer in answers:
                yield answer

    return grpc.stream_stream_rpc_method_handler(call)


class Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """The library's reflection service with an access check."""

    def __init__(self, services: Iterable[str], access: Access | None) -> None:
        super().__init__(services)
        self._access = access

    async def ServerReflectionInfo(self, requests: Any, context: _Context) -> AsyncIterator[Any]:
        await self._authorize("read", context)
        async for answer in super().ServerReflectionInfo(requests, context):
            yield answer

    async def _authorize(self, action: Action, context: _Context) -> None:
        """Abort the call if the caller lacks permission."""
        try:
            if (check := _check(self._access, context, _REFLECTION)) is not None:
                check(action, "")
            return
        except Exception as error:
            failure = error
        await _abort(context, failure)
