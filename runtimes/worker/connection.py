"""One non-blocking stream of frames: a front's, or the supervisor's."""

import socket
from collections import deque
from typing import Deque, List, Optional, Sequence

from runtimes.tensors import Buffer
from runtimes.wire import Frame, FrameReader

# Large inputs lie in the arena: what comes here is small, and so is what is set aside for it.
_CHUNK = 1 << 16
# What one connection may take of a turn: a large request must not need a turn, and so a batch, for each chunk.
_MAX_PER_TURN = 1 << 23
# Buffers below this are copied together: that is cheaper than to name each to the kernel.
_SMALL = 1 << 12
_MAX_BUFFERS = 512  # under every system's IOV_MAX


class Connection:
    """`closed` is set when the other side has gone; what it does not read waits here, in its own buffer.

    `arena` is the front's, once it is mapped.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.closed = False
        self.arena: Optional[memoryview] = None
        self._reader = FrameReader()
        self._out: Deque[memoryview] = deque()
        self._small: List[Buffer] = []  # what comes after `_out`

    def receive(self) -> List[Frame]:
        """All that has arrived, up to a bound: the other fronts get their turn. Raises WireError."""
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
                break  # it was all there was
        return frames

    def queue(self, buffers: Sequence[Buffer]) -> None:
        """Written by the next `flush`: the answers of one batch leave with one call."""
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
        """Write what the socket takes; whether all is written."""
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
