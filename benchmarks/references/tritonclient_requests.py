"""Sends requests with the real tritonclient, so that benchmarks/captured.py records what it puts on the wire.

It needs a separate environment: python -m venv client && client/bin/pip install 'tritonclient[http,grpc]'

    client/bin/python benchmarks/references/tritonclient_requests.py v2_json|v2_binary|grpc PORT ROWS.npy

ROWS has the shape [count, 16]; each row is one request for the model "tiny". The answers are not looked at.
"""

import contextlib
import sys

import numpy as np


def main():
    dialect, port, rows = sys.argv[1:]
    if dialect == "grpc":
        import tritonclient.grpc as triton

        binary, asked = {}, {}
    else:
        import tritonclient.http as triton

        binary = asked = {"binary_data": dialect == "v2_binary"}
    from tritonclient.utils import InferenceServerException

    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    for number, row in enumerate(np.load(rows)):
        tensor = triton.InferInput("x", [1, len(row)], "FP32")
        tensor.set_data_from_numpy(row[None], **binary)
        output = triton.InferRequestedOutput("y", **asked)
        with contextlib.suppress(InferenceServerException):  # the recorder answers with an error
            client.infer("tiny", [tensor], outputs=[output], request_id=f"request-{number}")


if __name__ == "__main__":
    main()
