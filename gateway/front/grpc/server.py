"""A gRPC server for an engine: the dialects' services, health and reflection.

Either of two libraries serves them, with the same handlers: see docs/decisions/0009-grpc-native.md.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gateway.domain.request_record import Observer
from gateway.engine.protocol import Engine
from gateway.front.base.access import Access
from gateway.front.base.limits import Limits
from gateway.front.dialects.registry import DIALECTS
from gateway.front.grpc.health import health_service
from gateway.front.grpc.port import GuardedPort
from gateway.process.address import GrpcServer
from gateway.process.tls import ServerTls

try:
    from gateway.front.grpc.native import NativeServer
except ImportError:  # there is no wheel for this platform
    NativeServer = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from gateway.front.fast_path import FastPath

log = logging.getLogger("front")


class Server(Protocol):
    def add_port(self, address: str) -> int:
        """Bind an address, HOST:PORT, and return its port. Called once."""

    async def start(self) -> None: ...

    def go_away(self) -> None:
        """Have clients that are connected send further calls elsewhere, if the library can tell them (GOAWAY).

        Calls that arrive nevertheless are served.
        """

    async def stop(self, grace: float | None) -> None:
        """Reject new calls, and wait up to `grace` seconds until running ones are answered."""

    async def wait_unreachable(self) -> None:
        """Wait until clients can no longer connect, although the server was not stopped."""


def build_server(
    engine: Engine,
    limits: Limits,
    kind: GrpcServer = "native",
    options: Sequence[tuple[str, Any]] = (),
    health_period_s: float = 1.0,
    access: Access | None = None,
    fast_path: "FastPath | None" = None,
    tls: ServerTls | None = None,
    observer: Observer | None = None,
) -> Server:
    """Return a server that has no port and is not started. Must be called inside the running event loop.

    Without `tls`, connections are not encrypted. If pygrpc-native is not installed, grpcio serves instead. `options`
    are further grpc.* channel arguments, such as ("grpc.so_reuseport", 1). Clients that watch health are notified of a
    change within `health_period_s`. `observer` gets the record of each call.
    """
    options = [
        ("grpc.max_receive_message_length", limits.binary_bytes),
        # check_answer enforces the limit, with a message that says what to do, but counts only tensors. The rest is for
        # names and shapes.
        ("grpc.max_send_message_length", limits.response_bytes + (1 << 20)),
        *options,
    ]
    services = [service for dialect in DIALECTS for service in dialect.services(engine, limits)]
    services.append(health_service(engine, [service.name for service in services], health_period_s))
    if kind != "grpcio" and NativeServer is not None:
        port = None
        if tls is not None or kind == "guarded":
            port = GuardedPort(
                limits, lambda: engine.reserve_body("", ""), tls, identify=access is not None or observer is not None
            )
        return NativeServer(services, options, access, fast_path, port, observer)
    if kind != "grpcio":
        log.warning("pygrpc-native is not installed; gRPC is served by grpcio, at several times the cost of a call")
    from gateway.front.grpc.grpcio import GrpcioServer

    return GrpcioServer(services, options, access, tls, observer)
