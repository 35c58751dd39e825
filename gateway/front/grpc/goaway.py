"""GOAWAY on behalf of a server that cannot send it: clients make further calls on another connection.

It must come between two frames of the server. Following all its frames would cost something for each call. Instead, the
server gets a PING with random bytes, whose answer is found by these bytes, and GOAWAY takes the place of that answer.
"""

import secrets

from gateway.front.grpc.relay import End

# Length, type 6, no flags, stream 0; the same with the flag ACK.
_PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00"
_PONG = b"\x00\x00\x08\x06\x01\x00\x00\x00\x00"
# Type 7. The last stream that will be served is the largest there is, because calls that are on their way are served;
# NO_ERROR.
_GOAWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + b"\x7f\xff\xff\xff" + b"\x00\x00\x00\x00"


class ServerEnd(End):
    """The connection to the server. What the server sends is passed on, with GOAWAY if it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._answer = b""  # that GOAWAY takes the place of
        self._held = b""  # what may be the beginning of that answer

    def go_away(self) -> bytes:
        """Return what the server must get, so that the client gets GOAWAY. Empty while an earlier one is under way."""
        if self._answer:
            return b""
        mark = secrets.token_bytes(8)
        self._answer = _PONG + mark
        return _PING + mark

    def data_received(self, data: bytes) -> None:
        if not self._answer and self._other is not None:  # nearly always: what `End` does, without the call
            self._other.write(data)
            return
        if self._answer:
            data = self._with_goaway(self._held + data)
        if data:
            super().data_received(data)

    def _with_goaway(self, data: bytes) -> bytes:
        answer, self._held = self._answer, b""
        before, found, after = data.partition(answer)
        if found:
            self._answer = b""
            return before + _GOAWAY + after
        for length in range(min(len(answer) - 1, len(data)), 0, -1):
            if data.endswith(answer[:length]):
                self._held = data[-length:]
                return data[:-length]
        return data
