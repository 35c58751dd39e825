"""Closed-loop load by h2load (Debian's nghttp2-client), which needs a tenth of the servers' CPU time."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.servers import on_cores, other_cores


@dataclass(frozen=True)
class Load:
    """One request to repeat. grpc: whether `body` is a gRPC message; otherwise, the request is HTTP/1.1."""

    url: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    grpc: bool = False


@dataclass(frozen=True)
class Run:
    """The result of one run. latencies: in seconds, in ascending order."""

    seconds: float
    latencies: list[float]

    @property
    def count(self) -> int:
        return len(self.latencies)

    def percentile(self, percent: float) -> float:
        return self.latencies[min(int(self.count * percent / 100), self.count - 1)]


def run(load: Load, count: int, in_flight: int) -> Run:
    """Send `count` requests, with `in_flight` at a time. Raises RuntimeError unless all succeed."""
    program = shutil.which("h2load")
    if program is None:
        raise RuntimeError("h2load is missing; on Debian, apt install nghttp2-client")
    headers = dict(load.headers)
    body = load.body
    protocol = ["--h1"]
    clients, streams = in_flight, 1
    if load.grpc:
        headers.update({"content-type": "application/grpc", "te": "trailers"})
        body = b"\0" + len(body).to_bytes(4, "big") + body
        protocol = []
        # One gRPC channel carries many calls; 8 is a plausible number of channels for one client process.
        clients, streams = (in_flight // 8, 8) if in_flight >= 8 else (1, in_flight)
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder, "body"), Path(folder, "log")
        data.write_bytes(body)
        command = [program, *protocol, f"-n{count}", f"-c{clients}", f"-m{streams}", "-t1", "-w20", "-W24"]
        command += [f"-d{data}", f"--log-file={log}"]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        done = subprocess.run(
            [*command, load.url],
            capture_output=True,
            text=True,
            timeout=30,
            preexec_fn=on_cores(other_cores()),
        )
        duration = re.search(r"finished in ([\d.]+)(us|ms|s|m|h)\b", done.stdout)
        good = re.search(r"(\d+) succeeded", done.stdout)
        if not duration or not good or int(good[1]) != count:
            raise RuntimeError(f"h2load had errors:\n{done.stdout}{done.stderr}")
        seconds = float(duration[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}[duration[2]]
        latencies = sorted(int(line.split("\t")[2]) / 1e6 for line in log.read_text().splitlines())
    return Run(seconds, latencies)
