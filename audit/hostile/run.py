"""Sends hostile requests to every port of a gateway, and looks for harm.

    python -m audit.hostile.run [--count 1000000] [--seed 1] [--identities] [--state FILE] [-- FLAGS OF SERVE]

Most are valid requests of every dialect with parts changed: bytes, JSON values, fields of messages, headers, paths and
frames. Request N of a seed is always the same, so that one that did harm can be sent again. With `--state`, a run that
was interrupted continues. Meanwhile a client that behaves uses another model.

The exit code is 1 if the server answered with a 5xx (other than 501 and 504, and 503 for the model that requests
unload; INTERNAL or UNKNOWN over gRPC), did not answer a well-formed request, logged an exception, lost a process, or
grew; or if the neighbour got a wrong answer, or one after 10 seconds.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import uvloop

from audit.hostile.corpus import (
    KEYS,
    NEIGHBOUR,
    NEIGHBOUR_KEY,
    SPARE,
    http_requests,
    metrics_requests,
    write_identities,
    write_models,
)
from audit.hostile.grpc_door import GrpcDoor
from audit.hostile.http_door import HttpDoor
from audit.hostile.neighbour import TIMEOUT_S, Neighbour
from audit.hostile.tally import Tally
from benchmarks.memory import MIB, Held, held
from benchmarks.report import table
from tests.support.gateway_process import Gateway, start_gateway

_CLIENTS = 24
_SHARES = {"rest": 0.8, "grpc": 0.17, "metrics": 0.03}
# The growth allowed for each process after the warm-up. A front returns free memory to the system when it has 32 MiB of
# it (gateway/process/memory.py), and its caches fill slowly, with what clients choose.
_MAX_GROWTH = 48 * MIB
_MAX_DESCRIPTORS = 4
# After each part, the memory is read; the first ones are the warm-up.
_PARTS = 10
_WARM_PARTS = 2
_SETTLE_S = 20.0


@dataclass
class Result:
    """before and after: pid → what it holds, after the warm-up and at the end; growth: after each part."""

    tally: Tally
    names: dict[int, str]
    before: dict[int, Held]
    after: dict[int, Held]
    growth: list[dict[int, Held]]
    requests: int = 0
    slowest_s: float = 0.0
    stalled_s: float = 0.0
    problems: list[str] = field(default_factory=list)


def attack(
    gateway: Gateway,
    tally: Tally,
    count: int,
    seed: int,
    state: Path | None = None,
    identities: bool = False,
    frames: bool = True,
) -> Result:
    """Send requests up to number `count` to a gateway that serves the models of `write_models`.

    identities: whether it has those of `write_identities`
    frames: whether to send connections to the gRPC port that are no valid HTTP/2
    """
    names = processes(gateway)
    neighbour = Neighbour(
        gateway.http, gateway.grpc, {"Authorization": f"Bearer {NEIGHBOUR_KEY}"} if identities else {}
    )
    neighbour.start()
    keys = KEYS if identities else ()
    first = tally.next
    growth: list[dict[int, Held]] = []
    for part in range(1, _PARTS + 1):
        until = first + (count - first) * part // _PARTS
        uvloop.run(_send(gateway, tally, until, seed, state, keys, frames))
        _load_spare(gateway, identities)
        growth.append({pid: held(pid) for pid in names if Path(f"/proc/{pid}").exists()})
    before = growth[_WARM_PARTS - 1]
    neighbour.stop()
    after = _settled(before)
    result = Result(tally, names, before, after, growth, neighbour.requests, neighbour.slowest, neighbour.stalled)
    result.problems = [*tally.failures, *neighbour.wrong[:10], *_harm(gateway, result)]
    if neighbour.slowest > TIMEOUT_S + neighbour.stalled:
        result.problems.append(f"the neighbour waited {neighbour.slowest:.1f} s for an answer")
    return result


async def _send(
    gateway: Gateway, tally: Tally, until: int, seed: int, state: Path | None, keys: Sequence[str], frames: bool
) -> None:
    rest = HttpDoor("REST", gateway.http, http_requests(), tally, keys)
    metrics = HttpDoor("metrics", gateway.metrics, metrics_requests(), tally)
    calls = GrpcDoor(gateway.grpc, tally, keys, frames)
    doors: dict[str, HttpDoor | GrpcDoor] = {"rest": rest, "metrics": metrics, "grpc": calls}

    async def client() -> None:
        while (number := tally.next) < until:
            tally.next += 1
            rng = Random(seed << 40 | number)
            (door,) = rng.choices(list(_SHARES), list(_SHARES.values()))
            await doors[door].send(number, rng)
            if state is not None and number % 10_000 == 0:
                tally.save(state)
        for door in (rest, metrics):
            await door.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(_CLIENTS):
            group.create_task(client())
    await calls.close()
    if state is not None:
        tally.save(state)


def processes(gateway: Gateway) -> dict[int, str]:
    """Return pid → name of the supervisor, the fronts, and a worker that no hostile request may reload."""
    found = {gateway.process.pid: "supervisor"}
    for name, pids in (("front", gateway.front_pids()), ("worker", gateway.worker_pids(NEIGHBOUR))):
        found.update(dict.fromkeys(pids, name))
    return found


def _load_spare(gateway: Gateway, identities: bool) -> None:
    """Load the model that requests unload: a process counts what it holds of it, its worker's pipes for example."""
    headers = {"Authorization": f"Bearer {KEYS[1]}"} if identities else {}
    reply = gateway.post(f"/v2/repository/models/{SPARE}/load", b"{}", headers)
    if reply.status != 200:
        raise RuntimeError(f"the model '{SPARE}' could not be loaded: {reply.status} {reply.body!r}")


