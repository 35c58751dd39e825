"""What each process of a server under measurement costs: CPU time, and how often it was switched to or from."""

import os
import re
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.servers import Server

_ROLES = {"gateway.front": "front", "gateway serve": "supervisor"}
_TRANSPORT = "grpc-native-io"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """cpu: with nanosecond resolution. user, system: in ticks of 10 ms. All three in seconds."""

    cpu: float = 0.0
    user: float = 0.0
    system: float = 0.0
    switches: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.cpu + other.cpu,
            self.user + other.user,
            self.system + other.system,
            self.switches + other.switches,
        )

    def since(self, earlier: "Cost") -> "Cost":
        return self + Cost(-earlier.cpu, -earlier.user, -earlier.system, -earlier.switches)


def costs(server: Server) -> dict[str, Cost]:
    """Return what the server's current processes have cost so far, by their role.

    A process that serves gRPC has a role for each kind of thread: the event loop, the transport in Rust, and the
    others, of which one hands calls from the transport to the loop.
    """
    found: dict[str, Cost] = {}
    for process in server.tree():
        with suppress(psutil.NoSuchProcess, FileNotFoundError):  # it has just ended
            command = " ".join(process.cmdline())
            other = "server" if process.pid == server.process.pid else "worker"
            role = next((role for words, role in _ROLES.items() if words in command), other)
            threads = _threads(process.pid)
            serves_grpc = any(name == _TRANSPORT for name, _ in threads.values())
            for number, (name, cost) in threads.items():
                part = role
                if serves_grpc and number != process.pid:
                    part = f"{role}: gRPC transport" if name == _TRANSPORT else f"{role}: other threads"
                found[part] = found.get(part, Cost()) + cost
    return found


def _threads(pid: int) -> dict[int, tuple[str, Cost]]:
    """Return name and cost of the process's current threads."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # the thread has just ended
            cpu = int((task / "schedstat").read_text().split()[0]) / 1e9
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
            user, system = (int(ticks) / _TICKS for ticks in rest.split()[11:13])
            switches = sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text())))
            found[int(task.name)] = name, Cost(cpu, user, system, switches)
    return found


@dataclass(frozen=True)
class PerRequest:
    """The costs of one round, by the process's role."""

    costs: Mapping[str, Cost]
    requests: int


def summary(rounds: Sequence[PerRequest]) -> list[list[str]]:
    """Return role, CPU µs per request (median and minimum), the kernel's share, context switches per request."""
    rows = []
    for role in rounds[0].costs:
        every = [(each.costs[role], each.requests) for each in rounds if role in each.costs]
        cpu = [cost.cpu / requests * 1e6 for cost, requests in every]
        system, ticks = (sum(value) for value in zip(*[(c.system, c.system + c.user) for c, _ in every], strict=True))
        switches = statistics.median(cost.switches / requests for cost, requests in every)
        share = f"{system / ticks:.0%}" if ticks else ""
        rows.append([role, f"{statistics.median(cpu):.1f}", f"{min(cpu):.1f}", share, f"{switches:.2f}"])
    return rows
