"""A closed loop of different requests, sent in random order over HTTP/1.1 or gRPC.

    python -m benchmarks.load_generator

Each line on standard input is JSON. ["http" or "grpc", port, file, number in flight, calls per gRPC connection]
connects to a server on loopback; the file holds prepared requests (benchmarks/prepared.py). A number sends that many
of them, and prints a line of JSON: the elapsed seconds, the program's own CPU seconds, and the latencies. The program
fails if one request is not answered with 200 or with grpc-status 0.

No packaged program sends different requests over both protocols at this rate. h2load repeats one body. wrk sends
prepared requests from a Lua script, but speaks HTTP/1.1 only, and ghz speaks gRPC only; k6 interprets a script for each
request. perf_analyzer speaks both, but takes 77 to 95 µs of CPU time per request, more than the servers measured here.
"""

import gc
import json
import random
import select
import socket
import struct
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from re import IGNORECASE, compile

from hpack import Decoder

RECORD = struct.Struct("<II")  # the sizes of the two parts of a request that follow: head and body
_ORDER = 9973  # a prime, so that the order does not repeat together with anything else
_WAIT_S = 20.0
_RECEIVE = 1 << 17

_CONTENT_LENGTH = compile(rb"\r\ncontent-length: *(\d+)", IGNORECASE)

_FRAME = struct.Struct(">BHBBI")  # length (24 bits), type, flags, stream
_ID = struct.Struct(">I")
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_MAX_FRAME = 1 << 14
_WINDOW = 1 << 24
_DEFAULT_WINDOW = (1 << 16) - 1


class HttpConnection:
    """HTTP/1.1 with one request at a time."""

    def __init__(self, port: int, requests: Iterator[Sequence[bytes]]) -> None:
        self.socket = _connect(port)
        self._requests = requests
        self._started = 0.0
        self._rest = b""

    def send(self, _count: int) -> None:
        self._started = time.perf_counter()
        self.socket.sendall(next(self._requests)[0])

    def receive(self) -> list[float]:
        """Return the times at which the requests were sent whose answers are now complete."""
        data = self._rest + _received(self.socket)
        head_end = data.find(b"\r\n\r\n")
        if head_end >= 0:
            length = _CONTENT_LENGTH.search(data, 0, head_end)
            if not data.startswith(b"HTTP/1.1 200 ") or length is None:
                raise RuntimeError(f"this answer is not a 200 with a Content-Length: {data[:1000]!r}")
            left = head_end + 4 + int(length[1]) - len(data)
            if left < 0:
                raise RuntimeError(f"more bytes than one answer: {data[:1000]!r}")
            if left == 0:
                self._rest = b""
                return [self._started]
        self._rest = data
        return []


