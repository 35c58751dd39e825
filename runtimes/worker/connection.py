"""A non-blocking stream of frames, to a front or to the supervisor."""

import socket
from collections import deque
from typing import Deque, List, Optional, Sequence

from runtimes.tensors import Buffer
from runtimes.wire import Frame, FrameReader

# Bytes of one read. Inputs of 64 KiB and more are in the arena, so that most frames are smaller than this. A larger
# buffer would be allocated for each read and mostly stay empty.
_CHUNK = 1 << 16
# Bytes that may be read from a connection before the others get their turn. With a low limit, a large request that
# comes through the socket takes several turns, and a batch runs between each of them; with a high one, a front that
# sends without pause delays the others.
_MAX_PER_TURN = 1 << 23
# Smaller buffers are copied into one, because that costs less than one more entry in the list for sendmsg.
_SMALL = 1 << 12
_MAX_BUFFERS = 512  # under every system's IOV_MAX


class Connection:
    """One connection. What the peer has not read yet waits in the connection's own buffer.

    closed: whether the peer has closed the connection. arena: the front's memory, once it is mapped.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.closed = False
        self.arena: Optional[memoryview] = None
        self._reader = FrameReader()
        self._out: Deque[memoryview] = deque()
        self._small: List[Buffer] = []  # to be sent after `_out`, as one buffer

    def receive(self) -> List[Frame]:
        """Return the frames that have arrived, up to _MAX_PER_TURN bytes. Raises WireError."""
        frames: List[Frame] = []
        for _ in range(_MAX_PER_TURN // _CHUNK):
            try:
                data = self.sock.recv(_CHUNK)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
                break
            frames += self._reader.feed(data)
            if len(data) < _CHUNK // 4:
                break  # a short read: nothing more has arrived, so another call would only say that
        return frames

    def queue(self, buffers: Sequence[Buffer]) -> None:
        """Queue buffers for the next `flush`, so that the results of a batch are sent with one call."""
        for buffer in buffers:
            size = len(buffer)
            if size >= _SMALL:
                self._join()
                self._out.append(memoryview(buffer).cast("B"))
            elif size:
                self._small.append(buffer)

    def _join(self) -> None:
        if self._small:
            self._out.append(memoryview(b"".join(self._small)))
            self._small = []

    def flush(self) -> bool:
        """Write what the socket accepts. Return whether everything has been written."""
        self._join()
        out = self._out
        while out and not self.closed:
            try:
                sent = self.sock.sendmsg([out[index] for index in range(min(len(out), _MAX_BUFFERS))])
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self.closed = True
                break
            while sent:
                if sent < len(out[0]):
                    out[0] = out[0][sent:]
                    break
                sent -= len(out.popleft())
        return True

    def close(self) -> None:
        self.closed = True
        self._out.clear()
        self._small = []
        self.sock.close()
