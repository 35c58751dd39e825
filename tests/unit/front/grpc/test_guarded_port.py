"""The port in front of the native server: what passes through it, and what floods do to it."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import hpack
import pytest
import uvloop

from gateway.domain.caller import Caller, Event
from gateway.domain.identity import Identity
from gateway.engine.fake import FakeEngine
from gateway.front.base.access import Check
from gateway.front.base.grpc_method import Service
from gateway.front.base.limits import Limits
from gateway.front.grpc import guard as guard_module
from gateway.front.grpc import port as port_module
from gateway.front.grpc.port import GuardedPort
from gateway.process.tls import ServerTls, TlsFiles
from tests.support.certificates import Authority
from tests.support.front_server import WAIT_S
from tests.support.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    call,
    frame,
    head,
    many,
    message,
    reset,
)  # fmt: skip

pytest.importorskip("pygrpc_native", reason="pygrpc-native is not installed")

from gateway.front.grpc.native import NativeServer

LIMIT = 1 << 20
OPTIONS = [("grpc.max_receive_message_length", LIMIT), ("grpc.max_send_message_length", 1 << 30)]
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
EVERYTHING = Identity("everyone", dict.fromkeys(("infer", "read"), "*"))


def run(main: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(main, WAIT_S))


class Peers:
    """An access that allows everything, and records the peers of calls."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def identify(self, caller: Caller) -> Identity:
        self.found.append(caller.peer)
        return EVERYTHING

    def record(self, event: Event) -> None:
        pass


async def length(raw: bytes, seconds: float | None, check: Check | None = None) -> bytes:
    if check is not None:
        check("read", "")
    return str(len(raw)).encode()


async def zeros(raw: bytes, seconds: float | None, check: Check | None = None) -> bytes:
    return bytes(int(raw))


async def lengths(
    requests: AsyncIterator[bytes], seconds: Callable[[], float | None], check: Check | None
) -> AsyncIterator[bytes]:
    async for request in requests:
        yield await length(request, None, check)


SERVICE = Service("tests.Service", {"Length": length, "Zeros": zeros}, {"Lengths": lengths})  # type: ignore[dict-item]


@asynccontextmanager
async def served(
    tls: ServerTls | None = None, access: Peers | None = None, limits: Limits | None = None
) -> AsyncIterator[tuple[NativeServer, int]]:
    engine = FakeEngine([], lambda request: [])
    limits = limits or Limits(binary_bytes=LIMIT)
    port = GuardedPort(limits, lambda: engine.reserve_body("", ""), tls, identify=access is not None)
    server = NativeServer([SERVICE], OPTIONS, access, port=port)
    number = server.add_port("127.0.0.1:0")
    await server.start()
    try:
        yield server, number
    finally:
        await server.stop(None)
    assert not port._clients


def connect(number: int) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{number}", [("grpc.use_local_subchannel_pool", 1), *UNLIMITED])


async def ask(channel: grpc.aio.Channel, sent: bytes, **options: Any) -> bytes:
    answer: bytes = await channel.unary_unary("/tests.Service/Length")(sent, timeout=WAIT_S, **options)
    return answer


