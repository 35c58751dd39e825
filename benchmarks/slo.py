"""Goodput by load for a model with a latency target, on a real gateway.

    python -m benchmarks.slo [--seconds 10] [--target 100] [--svg slo.svg] [--bursty]

A fake model sleeps 10 ms per batch and 1 ms per row, so that it takes no core from the gateway; each request has one
row. Its capacity is that of the best offline batch, 32 rows in 42 ms. Clients send at fractions of it in an open
loop, regardless of the responses. Goodput is the rate of responses with 200 within the target, as the client sees it.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import table
from tests.support.gateway_process import start_gateway
from tests.support.model_repositories import add_fake

PER_BATCH_S, PER_ROW_S, ROWS = 0.010, 0.001, 32
CAPACITY = ROWS / (PER_BATCH_S + ROWS * PER_ROW_S)
LOADS = (0.3, 0.6, 0.85, 1.0, 1.2, 1.5, 2.0)
BODY = json.dumps({"inputs": [[1.0, 2.0, 3.0, 4.0]]}).encode()


@dataclass
class Outcome:
    """The result of one load. seconds: the latencies of responses with 200."""

    load: float
    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def in_time(self, target_s: float) -> int:
        return sum(took <= target_s for took in self.seconds)


class Clients:
    """Keep-alive connections, as many as are needed at a time."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._head = (
            f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
        ).encode()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, outcome: Outcome) -> None:
        began = time.perf_counter()
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._head + BODY)
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        await reader.readexactly(length)
        took, status = time.perf_counter() - began, int(head[9:12])
        self._idle.append((reader, writer))
        outcome.statuses[status] += 1
        if status == 200:
            outcome.seconds.append(took)


def arrivals(rate: float, seconds: float, rng: random.Random, bursty: bool) -> list[float]:
    """Return the arrival times: Poisson, or groups of 1 to 15 at a time."""
    times, now = [], 0.0
    while (now := now + rng.expovariate(rate / 8 if bursty else rate)) < seconds:
        times += [now] * (rng.randint(1, 15) if bursty else 1)
    return times


async def offer(clients: Clients, load: float, seconds: float, bursty: bool) -> Outcome:
    outcome, tasks = Outcome(load), set()
    began = time.perf_counter()
    for at in arrivals(load * CAPACITY, seconds, random.Random(int(load * 100)), bursty):
        await asyncio.sleep(max(began + at - time.perf_counter(), 0))
        task = asyncio.ensure_future(clients.send(outcome))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        outcome.sent += 1
    await asyncio.gather(*tasks)
    return outcome


async def measure(port: int, seconds: float, bursty: bool) -> list[Outcome]:
    clients = Clients(port, "/predict/m")
    await offer(clients, 0.3, min(seconds, 2.0), bursty)  # connections, and the worker's curve
    return [await offer(clients, load, seconds, bursty) for load in LOADS]


def plot(every: list[Outcome], seconds: float, target_s: float) -> str:
    """Return an SVG of goodput and, for comparison, the offered load, both as shares of the capacity."""
    width, height, margin = 560, 360, 48
    most = max(LOADS)

    def at(load: float, share: float) -> str:
        x = margin + load / most * (width - 2 * margin)
        y = height - margin - share / most * (height - 2 * margin)
        return f"{x:.1f},{y:.1f}"

    done = [(outcome.load, outcome.in_time(target_s) / seconds / CAPACITY) for outcome in every]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<polyline points="{at(0, 0)} {at(most, most)}" fill="none" stroke="#bbb" stroke-dasharray="4"/>',
        f'<polyline points="{at(0, 1)} {at(most, 1)}" fill="none" stroke="#bbb"/>',
        f'<polyline points="{" ".join(at(*point) for point in done)}" fill="none" stroke="#06c" stroke-width="2"/>',
        f'<polyline points="{at(0, most)} {at(0, 0)} {at(most, 0)}" fill="none" stroke="black"/>',
    ]
    for load in LOADS:
        x, y = at(load, 0).split(",")
        parts.append(f'<text x="{x}" y="{float(y) + 16}" text-anchor="middle">{load}</text>')
    for share in (0.5, 1.0, 1.5, 2.0):
        x, y = at(0, share).split(",")
        parts.append(f'<text x="{float(x) - 6}" y="{float(y) + 4}" text-anchor="end">{share}</text>')
    for load, share in done:
        x, y = at(load, share).split(",")
        parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="#06c"/>')
    parts.append(f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">offered load, of the capacity</text>')
    parts.append(
        f'<text x="{width / 2}" y="20" text-anchor="middle">answered within {target_s * 1e3:g} ms, of the capacity'
        " (dashed: offered)</text>"
    )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each load")
    parser.add_argument("--target", type=float, default=126.0, help="milliseconds; three full batches")
    parser.add_argument("--bursty", action="store_true", help="groups of 1 to 15 at once")
    parser.add_argument("--svg", type=Path, default=Path("slo.svg"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        repository = Path(scratch) / "models"
        toml = f"max_batch_size = {ROWS}\nlatency_target_ms = {options.target}\n"
        add_fake(repository, "m", toml=toml, seconds_per_batch=PER_BATCH_S, seconds_per_row=PER_ROW_S)
        gateway = start_gateway(repository, Path(scratch))
        try:
            port = int(gateway.wait_ready().http.split(":")[1])
            every = asyncio.run(measure(port, options.seconds, options.bursty))
        finally:
            gateway.close()
    target_s = options.target / 1e3
    rows = []
    for outcome in every:
        answered, in_time = len(outcome.seconds), outcome.in_time(target_s)
        rows.append(
            [
                f"{outcome.load:g}",
                f"{outcome.sent / options.seconds:.0f}",
                f"{in_time / options.seconds:.0f}",
                f"{in_time / options.seconds / CAPACITY:.2f}",
                f"{in_time / max(answered + outcome.statuses[504], 1):.4f}",
                f"{outcome.statuses[429] / max(outcome.sent, 1):.3f}",
                f"{outcome.statuses[504] / max(outcome.sent, 1):.3f}",
                f"{statistics.quantiles(outcome.seconds, n=100)[98] * 1e3:.0f}" if answered > 1 else "",
            ]
        )
    kind = "groups of 1 to 15" if options.bursty else "Poisson"
    print(f"capacity {CAPACITY:.0f} rows/s, target {options.target:g} ms, {kind}, {options.seconds:g} s each\n")
    head = ["load", "offered/s", "in time/s", "of capacity", "in time of admitted", "429", "504", "p99 ms"]
    print(table(head, rows))
    options.svg.write_text(plot(every, options.seconds, target_s))


if __name__ == "__main__":
    main()
