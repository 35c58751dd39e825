"""Two connections that pass on to each other what they receive, when one of them ends or is slow."""

import pytest

from gateway.front.grpc.relay import End


class Closed(RuntimeError):
    pass


class Transport:
    """Like uvloop's: whoever writes to it when it is closed gets an exception."""

    def __init__(self, most: int = 1 << 20) -> None:
        self.data, self.most = b"", most
        self.is_closing = self.is_closed = self.is_paused = False
        self.protocol: End | None = None

    def write(self, data: bytes) -> None:
        if self.is_closed:
            raise Closed
        self.data += data
        if len(self.data) > self.most and self.protocol is not None:
            self.protocol.pause_writing()

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def close(self) -> None:
        self.is_closing = True

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


def end(transport: Transport) -> End:
    transport.protocol = End()
    transport.protocol.connection_made(transport)  # type: ignore[arg-type]
    return transport.protocol


@pytest.fixture
def transports() -> tuple[Transport, Transport]:
    return Transport(), Transport()


def test_what_comes_early_is_passed_on_first(transports: tuple[Transport, Transport]) -> None:
    first, second = map(end, transports)
    first.data_received(b"one")
    assert transports[0].is_paused
    first.join(second)
    first.data_received(b"two")
    second.data_received(b"three")
    assert [each.data for each in transports] == [b"three", b"onetwo"]
    assert not transports[0].is_paused


def test_nothing_is_written_to_a_connection_that_has_ended(transports: tuple[Transport, Transport]) -> None:
    """The other one may stay open for long, until its client has read everything, and receive more meanwhile."""
    first, second = map(end, transports)
    first.join(second)
    transports[1].is_closed = True
    second.connection_lost(None)
    assert transports[0].is_closing
    first.data_received(b"late")
    first.resume_writing()
    assert transports[1].data == b""
    first.connection_lost(None)


def test_one_that_is_too_slow_for_what_came_early_pauses_the_other() -> None:
    near, far = Transport(), Transport(most=2)
    first, second = end(near), end(far)
    first.data_received(b"early")
    first.join(second)
    assert near.is_paused
    second.resume_writing()
    assert not near.is_paused