async def refusal(answers: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answers
    return caught.value.code(), caught.value.details()


TOO_LARGE = (grpc.StatusCode.RESOURCE_EXHAUSTED, f"the message has {9 * LIMIT} bytes, over the limit of {LIMIT}")


def test_a_refused_message_ends_its_call_only() -> None:
    async def main() -> None:
        async with served() as (_, number), connect(number) as channel:
            for _ in range(3):
                answers = [refusal(ask(channel, bytes(9 * LIMIT))), *(ask(channel, bytes(LIMIT)) for _ in range(3))]
                assert await asyncio.gather(*answers) == [TOO_LARGE, *[str(LIMIT).encode()] * 3]

    run(main())


def test_a_stream_answers_what_came_before_a_refused_message() -> None:
    async def main() -> None:
        async with served() as (_, number), connect(number) as channel:
            stream = channel.stream_stream("/tests.Service/Lengths")(timeout=WAIT_S)
            await stream.write(b"one")
            assert await stream.read() == b"3"
            await stream.write(bytes(9 * LIMIT))
            assert await refusal(stream.read()) == TOO_LARGE
            assert await ask(channel, b"one") == b"3"

    run(main())


def test_a_compressed_message_is_refused_by_what_it_decompresses_to() -> None:
    async def main() -> None:
        async with served() as (_, number), connect(number) as channel:
            for method in ("Length", "Lengths"):
                call = channel.unary_unary(f"/tests.Service/{method}")  # a stream of one message is the same
                good = call(bytes(LIMIT), compression=grpc.Compression.Gzip, timeout=WAIT_S)
                assert await good == str(LIMIT).encode()
                bomb = call(bytes(40 * LIMIT), compression=grpc.Compression.Gzip, timeout=WAIT_S)
                assert await refusal(bomb) == (
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"the message decompresses to more than the limit of {LIMIT} bytes",
                )

    run(main())


def test_the_access_check_knows_the_peer_of_calls_and_streams() -> None:
    async def main() -> None:
        peers = Peers()
        async with served(access=peers) as (server, number):
            assert server._port is not None
            async with connect(number) as first, connect(number) as second:
                for channel in (first, second):
                    earlier = set(server._port._clients)
                    assert await ask(channel, b"one", metadata=[("x-peer", "forged")]) == b"3"
                    (client,) = server._port._clients - earlier
                    assert client._transport is not None
                    host, own = client._transport.get_extra_info("peername")
                    stream = channel.stream_stream("/tests.Service/Lengths")(iter([b"a"]), timeout=WAIT_S)
                    assert [each async for each in stream] == [b"1"]
                    assert peers.found == [f"ipv4:{host}:{own}"] * 2
                    peers.found.clear()
            async with grpc.aio.insecure_channel(f"unix:{server._path}") as channel:
                assert await ask(channel, b"one") == b"3"
            assert peers.found == [""]

    run(main())


@pytest.mark.parametrize("size", [1, 32 << 20])
def test_an_answer_being_sent_is_finished_before_the_stop(size: int) -> None:
    async def main() -> None:
        async with served() as (server, number), connect(number) as channel:
            call = channel.unary_unary("/tests.Service/Zeros")(str(size).encode(), timeout=WAIT_S)
            (answer, _) = await asyncio.gather(call, _stop_soon(server))
            assert len(answer) == size

    run(main())


async def _stop_soon(server: NativeServer) -> None:
    while not server._calls:  # noqa: ASYNC110 - each turn of the event loop is a chance
        await asyncio.sleep(0)
    await server.stop(WAIT_S)


def _block(*more: tuple[str, str]) -> bytes:
    """The headers of a call, which leave HPACK's state as it is."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", "/tests.Service/Length"), (":authority", "a")]
    fields += [("content-type", "application/grpc"), ("te", "trailers"), *more]
    block: bytes = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields])
    return block


SHORT, LONG = _block(), _block(("large", "x" * 8000))


def _call(stream: int, block: bytes = SHORT) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, block)


# What a client sends after its first frame, and whether that costs it the connection.
FLOODS = {
    "pings": (frame(PING, 0, 0, bytes(8)) * 5000, True),
    "settings": (frame(SETTINGS) * 5000, True),
    "continuations": (frame(HEADERS, 0, 1, SHORT) + frame(CONTINUATION, 0, 1) * 5000, True),
    "long headers": (frame(HEADERS, 0, 1, bytes(16000)) + frame(CONTINUATION, 0, 1, bytes(16000)) * 50, True),
    "rapid reset": (many(5000, lambda stream: _call(stream) + reset(stream)), True),
    "rapid reset of calls that have begun": (
        many(2000, lambda stream: _call(stream) + frame(DATA, 0, stream, message(b"", length=9)) + reset(stream)),
        False,
    ),
    "empty frames": (_call(1) + frame(DATA, 0, 1) * 5000, True),
    "messages over the limit": (
        many(2000, lambda stream: _call(stream) + frame(DATA, 0, stream, message(bytes(99), length=1 << 31))),
        True,
    ),
    "open calls": (many(3000, lambda stream: _call(stream, LONG)), False),
    "no call at all": (many(3000, head), False),
    "calls of an unknown kind": (many(1000, call), False),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_or_is_survived_and_others_are_served(name: str) -> None:
    sent, is_refused = FLOODS[name]

    def flood(number: int, done: asyncio.Event, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether the connection was closed."""
        try:
            with socket.create_connection(("127.0.0.1", number), timeout=WAIT_S) as sock:
                sock.sendall(PREFACE + frame(SETTINGS) + sent)
                loop.call_soon_threadsafe(done.set)
                while sock.recv(1 << 16):
                    pass
        except ConnectionError:
            pass
        loop.call_soon_threadsafe(done.set)
        return True

    async def main() -> None:
        async with served() as (server, number), connect(number) as honest:
            assert await ask(honest, b"one") == b"3"
            done = asyncio.Event()
            flooding = asyncio.create_task(asyncio.to_thread(flood, number, done, asyncio.get_running_loop()))
            await done.wait()
            for _ in range(20):
                assert await ask(honest, b"one") == b"3"
            async with connect(number) as later:
                assert await ask(later, b"one") == b"3"
            if is_refused:
                assert await flooding
            else:
                for client in list(server._port._clients):  # type: ignore[union-attr]
                    client.close()
                await flooding

    run(main())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("said", [b"", PREFACE[:10]], ids=["nothing", "half of the preface"])
def test_of_many_silent_clients_the_oldest_are_disconnected(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, secure: bool, said: bytes
) -> None:
    monkeypatch.setattr(port_module, "_MAX_SILENT", 20)

    async def main() -> None:
        tls = ServerTls(TlsFiles(*map(str, authority.server())).read()) if secure else None
        async with served(tls) as (server, number), contextlib.AsyncExitStack() as stack:
            silent = []
            for _ in range(60):
                reader, writer = await asyncio.open_connection("127.0.0.1", number)
                stack.callback(writer.close)
                writer.write(b"" if secure else said)  # over TLS, this is half-open before the handshake
                silent.append(reader)
            for reader in silent[:40]:
                with contextlib.suppress(ConnectionError):
                    assert not await reader.read()
            assert server._port is not None
            assert len(server._port._silent) == 20
            credentials = grpc.ssl_channel_credentials(authority.cert.read_bytes())
            target = f"127.0.0.1:{number}"
            channel = grpc.aio.secure_channel(target, credentials) if secure else grpc.aio.insecure_channel(target)
            async with channel:
                assert await ask(channel, b"one") == b"3"

    run(main())


def test_of_many_clients_those_that_were_silent_for_longest_are_disconnected() -> None:
    async def main() -> None:
        async with served() as (server, number), contextlib.AsyncExitStack() as stack:
            port = server._port
            assert port is not None
            port._max_clients = 10
            async with connect(number) as first:
                assert await ask(first, b"one") == b"3"
                idle = []
                for _ in range(12):
                    reader, writer = await asyncio.open_connection("127.0.0.1", number)
                    stack.callback(writer.close)
                    writer.write(PREFACE + frame(SETTINGS))
                    await reader.readexactly(9)
                    idle.append(reader)
                    port.sweeps += 1
                    assert await ask(first, b"one") == b"3"
                for reader in idle[:3]:
                    with contextlib.suppress(ConnectionError):
                        await reader.read()
                assert len(port._clients) == 10

    run(main())


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_a_client_that_stays_silent_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, secure: bool
) -> None:
    monkeypatch.setattr(port_module, "_SWEEP_S", 0.01)
    limits = Limits(binary_bytes=LIMIT, header_timeout_s=0.1)

    def stay(number: int) -> bytes:
        with socket.create_connection(("127.0.0.1", number), timeout=WAIT_S) as plain:
            if not secure:
                return plain.recv(1)
            context = authority.client_context()
            context.set_alpn_protocols(["h2"])
            with (
                context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
                contextlib.suppress(ssl.SSLError, ConnectionError),
            ):
                return sock.recv(1)
            return b""

    async def main() -> None:
        tls = ServerTls(TlsFiles(*map(str, authority.server())).read()) if secure else None
        async with served(tls, limits=limits) as (_, number):
            assert await asyncio.to_thread(stay, number) == b""

    run(main())