class GrpcConnection:
    """HTTP/2 without TLS, with several streams at a time."""

    def __init__(self, port: int, requests: Iterator[Sequence[bytes]], first: Sequence[bytes]) -> None:
        self.socket = _connect(port)
        self._requests = requests
        # The first request's headers enter those into the server's table to which all others refer.
        self._first: Sequence[bytes] | None = first
        self._decoder, self._statuses = Decoder(), dict[bytes, str]()
        self._started: dict[int, float] = {}
        self._stream = 1
        self._rest = b""
        self._may_send, self._consumed = _DEFAULT_WINDOW, 0
        settings = struct.pack(">HIHI", 2, 0, 4, _WINDOW)  # no push, and the window of a stream
        self.socket.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, settings) + _window_update(_WINDOW)
        )

    def send(self, count: int) -> None:
        parts: list[bytes] = []
        now = time.perf_counter()
        for _ in range(count):
            before, between, message = self._first or next(self._requests)
            self._first = None
            stream = _ID.pack(self._stream)
            parts += (before, stream, between, stream, message)
            self._started[self._stream] = now
            self._stream += 2
            self._may_send -= len(message)
        if self._may_send < 0:
            raise RuntimeError("the server did not open its flow-control window in time")
        self.socket.sendall(b"".join(parts))

    def receive(self) -> list[float]:
        """Return the times at which the requests were sent whose answers are now complete."""
        data = self._rest + _received(self.socket)
        done, start, size = [], 0, len(data)
        while size - start >= 9:
            high, low, kind, flags, stream = _FRAME.unpack_from(data, start)
            end = start + 9 + (high << 16) + low
            if end > size:
                break
            if kind == _HEADERS:
                if not flags & _END_HEADERS or flags & (_PADDED | _PRIORITY):
                    raise RuntimeError(f"HEADERS with flags {flags} are not supported")
                status = self._status(data[start + 9 : end])
                if status != ("0" if flags & _END_STREAM else "200"):
                    raise RuntimeError(f"a call failed: {status}")
                if flags & _END_STREAM:
                    done.append(self._started.pop(stream))
            elif kind == _DATA:
                self._consumed += end - start - 9
                if flags & _END_STREAM:
                    raise RuntimeError("a call ended without trailers")
            else:
                self._control(kind, flags, stream, data[start + 9 : end])
            start = end
        self._rest = data[start:]
        if self._consumed > _WINDOW // 2:
            self.socket.sendall(_window_update(self._consumed))
            self._consumed = 0
        return done

    def _status(self, block: bytes) -> str:
        """Return grpc-status, with a message if it is not 0; or :status if the block has no grpc-status.

        A block that changed the decoder's table must be decoded each time, and one that did not has one meaning until
        the table changes.
        """
        known = self._statuses.get(block)
        if known is not None:
            return known
        table = self._decoder.header_table
        before = table.dynamic_entries[0] if table.dynamic_entries else None
        fields = dict(self._decoder.decode(block))
        status = str(fields.get("grpc-status", fields.get(":status")))
        if "grpc-message" in fields:
            status += f": {fields['grpc-message']!s}"
        if (table.dynamic_entries[0] if table.dynamic_entries else None) is before:
            self._statuses[block] = status
        else:
            self._statuses.clear()
        return status

    def _control(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self.socket.sendall(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self.socket.sendall(_frame(_PING, _ACK, 0, body))
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._may_send += _ID.unpack(body)[0]
        elif kind in (_RST_STREAM, _GOAWAY):
            raise RuntimeError(f"the server ended {'a stream' if kind == _RST_STREAM else 'the connection'}: {body!r}")


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(_RECEIVE)
    if not data:
        raise RuntimeError("the server closed a connection")
    return data


def _frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return _FRAME.pack(len(body) >> 16, len(body) & 0xFFFF, kind, flags, stream) + body


def _window_update(size: int) -> bytes:
    return _frame(_WINDOW_UPDATE, 0, 0, _ID.pack(size))


def _call(block: bytes, message: bytes) -> Sequence[bytes]:
    """Return the bytes of a call before, between and after the two places of its stream's number."""
    if max(len(block), len(message)) > _MAX_FRAME:
        raise ValueError("a request is larger than one frame (16 KiB)")
    return (
        _frame(_HEADERS, _END_HEADERS, 0, block)[:5],
        block + _frame(_DATA, _END_STREAM, 0, message)[:5],
        message,
    )


def read(file: Path) -> list[tuple[bytes, bytes]]:
    """Return the head and the body of each request in the file."""
    data, start, found = file.read_bytes(), 0, []
    while start < len(data):
        head, body = RECORD.unpack_from(data, start)
        start += RECORD.size
        found.append((data[start : start + head], data[start + head : start + head + body]))
        start += head + body
    return found


def connect(
    protocol: str, port: int, file: Path, in_flight: int, streams: int
) -> tuple[list[HttpConnection] | list[GrpcConnection], int]:
    """Return the connections, and how many requests each has in flight."""
    every = read(file)
    shuffled = random.Random(0)
    if protocol == "http":
        whole = cycle([(head + body,) for head, body in shuffled.choices(every, k=_ORDER)])
        return [HttpConnection(port, whole) for _ in range(in_flight)], 1
    first, *calls = [_call(*each) for each in every]
    order = cycle(shuffled.choices(calls, k=_ORDER))
    channels, streams = (in_flight // streams, streams) if in_flight >= streams else (1, in_flight)
    return [GrpcConnection(port, order, first) for _ in range(channels)], streams


def drive(connections: Sequence[HttpConnection | GrpcConnection], streams: int, count: int) -> "array[float]":
    """Send `count` requests, and return the seconds that each took. Raises RuntimeError unless all succeed."""
    latencies = array("d")
    by_descriptor = {connection.socket.fileno(): connection for connection in connections}
    clock = time.perf_counter
    to_send = count
    with select.epoll() as poll:
        for descriptor, connection in by_descriptor.items():
            poll.register(descriptor, select.EPOLLIN)
            if first := min(streams, to_send):
                to_send -= first
                connection.send(first)
        while len(latencies) < count:
            ready = poll.poll(_WAIT_S)
            if not ready:
                raise RuntimeError(f"no answer in {_WAIT_S:g} s")
            for descriptor, _ in ready:
                connection = by_descriptor[descriptor]
                if done := connection.receive():
                    now = clock()
                    latencies.extend([now - started for started in done])
                    if more := min(len(done), to_send):
                        to_send -= more
                        connection.send(more)
    return latencies


def main() -> None:
    gc.disable()
    connections: Sequence[HttpConnection | GrpcConnection] = ()
    for line in sys.stdin:
        command = json.loads(line)
        if isinstance(command, list):
            for connection in connections:
                connection.socket.close()
            protocol, port, file, in_flight, streams = command
            connections, streams = connect(protocol, port, Path(file), in_flight, streams)
            continue
        cpu, clock = time.process_time(), time.perf_counter()
        latencies = drive(connections, streams, command)
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        print(json.dumps({"seconds": clock, "cpu_seconds": cpu, "latencies": sorted(latencies)}), flush=True)


if __name__ == "__main__":
    main()
