"""The memory of each process of a gateway with one tiny model: idle after its start, and after 10,000 requests.

    python -m benchmarks.memory [--short] [--old CHECKOUT]

Memory is PSS as it would be if the gateway were alone on the machine: a page of a file counts once, divided by the
number of the gateway's processes that map it, even if other programs map it too. Linux only.

This module also has what other benchmarks need: the memory, descriptors and threads of a process, and the roles of a
gateway's processes.
"""

import argparse
import os
import re
import struct
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import h2load, models, requests
from benchmarks.report import table
from benchmarks.servers import Server, gateway

MIB = 1 << 20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PLACE = (1 << 55) - 1  # the bits of the page frame number in an entry of pagemap
_MAX_MIB = 70
_ROW = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16)
_IN_FLIGHT = 32
_ROLES = ("supervisor", "front", "zygote", "worker")
_PRIVATE = "memory that is no file (Python objects, heaps, stacks, changed pages of libraries)"
# What clients of most gateways ask for besides inference.
_PATHS = ("/v2/health/ready", "/v2/models/tiny", "/v2/models/tiny/config", "/v2/models/tiny/stats", "/v1/models/tiny")


@dataclass(frozen=True)
class Held:
    """Sizes in bytes. rss: all mapped pages; pss: shared pages divided by their number of users; uss: private pages."""

    rss: int
    pss: int
    uss: int
    descriptors: int
    threads: int


def held(pid: int) -> Held:
    """Return what the process holds. Raises OSError if it has ended."""
    fields = dict(re.findall(r"^(\w+): +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    sizes = {name: int(kib) << 10 for name, kib in fields.items()}
    uss = sizes["Private_Clean"] + sizes["Private_Dirty"]
    descriptors, threads = (len(os.listdir(f"/proc/{pid}/{folder}")) for folder in ("fd", "task"))
    return Held(sizes["Rss"], sizes["Pss"], uss, descriptors, threads)


def processes(server: Server) -> dict[int, str]:
    """Return pid → name in the metrics ("supervisor", "front-1", "worker-MODEL-VERSION") for a gateway's processes."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports['http']}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return {int(pid): name for pid, name in re.findall(r'_open_fds{pid="(\d+)",process="([^"]+)"', text)}


def pids(server: Server, kind: str) -> list[int]:
    """Return the pids of processes whose name begins with `kind`: "supervisor", "front-", "worker-"."""
    return [pid for pid, name in processes(server).items() if name.startswith(kind)]


def alone(pids: dict[str, int]) -> dict[str, Counter[str]]:
    """Return, for each name of a process, the bytes that it has of its own and of each file, as described above."""
    pages = {name: list(_pages(pid)) for name, pid in pids.items()}
    users = Counter(page for every in pages.values() for page in set(every) if any(page))
    sizes: dict[str, Counter[str]] = {}
    for name, every in pages.items():
        sizes[name] = Counter()
        for page in every:
            sizes[name][page[0] or _PRIVATE] += _PAGE / users.get(page, 1)
    return sizes


def _used(pid: int) -> Counter[str]:
    """Return the bytes of the pages that a process has used since its references were cleared. Shared ones count.

    A page of a file counts even if only another program has used it. On a machine with other gateways, the figure is
    therefore too high.
    """
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return Counter({"": int(re.search(r"^Referenced: +(\d+) kB", text, re.MULTILINE)[1]) << 10})


def _pages(pid: int) -> Iterator[tuple[str, int]]:
    """Yield the file and the offset of each mapped page of a process.

    For one that is not a file's: "" and its place in memory, because a worker shares such pages with the process that
    it is a copy of. The place is 0 for users who may not know it; then, such pages count as the worker's own.
    """
    with open(f"/proc/{pid}/pagemap", "rb") as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, _, offset, _, inode, *path = line.split(None, 5)
            begin, end = (int(each, 16) for each in span.split("-"))
            if path == ["[vsyscall]"]:
                continue
            pagemap.seek(begin // _PAGE * 8)
            entries = struct.unpack(f"<{(end - begin) // _PAGE}Q", pagemap.read((end - begin) // _PAGE * 8))
            for number, entry in enumerate(entries):
                if entry >> 63:  # the page is present; bit 61 says whether it is a file's
                    is_file = entry >> 61 & 1 and inode != "0"
                    yield (path[0], int(offset, 16) + number * _PAGE) if is_file else ("", entry & _PLACE)


def _measure(folder: Path, short: bool, checkout: Path | None) -> Iterator[tuple[str, dict[str, Counter[str]]]]:
    """Yield when the processes were measured, and what `alone` returned."""
    with gateway(folder, models=["tiny"], cores=os.sched_getaffinity(0), checkout=checkout) as server:
        port = server.ports["http"]
        roles = {name.partition("-")[0]: pid for pid, name in processes(server).items()}
        assert sorted(roles) in (sorted(_ROLES), sorted({*_ROLES} - {"zygote"})), roles
        yield "after the start", alone(roles)
        loads = [make(port, "tiny", _ROW) for make in (requests.predict_json, requests.v2_json, requests.v2_binary)]
        loads.append(requests.v2_grpc(server.ports["grpc"], "tiny", _ROW))
        for load in loads:
            h2load.run(load, 250 if short else 2500, _IN_FLIGHT)
        for path in _PATHS:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60).read()
        yield "after the requests", alone(roles)
        for pid in roles.values():
            Path(f"/proc/{pid}/clear_refs").write_text("1")
        for load in loads:
            h2load.run(load, 500, _IN_FLIGHT)
        yield "pages that 2,000 more requests use", {role: _used(pid) for role, pid in roles.items()}
        urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=60).read()
        yield "after the documentation", alone(roles)


def _totals(measured: dict[str, dict[str, Counter[str]]]) -> str:
    rows = []
    for when, sizes in measured.items():
        held_by = [sizes.get(role, Counter[str]()) for role in _ROLES]  # older gateways have no zygotes
        totals = [each.total() for each in held_by]
        private = [each[_PRIVATE] for each in held_by]
        pairs = zip([*totals, sum(totals)], [*private, sum(private)], strict=True)
        cells = [f"{total / MIB:.1f} ({own / MIB:.1f})" if own else f"{total / MIB:.1f}" for total, own in pairs]
        rows.append([when, *cells])
    return table(["MiB of PSS (of that, not of files)", *_ROLES, "all"], rows)


def _contents(sizes: dict[str, Counter[str]], count: int) -> str:
    largest = sum(sizes.values(), Counter()).most_common(count)
    rows = [
        [Path(name).name if name.startswith("/") else name, *(f"{sizes[role][name] / MIB:.1f}" for role in _ROLES)]
        for name, _ in largest
    ]
    return table(["MiB", *_ROLES], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="1,000 requests instead of 10,000")
    parser.add_argument("--old", type=Path, help="another checkout of modelport, with it installed in .venv")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # otherwise, every process compiles what it imports
    with tempfile.TemporaryDirectory() as folder:
        models.tiny_mlp(Path(folder, "tiny", "1", "model.onnx"))
        measured = dict(_measure(Path(folder), options.short, None))
        if options.old:
            old = dict(_measure(Path(folder), options.short, options.old.absolute()))
            measured |= {f"{options.old.name}, {when}": sizes for when, sizes in old.items()}
    print(_totals(measured))
    total = sum(sizes.total() for sizes in measured["after the requests"].values()) / MIB
    print(f"\nafter the requests: {total:.1f} MiB, at most {_MAX_MIB}: {'met' if total <= _MAX_MIB else 'missed'}\n")
    print(_contents(measured["after the requests"], 14))


if __name__ == "__main__":
    main()
