"""Requests that benchmarks.load_generator sends, and the process in which it runs."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hpack import Encoder

from benchmarks.h2load import Load, Run
from benchmarks.load_generator import RECORD
from benchmarks.servers import ROOT, on_cores, other_cores


@dataclass(frozen=True)
class Prepared:
    """file: requests in the load generator's format."""

    protocol: str
    port: int
    file: Path


@dataclass(frozen=True)
class GeneratorRun(Run):
    """cpu_seconds: what the load generator itself needed."""

    cpu_seconds: float


def prepare(loads: Sequence[Load], file: Path) -> Prepared:
    """Write these requests to the file. They all go to one server, over one protocol."""
    records = _calls(loads) if loads[0].grpc else [(http_head(load), load.body) for load in loads]
    with file.open("wb") as out:
        for head, body in records:
            out.write(RECORD.pack(len(head), len(body)) + head + body)
    return Prepared("grpc" if loads[0].grpc else "http", urlsplit(loads[0].url).port, file)


def http_head(load: Load) -> bytes:
    """Return the request's head. The fields that every client adds are added if they are missing."""
    url = urlsplit(load.url)
    fields = dict(load.headers)
    present = {name.lower() for name in fields}
    added = {"host": url.netloc, "user-agent": "benchmark", "content-length": str(len(load.body))}
    fields = {name: value for name, value in added.items() if name not in present} | fields
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {url.path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def grpc_fields(load: Load) -> dict[str, str]:
    """Return the header fields of the call. Those of a captured call are complete."""
    if ":path" in load.headers:
        return load.headers
    url = urlsplit(load.url)
    return {
        ":method": "POST", ":scheme": "http", ":path": url.path, ":authority": url.netloc,
        "te": "trailers", "content-type": "application/grpc", "user-agent": "benchmark", **load.headers,
    }  # fmt: skip


def _calls(loads: Sequence[Load]) -> list[tuple[bytes, bytes]]:
    """Return the HPACK block and the message of each call, preceded by those of a connection's first call.

    As with real clients, the first call enters the fields that all calls have in common into the server's table, and
    later ones refer to them; the other fields are literals that no table takes. So the blocks after the first do not
    depend on each other.
    """
    every = [grpc_fields(load) for load in loads]
    common = set(every[0].items()).intersection(*(fields.items() for fields in every))
    encoder = Encoder()

    def call(load: Load, fields: dict[str, str]) -> tuple[bytes, bytes]:
        block = encoder.encode([(*field, field not in common) for field in fields.items()], huffman=False)
        return block, b"\0" + len(load.body).to_bytes(4, "big") + load.body

    first = call(loads[0], every[0])
    return [first, *map(call, loads, every)]


class Generator:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def connect(self, prepared: Prepared, in_flight: int, streams: int = 8) -> None:
        """Open new connections in place of those that are open, to send these requests.

        streams: the calls of one gRPC channel at a time; 8 is a plausible number for one client process
        """
        self._command([prepared.protocol, prepared.port, str(prepared.file), in_flight, streams])

    def run(self, count: int) -> GeneratorRun:
        """Send `count` requests. Raises RuntimeError unless all succeed."""
        self._command(count)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator failed; its message is above")
        return GeneratorRun(**json.loads(line))

    def _command(self, command: list[object] | int) -> None:
        assert self._process.stdin is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)


@contextmanager
def generator() -> Iterator[Generator]:
    """Start a load generator on the cores that are not the servers'."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load_generator"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=on_cores(other_cores()),
    ) as process:  # it ends when its standard input is closed
        yield Generator(process)
