"""grpc.health.v1 based on engine.ready, which is read for each Check, and every period for each Watch.

Its messages have one field each, so that a front answers probes without importing protobuf's classes for them.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable

from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest, NotFound
from gateway.front.base.access import Check
from gateway.front.base.grpc_method import Service

NAME = "grpc.health.v1.Health"
# HealthCheckResponse with each status.
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
# The key of `service` in HealthCheckRequest, whose length has one byte if it is below 128.
_SERVICE = 0x0A
_ONE_BYTE = 0x80


def health_service(engine: Engine, services: Iterable[str], period_s: float) -> Service:
    """`services` are those whose health clients may ask for, besides "", the server's."""
    health = _Health(engine, services, period_s)
    return Service(NAME, {"Check": health.check}, server_streams={"Watch": health.watch})


class _Health:
    def __init__(self, engine: Engine, services: Iterable[str], period_s: float) -> None:
        self._engine = engine
        self._services = frozenset(("", *services))
        self._period_s = period_s

    async def check(self, raw: bytes, seconds: float | None, check: Check | None = None) -> bytes:
        service = _asked(raw, check)
        if service not in self._services:
            raise NotFound(f"there is no service '{service}'; the name of the whole server is empty")
        return self._status(service)

    async def watch(self, raw: bytes, check: Check | None = None) -> AsyncGenerator[bytes, None]:
        """Yield each change until the server has drained; the last status is NOT_SERVING.

        It must end when the server has drained, because the server waits for all calls.
        """
        service = _asked(raw, check)
        sent = b""
        while True:
            drained = self._engine.drained.is_set()
            if check is not None:
                check("health", "")  # the credentials may have been withdrawn
            status = self._status(service)
            if status != sent:
                yield status
                sent = status
            if drained:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._engine.drained.wait(), self._period_s)

    def _status(self, service: str) -> bytes:
        if service not in self._services:
            return _SERVICE_UNKNOWN
        return _SERVING if self._engine.ready else _NOT_SERVING


def _asked(raw: bytes, check: Check | None) -> str:
    """Return the name of the service that a HealthCheckRequest asks for. Raises ModelportError."""
    if check is not None:
        check("health", "")
    try:
        if not raw:
            return ""
        if raw[0] == _SERVICE and len(raw) > 1 and raw[1] == len(raw) - 2 < _ONE_BYTE:
            return raw[2:].decode()
    except UnicodeDecodeError:
        raise InvalidRequest("the message is not a valid grpc.health.v1.HealthCheckRequest") from None
    return _parse(raw)


def _parse(raw: bytes) -> str:
    """Like `_asked`, for long names and fields that clients added."""
    from google.protobuf.message import DecodeError
    from grpc_health.v1 import health_pb2

    try:
        service: str = health_pb2.HealthCheckRequest.FromString(raw).service
        return service
    except DecodeError:
        raise InvalidRequest("the message is not a valid grpc.health.v1.HealthCheckRequest") from None
