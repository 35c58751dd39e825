"""The bare path of a request, to measure what front → Unix socket → worker → front costs in Python.

python -m benchmarks.references.sketch MODEL.onnx

It serves one model, whose single input and output have one row each. It does not validate, limit, time, count or cancel
requests, and it does not handle errors. It is a lower bound for the gateway, not a real server. The model runs in a
separate process, as in the gateway.
"""

import asyncio
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import uvloop

from benchmarks.references.serve import session

_HEADER = struct.Struct("<IQ")  # number of bytes that follow, request id
_MAX_BATCH = 32
_INPUT_BYTES = 64  # of the tiny model; only gRPC needs to know
_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_BINARY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n"
    b"inference-header-content-length: %d\r\ncontent-length: %d\r\n\r\n%b%b"
)
# A ModelInferResponse: model_name "tiny", model_version "1", output "y", FP32 of [1, 4], and the tag of its bytes.
_GRPC = b"\n\x04tiny\x12\x011*\x0d\n\x01y\x12\x04FP32\x1a\x02\x01\x042\x10"

Done = Callable[[bytes], None]
# Head of a request → the length of the JSON in its body (-1: the whole body), and the length of the body.
HEADS: dict[bytes, tuple[int, int]] = {}


def frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return the complete frames in `data` as (request id, body), and the remaining bytes."""
    found, start = [], 0
    while len(data) - start >= _HEADER.size:
        size, number = _HEADER.unpack_from(data, start)
        body = start + _HEADER.size
        if len(data) - body < size:
            break
        found.append((number, data[body : body + size]))
        start = body + size
    return found, data[start:]


def work(sock: socket.socket, path: str) -> None:
    """Repeatedly run all requests that have arrived as one batch, until the front disconnects."""
    model, rest = session(path), b""
    entry = model.get_inputs()[0]
    name, shape = entry.name, (-1, *entry.shape[1:])
    while data := sock.recv(1 << 16):
        arrived, rest = frames(rest + data)
        for start in range(0, len(arrived), _MAX_BATCH):
            batch = arrived[start : start + _MAX_BATCH]
            rows = np.frombuffer(b"".join([row for _, row in batch]), np.float32).reshape(shape)
            (output,) = model.run(None, {name: rows})
            answer, size = output.tobytes(), 4 * output.shape[1]
            sock.sendall(
                b"".join(
                    [
                        _HEADER.pack(size, number) + answer[index * size : (index + 1) * size]
                        for index, (number, _) in enumerate(batch)
                    ]
                )
            )


class Worker(asyncio.Protocol):
    """The front's end of the socket. All frames that are sent in one turn of the event loop are written together."""

    def __init__(self) -> None:
        self._waiting: dict[int, Done] = {}
        self._out: list[bytes] = []
        self._last, self._rest = 0, b""

    def connection_made(self, transport: Any) -> None:
        self._transport, self._loop = transport, asyncio.get_running_loop()

    def send(self, row: bytes, done: Done) -> None:
        self._last += 1
        self._waiting[self._last] = done
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += [_HEADER.pack(len(row), self._last), row]

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out = []

    def data_received(self, data: bytes) -> None:
        arrived, self._rest = frames(self._rest + data)
        for number, answer in arrived:
            self._waiting.pop(number)(answer)


class Http(asyncio.Protocol):
    """A connection for v2 JSON and v2 binary, without pipelining. Each distinct head is parsed only once."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._rest = worker, b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = HEADS.get(head)
        if lengths is None:
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            names = b"inference-header-content-length", b"content-length"
            lengths = HEADS[head] = tuple(int(fields.get(name, -1)) for name in names)
        json_length, length = lengths
        self._rest = b"" if len(body) >= length else data
        if self._rest:
            return
        if json_length >= 0:
            orjson.loads(body[:json_length])
            self._worker.send(body[json_length:], self._answer_binary)
        else:
            values = orjson.loads(body)["inputs"][0]["data"]
            self._worker.send(struct.pack(f"<{len(values)}f", *values), self._answer_json)

    def _answer_json(self, answer: bytes) -> None:
        count = len(answer) // 4
        body = orjson.dumps(_described(count, {"data": struct.unpack(f"<{count}f", answer)}))
        self._transport.write(_JSON % (len(body), body))

    def _answer_binary(self, answer: bytes) -> None:
        size = len(answer)
        text = orjson.dumps(_described(size // 4, {"parameters": {"binary_data_size": size}}))
        self._transport.write(_BINARY % (len(text), len(text) + size, text, answer))


def _described(count: int, more: dict[str, Any]) -> dict[str, Any]:
    output = {"name": "y", "datatype": "FP32", "shape": [1, count], **more}
    return {"model_name": "tiny", "model_version": "1", "outputs": [output]}


server: Any  # the gRPC server, which stops when nothing refers to it


async def serve_grpc(worker: Worker) -> int:
    """Serve ModelInfer over the transport that the gateway uses."""
    import grpc
    from pygrpc_native.aio import Server

    class Native(Server):
        def _on_events(self, events: list[Any]) -> None:
            for _, call, _, message, *_ in events:
                start = message.index(b":@") + 2  # raw_input_contents, of 64 bytes
                respond = self._front.respond
                worker.send(
                    message[start : start + _INPUT_BYTES],
                    lambda answer, call=call, respond=respond: respond(call, _GRPC + answer),
                )
            events.clear()

    async def unused(request: bytes, context: object) -> bytes:
        return b""

    global server
    server = Native(options=[], io_threads=1)
    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(unused)}
    server.add_registered_method_handlers("inference.GRPCInferenceService", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return int(port)


async def serve(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    worker = Worker()
    await loop.create_unix_connection(lambda: worker, sock=sock)
    http = await loop.create_server(lambda: Http(worker), "127.0.0.1", 0)
    print(f"grpc {await serve_grpc(worker)}\nport {http.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        work(theirs, sys.argv[1])
        os._exit(0)
    theirs.close()
    uvloop.run(serve(ours))


if __name__ == "__main__":
    main()
