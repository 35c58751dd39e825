"""Twenty minutes of mixed load over all frameworks, with reloads: does anything grow?

    python -m benchmarks.soak [--minutes 20] [--short] [--rate 150] [--plot soak.svg]

Each model of model_repo/ is there twice: `digits_X` lives from start to end, so a leak in its worker
has time to show; `reloaded_X` is loaded anew again and again, by a changed file or by unload and
load. Memory, descriptors and threads of each process are read every few seconds; the first quarter
is warm-up and does not count. The exit code is 1 if something grew by more than MOST_* over the rest,
if an answer was not as it must be, or if a process stayed behind. Two minutes show that it works, and
gross leaks: processes are still warming up then.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from benchmarks.memory import MIB, Held, processes
from benchmarks.report import table
from benchmarks.servers import ROOT, Server, gateway
from benchmarks.soak_load import Client, Tally, Target
from benchmarks.soak_plot import plot
from benchmarks.soak_watch import Trend, Watch, trend

FRONTS = 2
CLIENTS = 16
RELOAD_S = 20.0
# What may be gained from the end of the warm-up to the end: noise is less, a leak worth the name is more.
MAX_MIB, MAX_SHARE = 2.0, 0.01
MAX_DESCRIPTORS = 4.0
MAX_THREADS = 2.0
_LEAVE_S = 30.0


async def soak(
    server: Server, repository: Path, names: list[str], seconds: float, rate: float
) -> tuple[Watch, Tally, int]:
    """What was watched, what was answered, and how many reloads there were."""
    target = Target(server.ports["http"], server.ports["grpc"], names)
    watch, tally = Watch(server), Tally()
    stop = asyncio.Event()
    clients = [asyncio.create_task(Client(target, tally, seed).run(CLIENTS / rate, stop)) for seed in range(CLIENTS)]
    turns = [name for name in names if name.startswith("reloaded_")]
    period, reload_s = min(5.0, seconds / 60), min(RELOAD_S, seconds / 8)
    reloads, next_reload = 0, reload_s
    try:
        while (now := time.monotonic() - watch.began) < seconds:
            await asyncio.sleep(period)
            await asyncio.to_thread(watch.sample)
            if next_reload <= now < seconds - reload_s:
                turn, which = divmod(reloads, len(turns))
                # Each has it one way in one turn and the other way in the next, however many there are.
                await (_touch, _reload)[(turn + which) % 2](target, repository, turns[which])
                next_reload += reload_s
                reloads += 1
    finally:
        stop.set()
        await asyncio.gather(*clients)
    return watch, tally, reloads


async def _touch(target: Target, repository: Path, model: str) -> None:
    """A file of it is newer: it is loaded anew beside the old one, and no request may fail."""
    os.utime(next(path for path in sorted((repository / model / "1").rglob("*")) if path.is_file()))


async def _reload(target: Target, repository: Path, model: str) -> None:
    """Unload and load; meanwhile nobody asks for it."""
    target.models.remove(model)
    try:
        await asyncio.sleep(1)  # what is in progress is answered
        for verb in ("unload", "load"):
            url = f"http://127.0.0.1:{target.http}/v2/repository/models/{model}/{verb}"
            request = urllib.request.Request(url, data=b"{}", method="POST")
            (await asyncio.to_thread(urllib.request.urlopen, request, timeout=120)).close()
    finally:
        target.models.append(model)


def left_over(watch: Watch) -> list[str]:
    """Processes that should have gone: waited for, since a worker that was replaced may take its time."""
    ends_at = time.monotonic() + _LEAVE_S
    while True:
        named = processes(watch.server)
        alone = set({name: pid for pid, name in named.items()}.values())  # one for each name
        found = [
            f"{each.pid} ({named.get(each.pid, 'unknown to the metrics')})"
            for each in watch.server.tree()
            if each.pid not in alone
        ]
        if not found or time.monotonic() > ends_at:
            return found
        time.sleep(0.5)


def judge(watch: Watch, warm_s: float) -> tuple[list[list[str]], list[str]]:
    """The table's rows, and what grew."""
    rows, grew = [], []
    for name, points in sorted(watch.series.items()):
        warm = [(seconds, held) for seconds, held in points if seconds >= warm_s]
        if len(warm) < 4:
            continue
        row = [name, str(watch.lives(name))]
        for figure, unit in (("uss", MIB), ("pss", MIB), ("descriptors", 1), ("threads", 1)):
            found = trend([(seconds, getattr(held, figure) / unit) for seconds, held in warm])
            row.append(_told(found, unit))
            if found.rise > _most(figure, found):
                grew.append(f"{name}: {figure} grew by {found.rise:.1f} ({found.per_hour:+.1f} an hour)")
        rows.append(row)
    return rows, grew


