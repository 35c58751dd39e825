"""Receives and decodes images like receive_and_decode, and hands them over to a process that averages them.

    python -m benchmarks.references.decode_and_hand_over SIDE

The values are written as float32 into memory that both processes map, so they are not copied. What passes between the
processes is which image to read, and its averages. Compared with receive_and_decode, it shows what a model in a process
of its own costs any server, even if the model hardly computes anything. While an image is read, its thread waits, so
there is one thread more than there are cores.
"""

import mmap
import os
import select
import socket
import sys

import numpy as np
from PIL import Image

from benchmarks.references.receive_and_decode import Finish, serve

_CHANNELS = 3


def average(images: np.ndarray, requests: list[socket.socket]) -> None:
    """Answer each message on the socket of an image with the averages of its channels."""
    poll = select.epoll()
    by_descriptor = {each.fileno(): (each, image) for each, image in zip(requests, images, strict=True)}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            request, image = by_descriptor[descriptor]
            if not request.recv(1):
                return
            request.send(image.mean((1, 2)).tobytes())


def handing_over(image: np.ndarray, reader: socket.socket) -> Finish:
    def finish(scaled: Image.Image) -> bytes:
        pixels = np.asarray(scaled)
        for channel in range(_CHANNELS):
            np.copyto(image[channel], pixels[..., channel], casting="unsafe")
        reader.send(b"\0")
        return reader.recv(64)

    return finish


def main() -> None:
    side = int(sys.argv[1])
    threads = len(os.sched_getaffinity(0)) + 1
    shared = mmap.mmap(-1, threads * _CHANNELS * side * side * 4)
    images = np.frombuffer(shared, np.float32).reshape(threads, _CHANNELS, side, side)
    readers, requests = zip(*[socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in images], strict=True)
    if not os.fork():
        for reader in readers:
            reader.close()
        average(images, list(requests))
        return
    for request in requests:
        request.close()
    serve(side, [handing_over(image, reader) for image, reader in zip(images, readers, strict=True)])


if __name__ == "__main__":
    main()