def _settled(before: dict[int, Held]) -> dict[int, Held]:
    """Return what the processes hold once closed connections are gone, and freed memory was returned."""
    ends_at = time.monotonic() + _SETTLE_S
    while True:
        after = {pid: held(pid) for pid in before if Path(f"/proc/{pid}").exists()}
        if not any(_grew(before[pid], after[pid]) for pid in after) or time.monotonic() > ends_at:
            return after
        time.sleep(0.2)


def _grew(before: Held, after: Held) -> bool:
    return after.pss > before.pss + _MAX_GROWTH or after.descriptors > before.descriptors + _MAX_DESCRIPTORS


def _harm(gateway: Gateway, result: Result) -> list[str]:
    found = [
        f"{result.names[pid]} grew from {before.pss / MIB:.1f} to {after.pss / MIB:.1f} MiB and from "
        f"{before.descriptors} to {after.descriptors} descriptors"
        for pid, before in result.before.items()
        if (after := result.after.get(pid)) is not None and _grew(before, after)
    ]
    if (now := processes(gateway)) != result.names:
        found.append(f"the processes were {result.names} and are {now}")
    bad = [line for line in gateway.log if "Traceback" in line or " ERROR " in line]
    return [*found, *bad[:5]]


def report(result: Result, seconds: float) -> str:
    rows = [[door, outcome, str(count)] for (door, outcome), count in sorted(result.tally.outcomes.items())]
    held_rows = [
        [name, *_figures(result.before.get(pid)), *_figures(result.after.get(pid))]
        for pid, name in result.names.items()
    ]
    lines = [
        f"{result.tally.count} requests, {seconds:.0f} s; the neighbour sent {result.requests}, and waited "
        f"{result.slowest_s:.2f} s at most. This process was delayed by {result.stalled_s:.2f} s at most.",
        table(["door", "outcome", "count"], rows),
        table(["process", "PSS MiB, warm", "descriptors", "PSS MiB, at the end", "descriptors"], held_rows),
        "PSS in MiB, after each part: " + "; ".join(_growth(result)) + ".",
        *(result.problems or ["No harm was done."]),
    ]
    return "\n\n".join(lines)


def _growth(result: Result) -> Iterator[str]:
    for pid, name in result.names.items():
        sizes = [part[pid].pss / MIB for part in result.growth if pid in part]
        yield f"{name} {', '.join(f'{size:.0f}' for size in sizes)}"


def _figures(each: Held | None) -> list[str]:
    return ["ended", ""] if each is None else [f"{each.pss / MIB:.1f}", str(each.descriptors)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--grpc-server", default="native", help="with grpcio, all HTTP/2 is valid")
    parser.add_argument("--identities", action="store_true", help="with API keys, and an audit log")
    parser.add_argument("--state", type=Path, help="file that keeps the counts, so that a run can be continued")
    parser.add_argument("flags", nargs="*", help="further flags of modelport serve")
    options = parser.parse_args(arguments)
    tally = Tally() if options.state is None else Tally.load(options.state)
    # A frame that grpc.aio cannot read may end its server: docs/security.md.
    frames = options.grpc_server != "grpcio"
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        write_models(Path(scratch) / "repository")
        flags = ["--grpc-server", options.grpc_server, "--shared-memory", *options.flags]
        if options.identities:
            flags += ["--identities", str(write_identities(Path(scratch))), "--audit-log", f"{scratch}/audit.jsonl"]
        gateway = start_gateway(Path(scratch) / "repository", Path(scratch), *flags)
        try:
            result = attack(
                gateway.wait_ready(), tally, options.count, options.seed, options.state, options.identities, frames
            )
        finally:
            gateway.close()
    print(report(result, time.monotonic() - began))
    sys.exit(bool(result.problems))


if __name__ == "__main__":
    main()
