"""Twenty minutes of mixed load over all frameworks, with reloads: does anything grow?

    python -m benchmarks.soak [--minutes 20] [--short] [--rate 150] [--plot soak.svg]

Each model of model_repo/ is served twice: `digits_X` runs from start to end, so that a leak in its worker has time to
show; `reloaded_X` is reloaded repeatedly, by a changed file or by unload and load. Memory, descriptors and threads of
each process are read every few seconds; the first quarter is warm-up and does not count. The exit code is 1 if
something grew by more than MAX_* over the rest, if an answer was wrong, or if a process was left behind. A run of two
minutes shows only that the program works, and large leaks, because processes are still warming up.
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
# The growth allowed from the end of the warm-up to the end of the run. Noise stays below; relevant leaks exceed it.
MAX_MIB, MAX_SHARE = 2.0, 0.01
MAX_DESCRIPTORS = 4.0
MAX_THREADS = 2.0
_LEAVE_S = 30.0


async def soak(
    server: Server, repository: Path, names: list[str], seconds: float, rate: float
) -> tuple[Watch, Tally, int]:
    """Run the load. Return the measurements, the answers, and the number of reloads."""
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
                # The two kinds of reload alternate from turn to turn, for each model.
                await (_touch, _reload)[(turn + which) % 2](target, repository, turns[which])
                next_reload += reload_s
                reloads += 1
    finally:
        stop.set()
        await asyncio.gather(*clients)
    return watch, tally, reloads


async def _touch(target: Target, repository: Path, model: str) -> None:
    """Make a file of the model newer, so that a new worker replaces the old one. No request may fail."""
    os.utime(next(path for path in sorted((repository / model / "1").rglob("*")) if path.is_file()))


async def _reload(target: Target, repository: Path, model: str) -> None:
    """Unload and load a model; meanwhile no client uses it."""
    target.models.remove(model)
    try:
        await asyncio.sleep(1)  # requests in progress are answered
        for verb in ("unload", "load"):
            url = f"http://127.0.0.1:{target.http}/v2/repository/models/{model}/{verb}"
            request = urllib.request.Request(url, data=b"{}", method="POST")
            (await asyncio.to_thread(urllib.request.urlopen, request, timeout=120)).close()
    finally:
        target.models.append(model)


def left_over(watch: Watch) -> list[str]:
    """Return the processes that have not ended. Waits first: a worker that was replaced may need time to end."""
    ends_at = time.monotonic() + _LEAVE_S
    while True:
        named = processes(watch.server)
        alone = set({name: pid for pid, name in named.items()}.values())  # one process for each name
        found = [
            f"{each.pid} ({named.get(each.pid, 'unknown to the metrics')})"
            for each in watch.server.tree()
            if each.pid not in alone
        ]
        if not found or time.monotonic() > ends_at:
            return found
        time.sleep(0.5)


def judge(watch: Watch, warm_s: float) -> tuple[list[list[str]], list[str]]:
    """Return the rows of the table, and a sentence for each figure that grew."""
    rows, grew = [], []
    for name, points in sorted(watch.series.items()):
        warm = [(seconds, held) for seconds, held in points if seconds >= warm_s]
        if len(warm) < 4:
            continue
        row = [name, str(watch.lives(name))]
        for figure, unit in (("uss", MIB), ("pss", MIB), ("descriptors", 1), ("threads", 1)):
            found = trend([(seconds, getattr(held, figure) / unit) for seconds, held in warm])
            row.append(_format(found, unit))
            if found.rise > _max_rise(figure, found):
                grew.append(f"{name}: {figure} grew by {found.rise:.1f} ({found.per_hour:+.1f} an hour)")
        rows.append(row)
    return rows, grew


def _max_rise(figure: str, found: Trend) -> float:
    if figure in ("descriptors", "threads"):
        return MAX_DESCRIPTORS if figure == "descriptors" else MAX_THREADS
    return max(MAX_MIB, MAX_SHARE * found.first)


def _format(found: Trend, unit: int) -> str:
    digits = 1 if unit == MIB else 0
    return f"{found.first:.{digits}f} → {found.last:.{digits}f} ({found.per_hour:+.1f}/h)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--short", action="store_true", help="2 minutes")
    parser.add_argument("--rate", type=float, default=150.0, help="requests per second, of all kinds together")
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
            problems = [f"left behind: {each}" for each in left_over(watch)]
        stayed = [f"outlived the gateway: {pid} ({name})" for pid, name in watch.pids.items() if psutil.pid_exists(pid)]
    rows, grew = judge(watch, seconds / 4)
    problems += stayed + grew + surprises(server, watch, tally, reloads)
    print(
        f"{seconds / 60:g} minutes, {sum(tally.outcomes.values())} requests, {reloads} reloads; "
        "figures without the first quarter\n"
    )
    head = ["process", "lives", "USS MiB", "PSS MiB", "descriptors", "threads"]
    print(table(head, rows))
    counted = [[kind, outcome, str(count)] for (kind, outcome), count in sorted(tally.outcomes.items())]
    print("\n" + table(["request", "outcome", "count"], counted))
    print("\n" + "\n".join(problems or ["Nothing grew, every answer was correct, and no process was left behind."]))
    if options.plot:
        memory = {name: [(at, _mib(each)) for at, each in points] for name, points in watch.series.items()}
        options.plot.write_text(plot(memory, seconds / 4, "PSS in MiB; dashed: the end of the warm-up"))
    sys.exit(bool(problems))


def _mib(held: Held) -> float:
    return held.pss / MIB


def surprises(server: Server, watch: Watch, tally: Tally, reloads: int) -> list[str]:
    """Return a sentence for each unexpected event other than growth."""
    found = [f"unexpected: {kind} ended with {what}, {n} times" for (kind, what), n in sorted(tally.unexpected.items())]
    found += [
        f"{name} was replaced {watch.lives(name) - 1} times"
        for name in sorted(set(watch.pids.values()))
        if "reloaded_" not in name and watch.lives(name) > 1
    ]
    loaded = sum("reloaded_" in line and " is READY" in line for line in server.log)
    asked = reloads + sum("reloaded_" in name for name in set(watch.pids.values()))
    if loaded != asked:
        found.append(f"{asked} loads were requested, but {loaded} happened")
    errors = [line.strip() for line in server.log if " ERROR " in line or "Traceback" in line]
    if errors:
        found.append(f"{len(errors)} lines of the log are errors; the first: {errors[0]}")
    return found


if __name__ == "__main__":
    main()
