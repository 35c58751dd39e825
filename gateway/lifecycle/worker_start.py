"""What a worker's process is started with, and the usual way to start one: as a program of its own."""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from logging import Logger
from pathlib import Path

import runtimes
from gateway.process.child import Child
from runtimes.sandbox.box import Box

MAIN = Path(runtimes.__file__).parent / "worker" / "__main__.py"


@dataclass(frozen=True)
class WorkerStart:
    """control: where it gets LOAD. listener: where fronts connect. environment: all of its variables.

    box: None if it has none. reports: where it sends the descriptor for denied calls; None without a box
    """

    control: socket.socket
    listener: socket.socket
    status_path: Path
    environment: Mapping[str, str]
    box: Box | None = None
    reports: socket.socket | None = None

    @property
    def descriptors(self) -> list[int]:
        sockets = [self.control, self.listener, *([self.reports] if self.reports else [])]
        return [each.fileno() for each in sockets]


async def spawn(python: Path, start: WorkerStart, log: Logger) -> Child:
    """Raises OSError."""
    box = start.box
    if box is not None and start.reports is not None:
        box = box._replace(reports=start.reports.fileno())
    command = [str(python), "-I", "-u", str(MAIN), str(os.getpid())]
    command += [str(start.control.fileno()), str(start.listener.fileno()), str(start.status_path)]
    command.append(json.dumps(box.to_json()) if box else "")
    return await Child.spawn(command, log, start.descriptors, start.environment)
