"""Clients are sent away without losing a call: GOAWAY comes between two frames, wherever these are cut."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop

from gateway.front.grpc.goaway import ServerEnd
from gateway.front.grpc.relay import End
from gateway.process.tls import ServerTls, TlsFiles
from tests.support.certificates import Authority
from tests.support.front_server import WAIT_S
from tests.support.http2_frames import DATA, GOAWAY, PING, frame, message

pytest.importorskip("pygrpc_native", reason="pygrpc-native is not installed")

from tests.unit.front.grpc.test_guarded_port import ask, connect, served

ACK = 1


class Written:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def writelines(self, parts: list[bytes]) -> None:
        self.data += b"".join(parts)

    def resume_reading(self) -> None:
        pass


def connected(number: int, authority: Authority | None) -> grpc.aio.Channel:
    if authority is None:
        return connect(number)
    credentials = grpc.ssl_channel_credentials(authority.cert.read_bytes())
    return grpc.aio.secure_channel(f"localhost:{number}", credentials, [("grpc.use_local_subchannel_pool", 1)])


def joined() -> tuple[ServerEnd, Written]:
    server, client, to_client = ServerEnd(), End(), Written()
    server.connection_made(Written())  # type: ignore[arg-type]
    client.connection_made(to_client)  # type: ignore[arg-type]
    client.join(server)
    return server, to_client


@pytest.mark.parametrize("size", [1, 2, 5, 16, 17, 1000])
def test_goaway_takes_the_place_of_the_answer(size: int) -> None:
    server, client = joined()
    ping = server.go_away()
    assert ping[:9] == frame(PING, payload=bytes(8))[:9]
    assert server.go_away() == b"", "one at a time"
    # A message may contain the beginning of the answer, and another PING may be answered first.
    before = frame(DATA, 0, 1, message(frame(PING, ACK, payload=ping[9:])[:-1] + b"?")) + frame(
        PING, ACK, 0, b"another!"
    )
    after = frame(DATA, 0, 3, message(b"more"))
    sent = before + frame(PING, ACK, payload=ping[9:]) + after
    for at in range(0, len(sent), size):
        server.data_received(sent[at : at + size])
    goaway = frame(GOAWAY, payload=b"\x7f\xff\xff\xff" + bytes(4))
    assert client.data == before + goaway + after
    assert server.go_away()[9:] not in (b"", ping[9:]), "the next one has another mark"


@pytest.mark.parametrize("secure", [False, True])
def test_clients_leave_and_no_call_is_lost(secure: bool, tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def main() -> None:
        tls = ServerTls(TlsFiles(*map(str, authority.server())).read()) if secure else None
        async with served(tls) as (server, number), connected(number, authority if secure else None) as channel:
            port: Any = server._port
            done = 0
            ended = asyncio.Event()

            async def call_on() -> None:
                nonlocal done
                while not ended.is_set():
                    assert await ask(channel, b"three") == b"5"
                    done += 1

            callers = [asyncio.create_task(call_on()) for _ in range(8)]
            seen: set[Any] = set()
            for turn in range(1, 6):
                while done < 50 * turn:  # noqa: ASYNC110 - nothing is set for each call
                    await asyncio.sleep(0)
                (client,) = port._clients
                seen.add(client)
                server.go_away()
                while client in port._clients:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            ended.set()
            await asyncio.gather(*callers)
            assert len(seen) == 5

    uvloop.run(asyncio.wait_for(main(), WAIT_S))


def test_a_stream_that_is_open_goes_on() -> None:
    async def main() -> None:
        async with served() as (server, number), connect(number) as channel:
            stream: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream("/tests.Service/Lengths")()
            await stream.write(b"one")
            assert await stream.read() == b"3"
            port: Any = server._port
            (client,) = port._clients
            server.go_away()
            assert await ask(channel, b"four") == b"4"
            await stream.write(b"three")
            assert await stream.read() == b"5"
            assert client in port._clients
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF

    uvloop.run(asyncio.wait_for(main(), WAIT_S))
