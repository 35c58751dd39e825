"""Connections: whether the gateway holds 10,000 idle ones, and what they cost an active client.

Each connection has made one request. Two gateways take turns under load, one with the connections and one without,
both on one core. The gateway starts with the usual soft limit of 1024 descriptors, and has to raise it. Idle
connections are closed after 75 s, so each sends a request between rounds.
"""

import contextlib
import resource
import socket
import statistics
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks import models, requests
from benchmarks.h2load import Load
from benchmarks.memory import MIB, Held, held, pids
from benchmarks.overhead import ROW, Contender
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.scale_bench import Bench
from benchmarks.servers import gateway
from gateway.process.file_limit import raise_open_files

_MANY, _MANY_IN_SHORT = 10_000, 2_000
_SAMPLE = 100  # at the end, one of every 100 connections sends a request
_USUAL_LIMIT = 1024
_IN_FLIGHT = 32
_TOGETHER = 64  # idle connections that send a request at the same time


class Idle:
    """Keep-alive connections, each of which occasionally sends the request of `load`."""

    def __init__(self, load: Load) -> None:
        self._load = load
        path = load.url.split("/", 3)[3]
        head = [f"POST /{path} HTTP/1.1", "host: x", f"content-length: {len(load.body)}"]
        head += [f"{name}: {value}" for name, value in load.headers.items()]
        self._request = "\r\n".join([*head, "", ""]).encode() + load.body
        self._sockets: list[socket.socket] = []

    def open(self, count: int) -> None:
        port = int(self._load.url.split(":")[2].split("/")[0])
        while len(self._sockets) < count:
            some = min(_TOGETHER, count - len(self._sockets))
            self._sockets += [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(some)]
            self.ask(self._sockets[-some:])

    def ask(self, sockets: list[socket.socket] | None = None) -> int:
        """Send one request on each connection, in groups. Return how many were answered with 200."""
        every, good = (self._sockets if sockets is None else sockets), 0
        for start in range(0, len(every), _TOGETHER):
            some = every[start : start + _TOGETHER]
            for each in some:
                with contextlib.suppress(OSError):  # a closed connection is detected by its missing answer
                    each.sendall(self._request)
            good += sum(map(_answered, some))
        return good

    def sample(self) -> list[socket.socket]:
        return self._sockets[::_SAMPLE]

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def _answered(connection: socket.socket) -> bool:
    try:
        answer = connection.recv(1 << 16)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        while answer and len(body) < length:
            answer = connection.recv(1 << 16)
            body += answer
    except (OSError, StopIteration):
        return False
    return head.startswith(b"HTTP/1.1 200 ") and len(body) == length


def measure(bench: Bench) -> str:
    count = _MANY_IN_SHORT if bench.short else _MANY
    models.tiny_mlp(bench.folder / "tiny" / "1" / "model.onnx")
    cores = set(bench.cores[:1])
    with ExitStack() as stack:
        with _usual_limit():
            free, holding = (stack.enter_context(gateway(bench.folder, models=["tiny"], cores=cores)) for _ in range(2))
        if raise_open_files() < count + 256:
            return (
                f"{count} connections could not be measured: a process may have only {raise_open_files()} descriptors."
            )
        loaded, without = (Contender(s, requests.v2_binary(s.ports["http"], "tiny", ROW)) for s in (holding, free))
        for each in (loaded, without):
            each.measure(bench.seconds, _IN_FLIGHT)  # until memory use is stable
            each.rates, each.cpu_us, each.p50_us, each.p99_us = [], [], [], []
        (front,) = pids(holding, "front-")
        before = held(front)
        idle = Idle(requests.predict_json(holding.ports["http"], "tiny", ROW))
        stack.callback(idle.close)
        idle.open(count)
        opened = held(front)
        answered = []
        turns = [loaded, without]
        for _ in range(bench.rounds):
            for each in turns:
                each.measure(bench.seconds, _IN_FLIGHT)
            turns.reverse()
            answered.append(idle.ask())
        (still,) = pids(holding, "front-")
        after = held(front)
        sample = idle.sample()
        good = idle.ask(sample)
    assert still == front, "the front was replaced"
    lines = [
        f"{count} connections. Answers on all of them, by round: {', '.join(map(str, answered))}; of every"
        f" {_SAMPLE}th at the end: {good} of {len(sample)}. The front has {after.descriptors} descriptors.",
        _memory(before, opened, after, count),
        _cost(count, loaded, without),
    ]
    return "\n\n".join(lines)


def _memory(before: Held, opened: Held, after: Held, count: int) -> str:
    rows = [
        [name, f"{each.uss / MIB:.1f}", f"{each.pss / MIB:.1f}", f"{(each.uss - before.uss) / count / 1024:.1f}"]
        for name, each in (("before", before), ("opened", opened), ("after the load", after))
    ]
    return table(["the front's MiB", "USS", "PSS", "KiB per connection"], rows)


def _cost(count: int, loaded: Contender, without: Contender) -> str:
    rows = [
        [
            "none",
            median_and_spread(without.cpu_us),
            "",
            f"{statistics.median(without.rates):.0f}",
            median_and_spread(without.p99_us, 0),
        ]
    ]
    against = ratio(loaded.cpu_us, without.cpu_us)
    rate = f"{statistics.median(loaded.rates):.0f}"
    rows.append([f"with {count}", median_and_spread(loaded.cpu_us), against, rate, median_and_spread(loaded.p99_us, 0)])
    return table(["other connections", "CPU µs per request", "relative to none", "requests/s", "p99 µs"], rows)


@contextlib.contextmanager
def _usual_limit() -> Iterator[None]:
    """Lower the soft limit, so that processes started in this context inherit the one they would get from a shell."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_USUAL_LIMIT, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
