"""Two connections that pass on to each other what they receive."""

import asyncio
from typing import cast


class End(asyncio.Protocol):
    """One of two connections, each of which passes on to the other what it receives.

    It stops reading while the other one cannot write, or is not connected yet. If one is closed, so is the other.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._peer: End | None = None  # the other end
        self._other: asyncio.Transport | None = None  # its transport; None if nothing can be written to it
        self._early: list[bytes] = []  # received before `join`

    def join(self, other: "End") -> None:
        """Connect both. If one has been closed, the other is."""
        if self._transport is None or other._transport is None:
            self.close()
            other.close()
            return
        self._peer, other._peer = other, self
        self._other, other._other = other._transport, self._transport
        self._start()
        other._start()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's classes

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            assert self._transport is not None
            self._transport.pause_reading()
            self._early.append(data)
        else:
            self._other.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        peer, self._peer, self._transport, self._other = self._peer, None, None, None
        if peer is not None:
            # It may stay open until its client has read everything. uvloop's transports raise if they are closed.
            peer._peer = peer._other = None
            peer.close()

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other.resume_reading()

    def _start(self) -> None:
        assert self._transport is not None
        assert self._other is not None
        self._transport.resume_reading()  # first: writing may have it paused again
        self._other.writelines(self._early)
        self._early.clear()
