"""Attacks on the REST port that need many connections or much data, rather than strange requests.

    python -m audit.hostile.floods [--connections 10000] [--seconds 45] [-- FLAGS OF SERVE]

Each attack is held for `--seconds`, longer than the time that a server gives headers. Meanwhile a client that behaves
sends requests on new connections. The exit code is 1 if that client got a wrong answer or waited for 10 seconds, the
front needed more than MAX_MIB, or connections were left at the end.
"""

import argparse
import asyncio
import gzip
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from audit.hostile.corpus import write_models
from audit.hostile.neighbour import TIMEOUT_S, Neighbour
from benchmarks.memory import MIB, held
from benchmarks.report import table
from gateway.process.file_limit import raise_open_files
from tests.support.gateway_process import Gateway, start_gateway

# What a front may need beyond what it needed before the attack. 10,000 connections take about 10 KiB each; answers that
# nobody reads and bodies that are being received have limits of their own.
MAX_MIB = 400.0
_MAX_DESCRIPTORS_LEFT = 8
_SETTLE_S = 15.0
_TOGETHER = 100
_HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\n"

Hold = Callable[[], Awaitable[None]]
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(address: str, count: int) -> list[Client]:
    host, _, port = address.rpartition(":")
    clients: list[Client] = []
    while len(clients) < count:
        some = min(_TOGETHER, count - len(clients))
        clients += await asyncio.gather(*[asyncio.open_connection(host, int(port)) for _ in range(some)])
    return clients


async def _outcomes(clients: Sequence[Client]) -> Counter[str]:
    """Return what the server has done with each connection so far: "open", "closed", or the status that it sent."""
    counted: Counter[str] = Counter()
    for reader, writer in clients:
        try:
            async with asyncio.timeout(0.001):
                line = await reader.readline()
            outcome = line[9:12].decode() if line else "closed"
        except TimeoutError:
            outcome = "open"
        except OSError:
            outcome = "closed"
        counted[outcome] += 1
        writer.transport.abort()
    return counted


async def _drip(clients: Sequence[Client], hold: Hold) -> Counter[str]:
    """Send a byte on each connection now and then."""

    async def send() -> None:
        while True:
            for _, writer in clients:
                if not writer.is_closing():
                    writer.write(b"a")
            await asyncio.sleep(1)

    sending = asyncio.create_task(send())
    await hold()
    sending.cancel()
    return await _outcomes(clients)


async def silent(address: str, count: int, hold: Hold) -> Counter[str]:
    """Connections on which nothing is sent."""
    clients = await _connect(address, count)
    await hold()
    return await _outcomes(clients)


async def slow_heads(address: str, count: int, hold: Hold) -> Counter[str]:
    """Slowloris: headers that arrive byte by byte."""
    clients = await _connect(address, count)
    for _, writer in clients:
        writer.write(_HEAD + b"X: ")
    return await _drip(clients, hold)


async def slow_bodies(address: str, count: int, hold: Hold) -> Counter[str]:
    """Bodies that arrive byte by byte."""
    clients = await _connect(address, count)
    for _, writer in clients:
        writer.write(_HEAD + b"Content-Length: 5000\r\n\r\n")
    return await _drip(clients, hold)


async def endless_heads(address: str, count: int, hold: Hold) -> Counter[str]:
    """Headers, alternately one long and many short ones, and chunk extensions, until the server has enough."""
    starts = (
        (_HEAD + b"X: ", b"y" * 1000),
        (_HEAD, b"X-%d: y\r\n" * 100 % tuple(range(100))),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"e" * 1000),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"X: y\r\n" * 100),
    )

    async def send(number: int) -> Client:
        ((reader, writer),) = await _connect(address, 1)
        start, more = starts[number % len(starts)]
        with suppress(OSError):
            writer.write(start)
            for _ in range(1000):  # a megabyte at most
                writer.write(more)
                await writer.drain()
                if reader.at_eof() or reader._buffer:  # type: ignore[attr-defined]
                    break
        return reader, writer

    counted: Counter[str] = Counter()
    for first in range(0, count, _TOGETHER):
        clients = await asyncio.gather(*[send(number) for number in range(first, min(first + _TOGETHER, count))])
        await asyncio.sleep(0.1)
        counted += await _outcomes(clients)
    await hold()
    return counted


async def bombs(address: str, count: int, hold: Hold) -> Counter[str]:
    """Bodies of 64 KiB that decompress to 64 MiB, in each of which another one is packed."""
    once = gzip.compress(bytes(64 << 20), 9)
    bodies = (
        once,
        gzip.compress(once * 40, 9),
        gzip.compress(b"") * 3000,
        gzip.compress(b"[" * (32 << 20)),
    )
    paths = (b"/v2/models/m/infer", b"/predict/m", b"/v1/models/m:predict", b"/predictions/m", b"/v2/repository/index")
    counted: Counter[str] = Counter()

    async def send(number: int) -> None:
        ((reader, writer),) = await _connect(address, 1)
        body = bodies[number % len(bodies)]
        encoding = b"deflate" if number % 7 == 6 else b"gzip"
        writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\n" % paths[number % len(paths)])
        writer.write(b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (encoding, len(body)) + body)
        line = await reader.readline()
        counted[line[9:12].decode()] += 1
        writer.transport.abort()

    for first in range(0, count, _TOGETHER):
        await asyncio.gather(*[send(number) for number in range(first, min(first + _TOGETHER, count))])
    await hold()
    return counted