def _most(figure: str, found: Trend) -> float:
    if figure in ("descriptors", "threads"):
        return MAX_DESCRIPTORS if figure == "descriptors" else MAX_THREADS
    return max(MAX_MIB, MAX_SHARE * found.first)


def _told(found: Trend, unit: int) -> str:
    digits = 1 if unit == MIB else 0
    return f"{found.first:.{digits}f} → {found.last:.{digits}f} ({found.per_hour:+.1f}/h)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--short", action="store_true", help="2 minutes")
    parser.add_argument("--rate", type=float, default=150.0, help="requests a second, of all kinds together")
    parser.add_argument("--plot", type=Path, help="where to write an SVG of memory over time")
    options = parser.parse_args()
    seconds = 120.0 if options.short else options.minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        for model in sorted((ROOT / "model_repo").iterdir()):
            for name in (model.name, model.name.replace("digits_", "reloaded_")):
                shutil.copytree(model, repository / name)
        names = sorted(each.name for each in repository.iterdir())
        arguments = ["--fronts", str(FRONTS)]
        with gateway(repository, *arguments, models=names, cores=os.sched_getaffinity(0)) as server:
            watch, tally, reloads = asyncio.run(soak(server, repository, names, seconds, options.rate))
            problems = [f"stayed behind: {each}" for each in left_over(watch)]
        stayed = [f"outlived the gateway: {pid} ({name})" for pid, name in watch.pids.items() if psutil.pid_exists(pid)]
    rows, grew = judge(watch, seconds / 4)
    problems += stayed + grew + surprises(server, watch, tally, reloads)
    print(
        f"{seconds / 60:g} minutes, {sum(tally.outcomes.values())} requests, {reloads} reloads; after a quarter of it\n"
    )
    head = ["process", "lives", "USS MiB", "PSS MiB", "descriptors", "threads"]
    print(table(head, rows))
    counted = [[kind, outcome, str(count)] for (kind, outcome), count in sorted(tally.outcomes.items())]
    print("\n" + table(["request", "came to", "times"], counted))
    print("\n" + "\n".join(problems or ["Nothing grew, every answer was as it must be, and nothing stayed behind."]))
    if options.plot:
        memory = {name: [(at, _mib(each)) for at, each in points] for name, points in watch.series.items()}
        options.plot.write_text(plot(memory, seconds / 4, "PSS in MiB; dashed: the end of the warm-up"))
    sys.exit(bool(problems))


def _mib(held: Held) -> float:
    return held.pss / MIB


def surprises(server: Server, watch: Watch, tally: Tally, reloads: int) -> list[str]:
    """What is not growth, and should not have been."""
    found = [f"unexpected: {kind} came to {what}, {n} times" for (kind, what), n in sorted(tally.unexpected.items())]
    found += [
        f"{name} was replaced {watch.lives(name) - 1} times"
        for name in sorted(set(watch.pids.values()))
        if "reloaded_" not in name and watch.lives(name) > 1
    ]
    loaded = sum("reloaded_" in line and " is READY" in line for line in server.log)
    asked = reloads + sum("reloaded_" in name for name in set(watch.pids.values()))
    if loaded != asked:
        found.append(f"{asked} loads were asked for, {loaded} were done")
    errors = [line.strip() for line in server.log if " ERROR " in line or "Traceback" in line]
    if errors:
        found.append(f"{len(errors)} lines of the log are errors; the first: {errors[0]}")
    return found


if __name__ == "__main__":
    main()
