"""A server under measurement: its processes on their own cores, and their CPU time."""

import os
import re
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

ROOT = Path(__file__).parent.parent
_START_S = 600.0  # the first start may have to build environments


def first_core() -> set[int]:
    """Return the cores for servers."""
    return {min(os.sched_getaffinity(0))}


def other_cores() -> set[int]:
    """Return the cores for load generators; the servers' core if the machine has only one."""
    every = os.sched_getaffinity(0)
    return every - first_core() or every


def on_cores(cores: set[int]) -> Callable[[], None]:
    """Return a preexec_fn for Popen."""
    return lambda: os.sched_setaffinity(0, cores)


@dataclass
class Server:
    """ports: name → port, as parsed from its output. log: its output so far."""

    name: str
    process: "subprocess.Popen[str]"
    ports: dict[str, int] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all current processes and threads, with nanosecond resolution."""
        return sum(cpu_seconds(process.pid) for process in self.tree())


def cpu_seconds(pid: int, threads: Sequence[int] = ()) -> float:
    """Return the CPU seconds of the process's current threads, or of these; the first one has the process's id.

    Reads schedstat, in which Linux counts nanoseconds; other files count ticks of 10 ms.
    """
    total = 0
    tasks = Path(f"/proc/{pid}/task")
    for task in [tasks / str(thread) for thread in threads] or tasks.iterdir():
        with suppress(OSError):  # the thread has just ended
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


@contextmanager
def serving(
    name: str,
    command: Sequence[str],
    ports: dict[str, str],
    ready: Sequence[str],
    cores: set[int],
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Server]:
    """Start the server. Wait until each pattern of `ready` was in its output, and find its `ports` (name → pattern)."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder or ROOT,
        env={**os.environ, **(environment or {})},
        preexec_fn=on_cores(cores),
    )
    server = Server(name, process)
    try:
        _await(server, ports, list(ready))
        yield server
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(server: Server, ports: dict[str, str], ready: list[str]) -> None:
    output = server.process.stdout
    assert output is not None
    ends_at = time.monotonic() + _START_S
    for line in _lines(output, ends_at):
        server.log.append(line)
        for name, pattern in ports.items():
            if found := re.search(pattern, line):
                server.ports[name] = int(found[1])
        ready = [pattern for pattern in ready if not re.search(pattern, line)]
        if not ready and len(server.ports) == len(ports):
            break
    else:
        raise RuntimeError(f"{server.name} did not start:\n{''.join(server.log[-20:])}")
    _drain_in_background(server, output)


def _lines(output: IO[str], ends_at: float) -> Iterator[str]:
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while (left := ends_at - time.monotonic()) > 0 and selector.select(left):
            # Not readline(), which buffers further lines that select() does not see.
            data = os.read(output.fileno(), 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace") + "\n"


def _drain_in_background(server: Server, output: IO[str]) -> None:
    """Keep reading, because a server blocks when its pipe is full."""
    threading.Thread(target=lambda: server.log.extend(output), daemon=True).start()


@contextmanager
def gateway(
    repository: Path,
    *arguments: str,
    models: Sequence[str] = (),
    cores: set[int] | None = None,
    checkout: Path | None = None,
) -> Iterator[Server]:
    """Start a gateway over this repository on free ports, with all features; yields it once `models` are READY.

    checkout: another checkout of modelport, with it installed in .venv.
    """
    python = sys.executable if checkout is None else str(checkout / ".venv" / "bin" / "python")
    command = [
        python, "-m", "gateway", "serve", str(repository),
        "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0", *arguments,
    ]  # fmt: skip
    ready = [rf"{re.escape(model)} version \S+ is READY" for model in models]
    ports = {"http": r"REST on https?://127\.0\.0\.1:(\d+)", "grpc": r"gRPC on 127\.0\.0\.1:(\d+)"}
    # Checkouts before 2026-12 say "settled".
    patterns = [*ready, "startup is complete|settled", "gateway: serving"]
    with serving("modelport", command, ports, patterns, cores or first_core(), folder=checkout) as server:
        yield server


@contextmanager
def reference(
    name: str, *arguments: str, cores: set[int] | None = None, ports: Sequence[str] = ("port",), python: str = ""
) -> Iterator[Server]:
    """Start one of benchmarks/references, which print "port N" (and others of `ports`) when they serve.

    python: the interpreter for one that needs its own environment.
    """
    if python:
        command = [python, str(ROOT / "benchmarks" / "references" / f"{name}.py"), *arguments]
    else:
        command = [sys.executable, "-m", f"benchmarks.references.{name}", *arguments]
    patterns = {port: rf"^{port} (\d+)" for port in ports}
    with serving(name, command, patterns, [], cores or first_core()) as server:
        yield server


@contextmanager
def tritonserver(python: str, artifact: Path) -> Iterator[Server]:
    """Start benchmarks/references/tritonserver.py with an interpreter that has its packages."""
    command = [python, str(ROOT / "benchmarks" / "references" / "tritonserver.py"), str(artifact)]
    ports = {"http": r"^http (\d+)", "grpc": r"^grpc (\d+)"}
    # It starts on all cores, because on one it exceeds its own time limits.
    with serving("tritonserver", command, ports, ["^serving"], os.sched_getaffinity(0)) as server:
        for process in server.tree():
            for thread in process.threads():
                os.sched_setaffinity(thread.id, first_core())
        yield server