def test_a_message_that_arrives_too_slowly_ends_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "_SWEEP_S", 0.01)
    limits = Limits(binary_bytes=LIMIT, header_timeout_s=0.1, min_body_rate=1 << 40)

    async def main() -> None:
        async with served(limits=limits) as (_, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(PREFACE + frame(SETTINGS) + _call(1) + frame(DATA, 0, 1, message(b"part", length=1000)))
            kind, flags = -1, 0
            while (kind, flags) != (HEADERS, END_HEADERS | END_STREAM):  # the answer of a call that failed
                first, second, third, kind, flags, *_ = await reader.readexactly(9)
                await reader.readexactly(first << 16 | second << 8 | third)
            async with connect(number) as channel:
                assert await ask(channel, b"one") == b"3"
            writer.close()

    run(main())


async def _read_until(reader: asyncio.StreamReader, wanted: int) -> None:
    """Read up to a frame of this kind."""
    kind = -1
    while kind != wanted:
        first, second, third, kind, *_ = await reader.readexactly(9)
        await reader.readexactly(first << 16 | second << 8 | third)


def test_a_preface_may_arrive_in_pieces() -> None:
    async def main() -> None:
        async with served() as (server, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            port = server._port
            assert port is not None
            sent = PREFACE + frame(SETTINGS) + _call(1) + frame(DATA, END_STREAM, 1, message(b"one"))
            writer.write(sent[:10])
            while not any(client._guard._preface == len(PREFACE) - 10 for client in port._silent):  # noqa: ASYNC110
                await asyncio.sleep(0)
            writer.write(sent[10:])
            await _read_until(reader, DATA)
            writer.close()

    run(main())


def test_a_client_whose_messages_are_too_slow_and_too_many_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of others are still looked for."""
    monkeypatch.setattr(port_module, "_SWEEP_S", 0.01)
    monkeypatch.setattr(guard_module, "_MAX_REFUSED", 2)
    limits = Limits(binary_bytes=LIMIT, header_timeout_s=0.1, min_body_rate=1 << 40)

    def slow(stream: int) -> bytes:
        return _call(stream) + frame(DATA, 0, stream, message(b"part", length=1000))

    async def main() -> None:
        async with served(limits=limits) as (server, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(PREFACE + frame(SETTINGS) + many(5, slow))
            with contextlib.suppress(ConnectionError):
                while await reader.read(1 << 16):
                    pass
            port = server._port
            assert port is not None
            writer.close()
            assert not port._clients
            sweeps = port.sweeps
            while port.sweeps < sweeps + 2:  # noqa: ASYNC110 - it is a counter
                await asyncio.sleep(0.01)

    run(main())


def test_a_client_that_is_within_the_headers_of_a_call_is_sent_away_after_them() -> None:
    async def main() -> None:
        async with served() as (server, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            port = server._port
            assert port is not None
            begun = _block()
            writer.write(PREFACE + frame(SETTINGS) + frame(HEADERS, 0, 1, begun[:20]))
            while not any(client._other and client._guard.in_headers for client in port._clients):  # noqa: ASYNC110
                await asyncio.sleep(0)
            server.go_away()
            writer.write(frame(CONTINUATION, END_HEADERS, 1, begun[20:]))
            await _read_until(reader, GOAWAY)
            writer.close()

    run(main())


def test_a_client_that_is_being_connected_is_sent_away_then() -> None:
    async def main() -> None:
        async with served() as (server, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            port = server._port
            assert port is not None
            writer.write(PREFACE + frame(SETTINGS))
            while not port._clients:  # noqa: ASYNC110
                await asyncio.sleep(0)
            (client,) = port._clients
            assert client._other is None
            server.go_away()
            await _read_until(reader, GOAWAY)
            writer.close()

    run(main())