async def unread(address: str, count: int, hold: Hold) -> Counter[str]:
    """Requests with answers of a few MiB that are not read, and pipelined requests whose answers are not read."""
    clients = await _connect(address, count)
    text = json.dumps({"inputs": [[0.123456789] * 4] * 16, "filler": ""}).encode()
    many = _HEAD + b"Content-Length: %d\r\n\r\n" % len(text) + text
    # The document that describes the API is the largest answer to a request that costs a client nothing.
    large = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
    for number, (reader, writer) in enumerate(clients):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write((many if number % 2 else large) * 500)
    await hold()
    counted: Counter[str] = Counter()
    for _, writer in clients:
        counted["closed" if writer.is_closing() else "open"] += 1
        writer.transport.abort()
    return counted


# Each attack, and its share of the connections of the largest.
ATTACKS = {
    silent: 1.0, slow_heads: 0.5, slow_bodies: 0.2, endless_heads: 0.1, bombs: 0.02, unread: 0.02,
}  # fmt: skip


@dataclass
class Result:
    """outcomes: what became of each connection. peak: of the front's memory, in bytes above what it was."""

    name: str
    count: int
    outcomes: Counter[str]
    peak: int = 0
    descriptors: tuple[int, int] = (0, 0)
    requests: int = 0
    slowest_s: float = 0.0
    stalled_s: float = 0.0
    problems: list[str] = field(default_factory=list)


def flood(
    gateway: Gateway, attack: Callable[[str, int, Hold], Awaitable[Counter[str]]], count: int, seconds: float
) -> Result:
    """Attack the only front. The attack is held until `seconds` have passed and the neighbour was served 8 times."""
    (front,) = gateway.front_pids()
    neighbour = Neighbour(gateway.http, gateway.grpc, {})
    before = held(front)
    result = Result(attack.__name__, count, Counter())
    neighbour.start()

    async def hold() -> None:
        began, first = time.monotonic(), neighbour.requests
        while time.monotonic() < began + seconds or neighbour.requests < first + 8:
            await asyncio.sleep(0.05)
            result.peak = max(result.peak, held(front).pss - before.pss)

    async def run() -> Counter[str]:
        return await attack(gateway.http, count, hold)

    result.outcomes = uvloop.run(run())
    neighbour.stop()
    ends_at = time.monotonic() + _SETTLE_S
    while (
        after := held(front)
    ).descriptors > before.descriptors + _MAX_DESCRIPTORS_LEFT and time.monotonic() < ends_at:
        time.sleep(0.1)
    result.descriptors = (before.descriptors, after.descriptors)
    result.requests, result.slowest_s, result.stalled_s = neighbour.requests, neighbour.slowest, neighbour.stalled
    result.problems = [*neighbour.wrong[:5], *_harm(gateway, result, front)]
    return result


def _harm(gateway: Gateway, result: Result, front: int) -> list[str]:
    found = []
    if result.slowest_s > TIMEOUT_S + result.stalled_s:
        found.append(f"the neighbour waited {result.slowest_s:.1f} s")
    if result.peak > MAX_MIB * MIB:
        found.append(f"the front needed {result.peak / MIB:.0f} MiB more")
    if result.descriptors[1] > result.descriptors[0] + _MAX_DESCRIPTORS_LEFT:
        found.append("connections were left: {} descriptors became {}".format(*result.descriptors))
    if gateway.front_pids() != [front]:
        found.append("the front was replaced")
    return found + [line for line in gateway.log if "Traceback" in line or " ERROR " in line][:5]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("flags", nargs="*", help="further flags of modelport serve")
    options = parser.parse_args(arguments)
    raise_open_files()
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        write_models(Path(scratch) / "repository")
        gateway = start_gateway(Path(scratch) / "repository", Path(scratch), *options.flags)
        try:
            gateway.wait_ready()
            results = [
                flood(gateway, attack, int(options.connections * share), options.seconds)
                for attack, share in ATTACKS.items()
            ]
        finally:
            gateway.close()
    head = ["attack", "connections", "became", "front, MiB more", "neighbour's requests", "slowest, s"]
    rows = [
        [
            each.name.replace("_", " "),
            str(each.count),
            ", ".join(f"{count} {outcome}" for outcome, count in sorted(each.outcomes.items())),
            f"{each.peak / MIB:.0f}",
            str(each.requests),
            f"{each.slowest_s:.2f}",
        ]
        for each in results
    ]
    problems = [f"{each.name}: {problem}" for each in results for problem in each.problems]
    print(table(head, rows) + "\n\n" + "\n".join(problems or ["Others were served, and nothing was left."]))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
