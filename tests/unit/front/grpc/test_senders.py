"""Who sent a call that came through the port: the call itself says it, in a header that no client can forge."""

import asyncio
from typing import Any

import hpack
import pytest
import uvloop

from gateway.front.grpc.sender import Sender, SenderHeader
from gateway.process.tls import certificate_names
from tests.support.front_server import WAIT_S

pytest.importorskip("pygrpc_native", reason="pygrpc-native is not installed")

from tests.unit.front.grpc.test_guarded_port import Peers, ask, connect, served


@pytest.mark.parametrize("length", [1, 100, 126, 127, 128, 254, 255, 256, 300, 4096])
def test_the_field_is_what_hpack_writes_whatever_its_length(length: int) -> None:
    header = SenderHeader()
    sender = Sender("ipv6:[::1]:1234", ("CN:" + "ü" * length, 'DNS:"a", \\b\x00'))
    decoder = hpack.Decoder()
    for _ in range(2):
        ((name, value),) = decoder.decode(header.field(sender))
        assert str(value).isascii()
        assert str(value).isprintable()
        assert header.sender([("other", value), (name, value)]) == sender
    assert not decoder.header_table.dynamic_entries, "the state of both sides is as it was"


@pytest.mark.parametrize("character", ["a", '"', "\x01", "ü", "\U0001f512"])
def test_whatever_names_a_certificate_has_there_is_room_for_other_headers(character: str) -> None:
    """The server allows 16 KiB of them, and closes a connection that sends more in one frame."""
    for length in (1, 64, 300, 600, 1300, 4000, 1 << 20):
        names = certificate_names({"subject": [[("commonName", character * length)]]})
        assert length > 64 or names == (f"CN:{character * length}",)
        assert len(SenderHeader().field(Sender("ipv6:[::1]:1234", names))) < 4300


def test_another_header_says_nothing() -> None:
    first, second = SenderHeader(), SenderHeader()
    ((name, value),) = hpack.Decoder().decode(first.field(Sender("ipv4:127.0.0.1:1")))
    assert second.sender([(name, value), ("x-peer", value)]) == Sender()


def test_a_call_that_is_read_when_its_client_has_left_has_the_same_sender() -> None:
    """Otherwise a client could hide its address from the audit log, and would be one without a certificate."""

    async def main() -> None:
        peers = Peers()
        async with served(access=peers) as (server, number), connect(number) as channel:
            port, mailbox = server._port, server._mailbox
            assert port is not None
            assert mailbox is not None
            assert await ask(channel, b"one") == b"3"
            expected = list(peers.found)
            receive = mailbox._receive

            def leave_first(events: list[Any]) -> None:
                for client in list(port._clients):
                    port.disconnect(client, "it has left")
                receive(events)

            mailbox._receive = leave_first
            call = channel.unary_unary("/tests.Service/Length")(b"two", timeout=WAIT_S)
            while len(peers.found) == len(expected):  # noqa: ASYNC110 - nothing is set for a call that has been read
                await asyncio.sleep(0)
            mailbox._receive = receive
            call.cancel()
            assert expected[0].startswith("ipv4:127.0.0.1:")
            assert peers.found == expected * 2

    uvloop.run(asyncio.wait_for(main(), WAIT_S))
