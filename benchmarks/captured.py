"""Requests as a client puts them on the wire, recorded by a server on loopback that answers each with an error."""

import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hpack import Decoder, Encoder

from benchmarks.h2load import Load
from benchmarks.prepared import http_head
from benchmarks.servers import ROOT

_HTTP_ANSWER = (
    b'HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{"error":"recorded"}'
)
_PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8
_WAIT_S = 60.0


def tritonclient(python: Path, dialect: str, rows: np.ndarray) -> list[Load]:
    """Return tritonclient's requests for the model "tiny", one for each row. Their URLs have the recorder's port.

    python: an interpreter with tritonclient. dialect: v2_json, v2_binary or grpc.
    """
    script = ROOT / "benchmarks" / "references" / "tritonclient_requests.py"
    with tempfile.NamedTemporaryFile(suffix=".npy") as file, recording(grpc=dialect == "grpc") as (port, found):
        np.save(file, rows)
        file.flush()
        subprocess.run([str(python), str(script), dialect, str(port), file.name], check=True, timeout=_WAIT_S)
    if len(found) != len(rows):
        raise RuntimeError(f"tritonclient sent {len(found)} requests of {len(rows)}")
    return found


@contextmanager
def recording(*, grpc: bool) -> Iterator[tuple[int, list[Load]]]:
    """Yield the recorder's port, and a list that holds all requests once the client is done."""
    found: list[Load] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        recorder = threading.Thread(
            target=_accept, args=(listener, _record_grpc if grpc else _record_http, found), daemon=True
        )
        recorder.start()
        try:
            yield listener.getsockname()[1], found
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # accept() returns
            recorder.join(_WAIT_S)


def _accept(listener: socket.socket, record: Callable[[socket.socket], Iterator[Load]], found: list[Load]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # shut down
            return
        with connection:
            connection.settimeout(_WAIT_S)
            found.extend(record(connection))


def _record_http(connection: socket.socket) -> Iterator[Load]:
    while data := connection.recv(1 << 16):
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = next(int(value) for name, value in headers.items() if name.lower() == "content-length")
        host = next(value for name, value in headers.items() if name.lower() == "host")
        load = Load(f"http://{host}{first.split()[1]}", body, headers)
        # The load generator sends each request by one call, so that a client that does not is not recorded faithfully.
        if len(body) != length or http_head(load) + body != data:
            raise RuntimeError(f"this request cannot be repeated exactly: {data[:1000]!r}")
        connection.sendall(_HTTP_ANSWER)
        yield load


def _record_grpc(connection: socket.socket) -> Iterator[Load]:
    with connection.makefile("rb") as stream:
        stream.read(_PREFACE)
        connection.sendall(_frame(_SETTINGS, 0, 0) + _frame(_WINDOW_UPDATE, 0, 0, (1 << 24).to_bytes(4, "big")))
        decoder, encoder = Decoder(), Encoder()
        calls: dict[int, tuple[dict[str, str], bytearray]] = {}
        while len(head := stream.read(9)) == 9:
            body = stream.read(int.from_bytes(head[:3], "big"))
            kind, flags, number = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind in (_SETTINGS, _PING) and not flags & 1:
                connection.sendall(_frame(kind, 1, 0, body if kind == _PING else b""))
            elif kind == _HEADERS:
                if flags & 4 == 0 or flags & 8:
                    raise RuntimeError(f"HEADERS with flags {flags} are not supported")
                fields = decoder.decode(body[5:] if flags & 32 else body)
                calls[number] = {str(name): str(value) for name, value in fields}, bytearray()
            elif kind == _DATA:
                calls[number][1].extend(body)
                if flags & 1:
                    headers, message = calls.pop(number)
                    answer = encoder.encode(
                        [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")]
                    )
                    connection.sendall(_frame(_HEADERS, 1 | 4, number, answer))
                    yield Load(
                        f"http://{headers[':authority']}{headers[':path']}", bytes(message[5:]), headers, grpc=True
                    )


def _frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body
