"""TLS of the gRPC servers: with and without client certificates, and certificates that are renewed."""

import asyncio
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop

from gateway.engine.fake import FakeEngine
from gateway.front.base.limits import Limits
from gateway.front.dialects.v2.grpc import SERVICE
from gateway.front.grpc.server import build_server
from gateway.process.address import GrpcServer
from gateway.process.tls import Pem, ServerTls, TlsFiles
from tests.support.certificates import Authority, Issued
from tests.support.front_server import WAIT_S, answer, models

pytest.importorskip("pygrpc_native", reason="pygrpc-native is not installed")

LIVE = f"/{SERVICE}/ServerLive"
KINDS: list[GrpcServer] = ["native", "grpcio"]


def run(main: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(main, WAIT_S))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def pem_of(issued: Issued, client_ca: Path | None = None) -> Pem:
    return TlsFiles(str(issued.cert), str(issued.key), None if client_ca is None else str(client_ca)).read()


@asynccontextmanager
async def served(kind: GrpcServer, tls: ServerTls) -> AsyncIterator[int]:
    server = build_server(FakeEngine(models(), answer), Limits(header_timeout_s=5), kind, tls=tls)
    port = server.add_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


def channel(port: int, authority: Authority, client: Issued | None = None) -> grpc.aio.Channel:
    key, cert = (None, None) if client is None else (client.key.read_bytes(), client.cert.read_bytes())
    credentials = grpc.ssl_channel_credentials(authority.cert.read_bytes(), key, cert)
    # Without this, channels of one process share connections.
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, [("grpc.use_local_subchannel_pool", 1)])


async def is_live(connected: grpc.aio.Channel) -> bool:
    """Whether the server answers. If it does not, it must have refused the connection."""
    call = connected.unary_unary(LIVE)(b"", timeout=WAIT_S)
    code = await call.code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE), await call.details()
    return bool(code == grpc.StatusCode.OK)


@pytest.mark.parametrize("kind", KINDS)
def test_clients_need_a_certificate_if_there_is_a_ca_for_them(kind: GrpcServer, authority: Authority) -> None:
    async def main() -> None:
        tls = ServerTls(pem_of(authority.server(), authority.cert))
        async with served(kind, tls) as port:
            async with channel(port, authority, authority.client()) as known:
                assert await is_live(known)
            async with channel(port, authority) as unknown:
                assert not await is_live(unknown)

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_renewed_certificate_serves_new_connections_and_keeps_the_others(
    kind: GrpcServer, authority: Authority, tmp_path: Path
) -> None:
    async def main() -> None:
        later = Authority(tmp_path, "later")
        tls = ServerTls(pem_of(authority.server()))
        async with served(kind, tls) as port, channel(port, authority) as early:
            assert await is_live(early)
            tls.renew(pem_of(later.server()))
            assert await is_live(early)
            async with channel(port, later) as new:
                assert await is_live(new)
            async with channel(port, authority) as mistaken:
                assert not await is_live(mistaken)

    run(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("protocols", "version", "agreed"),
    [
        (["h2"], ssl.TLSVersion.TLSv1_3, "h2"),
        (["http/1.1", "h2"], ssl.TLSVersion.TLSv1_2, "h2"),
        (["http/1.1"], ssl.TLSVersion.TLSv1_3, None),
        ([], ssl.TLSVersion.TLSv1_3, None),
        (["h2"], ssl.TLSVersion.TLSv1_1, None),
    ],
)
def test_only_http2_over_tls_1_2_and_newer_is_served(
    kind: GrpcServer, authority: Authority, protocols: list[str], version: ssl.TLSVersion, agreed: str | None
) -> None:
    context = authority.client_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")  # or TLS 1.1 would not be offered at all

    def connect(port: int) -> str | None:
        """Return the protocol agreed on, or None if the server has closed the connection."""
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as plain:
            try:
                with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                    secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                    return secure.selected_alpn_protocol() if secure.recv(1) else None
            except OSError:
                return None

    async def main() -> None:
        async with served(kind, ServerTls(pem_of(authority.server()))) as port:
            assert await asyncio.to_thread(connect, port) == agreed

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_without_tls_is_disconnected(kind: GrpcServer, authority: Authority) -> None:
    async def main() -> None:
        async with (
            served(kind, ServerTls(pem_of(authority.server()))) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as plain,
            channel(port, authority) as secure,
        ):
            assert not await is_live(plain)
            assert await is_live(secure)

    run(main())
