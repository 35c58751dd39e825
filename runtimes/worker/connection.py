"""A non-blocking stream of frames, to a front or to the supervisor."""

import socket
import struct
from typing import List, Optional, Sequence

from runtimes.result_frames import PutResults
from runtimes.tensors import Buffer
from runtimes.wire import Frame, FrameReader
from runtimes.worker.mapping import ResultMemory, map_arena, map_results

# Bytes of one read. Inputs of 64 KiB and more are in the arena, so that most frames are smaller than this. A larger
# buffer would be allocated for each read and mostly stay empty.
_CHUNK = 1 << 16
# Bytes that may be read from a connection before the others get their turn. With a low limit, a large request that
# comes through the socket takes several turns, and a batch runs between each of them; with a high one, a front that
# sends without pause delays the others.
_MAX_PER_TURN = 1 << 23
# Up to this many bytes are copied into one buffer to be written, because that costs less than a list of them.
_MAX_JOINED = 1 << 14
_MAX_BUFFERS = 512  # under every system's IOV_MAX


class Connection:
    """One connection. What the peer has not read yet waits in the connection's own buffer.

    descriptor  of the socket
    closed      whether the peer has closed the connection
    blocked     whether the peer reads more slowly than it is written to, so that output is left
    output      what is to be written by the next `flush`, so that the results of a batch are sent with one call
    arena       the front's memory, once it is mapped
    results     where large results are written; None if they go through the socket
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.descriptor = sock.fileno()
        self.closed = False
        self.blocked = False
        self.output: List[Buffer] = []
        self.arena: Optional[memoryview] = None
        self.results: Optional[ResultMemory] = None
        self._reader = FrameReader()
        # Descriptors come with the first bytes, if at all. The usual `recv` would drop them, but costs less.
        self._read = self._read_first
        self._received_descriptors: List[int] = []

    def map_memory(self, size: int, results: int) -> bool:
        """Map the front's memory, whose descriptors came with the first bytes. Return whether inputs may be in it.

        size, results: bytes of the arena, and of the memory for results; 0 if there is none
        """
        descriptors, self._received_descriptors = [*self._received_descriptors, -1, -1], []
        self.arena = map_arena(descriptors[0], size)
        if results:
            self.results = map_results(descriptors[1], results)
        return self.arena is not None

    @property
    def put_results(self) -> Optional[PutResults]:
        """What writes large results into the memory for them; None if there is none."""
        return None if self.results is None else self.results.put

    def _read_first(self, size: int) -> bytes:
        data, ancillary, _, _ = self.sock.recvmsg(size, socket.CMSG_SPACE(2 * struct.calcsize("i")))
        self._read = self.sock.recv
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._received_descriptors += struct.unpack("%di" % (len(rights) // struct.calcsize("i")), rights)
        return data

    def receive(self) -> List[Frame]:
        """Return the frames that have arrived, up to _MAX_PER_TURN bytes. Raises WireError."""
        frames: List[Frame] = []
        for _ in range(_MAX_PER_TURN // _CHUNK):
            try:
                data = self._read(_CHUNK)
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
        """Add to the output."""
        self.output += buffers

    def write(self, data: bytes) -> None:
        """Write at once what the socket accepts, and add the rest to the output."""
        if not self.output and not self.closed:
            try:
                sent = self.sock.send(data)
            except OSError:
                sent = 0  # `flush` will see why
            if sent == len(data):
                return
            data = data[sent:]
        self.output.append(data)

    def flush(self) -> bool:
        """Write what the socket accepts. Return whether everything has been written."""
        output = self.output
        while output and not self.closed:
            head: Sequence[Buffer] = output
            if len(output) > 1 and sum(map(len, output)) <= _MAX_JOINED:
                head = [b"".join(output)]
            try:
                sent = self.sock.send(head[0]) if len(head) == 1 else self.sock.sendmsg(head[:_MAX_BUFFERS])
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self.closed = True
                break
            if len(head) == 1 and sent == len(head[0]):
                output.clear()
            else:
                _drop(output, sent)
        return True

    def close(self) -> None:
        self.closed = True
        self.output.clear()
        self.arena = self.results = None
        self.sock.close()


def _drop(buffers: List[Buffer], size: int) -> None:
    """Remove the first `size` bytes."""
    done = 0
    while done < len(buffers) and size >= len(buffers[done]):
        size -= len(buffers[done])
        done += 1
    del buffers[:done]
    if size:
        buffers[0] = memoryview(buffers[0])[size:]
