"""Receives images over HTTP, and decodes and scales them with Pillow: one thread per core, and nothing else.

    python -m benchmarks.references.receive_and_decode SIDE

It does not check or limit requests, and nothing runs on the images. It shows what a server can reach at most while its
clients use the same cores.
"""

import io
import os
import select
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import cycle

from PIL import Image

from benchmarks.references.receiving import receive, reply

Finish = Callable[[Image.Image], bytes]


def decode(data: memoryview, side: int) -> Image.Image:
    """Do what Pillow alone does, without the copy that `convert` makes of an image that is RGB already."""
    image = Image.open(io.BytesIO(data))
    return (image if image.mode == "RGB" else image.convert("RGB")).resize((side, side), Image.Resampling.BILINEAR)


class Decoder:
    """A thread, and the connections that it serves. `finish` returns the body of the answer for a scaled image."""

    def __init__(self, side: int, finish: Finish) -> None:
        self._side, self._finish = side, finish
        self._poll = select.epoll()
        self._connections: dict[int, socket.socket] = {}
        threading.Thread(target=self._serve, daemon=True).start()

    def add(self, connection: socket.socket) -> None:
        self._connections[connection.fileno()] = connection
        self._poll.register(connection, select.EPOLLIN)

    def _serve(self) -> None:
        buffer = memoryview(bytearray(1 << 22))
        while True:
            for descriptor, _ in self._poll.poll():
                connection = self._connections[descriptor]
                received = receive(connection, buffer)
                if received is None:
                    del self._connections[descriptor]
                    connection.close()
                else:
                    reply(connection, self._finish(decode(received[1], self._side)))


def serve(side: int, finishes: Sequence[Finish]) -> None:
    """Serve with a thread for each of `finishes`."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"port {listener.getsockname()[1]}", flush=True)
    for decoder in cycle([Decoder(side, finish) for finish in finishes]):
        decoder.add(listener.accept()[0])


def main() -> None:
    serve(int(sys.argv[1]), [lambda image: b"{}" for _ in os.sched_getaffinity(0)])


if __name__ == "__main__":
    main()
