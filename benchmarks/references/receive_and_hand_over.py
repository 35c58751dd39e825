"""Receives an input over HTTP in one process and runs the model on it in another, with nothing else in between.

    python -m benchmarks.references.receive_and_hand_over MODEL.onnx

The bytes are received into memory that both processes map, so they are not copied. What passes between the processes
is where the input is, and the output. Compared with receive_and_run, it shows what a model in a process of its own
costs any server: two more switches between processes, and the caches of one that has slept while the model ran.
"""

import mmap
import os
import socket
import struct
import sys

import numpy as np

from benchmarks.references.receiving import BINARY_AFTER, number, receive, reply

_RANGE = struct.Struct("<QQ")
_MOST_OUTPUT = 1 << 20


def run(model_path: str, shared: mmap.mmap, requests: socket.socket) -> None:
    """Answer each range of the shared memory with the model's output, until the receiver has ended."""
    from benchmarks.references.serve import session

    model = session(model_path)
    entry = model.get_inputs()[0]
    requests.send(b"ready")
    while message := requests.recv(_RANGE.size):
        start, size = _RANGE.unpack(message)
        rows = np.frombuffer(shared, np.float32, size // 4, start).reshape(-1, *entry.shape[1:])
        (output,) = model.run(None, {entry.name: rows})
        requests.send(output.tobytes())


def main() -> None:
    shared = mmap.mmap(-1, 1 << 25)
    worker, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if not os.fork():
        worker.close()
        run(sys.argv[1], shared, requests)
        return
    requests.close()
    worker.recv(5)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"port {listener.getsockname()[1]}", flush=True)
    buffer = memoryview(shared)
    output = memoryview(bytearray(_MOST_OUTPUT))  # used again, because a new one has new pages
    while True:
        connection, _ = listener.accept()
        with connection:
            while received := receive(connection, buffer):
                head, body = received
                end = len(head) + 4 + len(body)
                values = len(body) - number(head, BINARY_AFTER)
                worker.send(_RANGE.pack(end - values, values))
                reply(connection, output[: worker.recv_into(output)])


if __name__ == "__main__":
    main()
