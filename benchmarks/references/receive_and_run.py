"""Receives an input over HTTP and runs the model on it: one process, one blocking connection at a time, nothing else.

    python -m benchmarks.references.receive_and_run MODEL.onnx

It does not parse, check, limit or time requests, and the model is not isolated from the network. It shows what the
kernel takes to move the bytes of a large input, and what the model takes once its caches are no longer its own. The
input is float32; its bytes are the end of the body, as in v2 with binary data.
"""

import socket
import sys

import numpy as np

from benchmarks.references.receiving import BINARY_AFTER, number, receive, reply
from benchmarks.references.serve import session


def main() -> None:
    model = session(sys.argv[1])
    entry = model.get_inputs()[0]
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"port {listener.getsockname()[1]}", flush=True)
    buffer = memoryview(bytearray(1 << 25))
    while True:
        connection, _ = listener.accept()
        with connection:
            while received := receive(connection, buffer):
                head, body = received
                values = body[number(head, BINARY_AFTER) :]
                rows = np.frombuffer(values, np.uint8).view(np.float32).reshape(-1, *entry.shape[1:])
                (output,) = model.run(None, {entry.name: rows})
                reply(connection, output.tobytes())


if __name__ == "__main__":
    main()
