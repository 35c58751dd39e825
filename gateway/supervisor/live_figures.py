"""Live figures of each model as a TensorBoard log: a run for each version, and a point every few seconds.

    DIR/START/MODEL/VERSION/events.out.tfevents.…

START is when the gateway started, so that the runs of two gateways, or of one before and after a restart, do not mix.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

from gateway.tensorboard.events import EventFile

log = logging.getLogger("gateway")

_INTERVAL_S = 5.0
# A run has a new file after this many bytes, and keeps so many files: about a day and a half at a point every 5 s.
# TensorBoard continues with the newest file, and keeps what it has read from older ones.
_MAX_BYTES, _MAX_FILES = 4 << 20, 4
# Bytes of a folder's name that file systems accept.
_MAX_NAME = 255


async def write_figures(folder: Path, started: float, read: Callable[[], Mapping[str, Any]]) -> None:
    """Write the log until cancelled. read: returns the overview; started: see LiveFigures."""
    figures = LiveFigures(folder, started)
    # Each point is written by a thread of its own, which a disk that hangs can delay, but not the supervisor's end.
    writing: Thread | None = None
    while True:
        if writing is None or not writing.is_alive():
            writing = Thread(target=figures.write, args=(read(), time.time()), name="tensorboard", daemon=True)
            writing.start()
        await asyncio.sleep(_INTERVAL_S)


class LiveFigures:
    """Writes what happened between two readings of the gateway's figures. If writing fails, it tries again later."""

    def __init__(self, folder: Path, started: float) -> None:
        """started: seconds since 1970."""
        self._folder = folder / time.strftime("%Y%m%d-%H%M%S", time.localtime(started))
        self._started = started
        self._runs: dict[str, _Run] = {}
        self._failing = False

    def write(self, overview: Mapping[str, Any], now: float) -> None:
        """Write a point for each version that is ready, or was before. overview: see gateway/supervisor/overview.py."""
        known = {_run_name(each): each for each in overview["models"] if "memory_bytes" in each}
        models = {name: each for name, each in known.items() if name in self._runs or each["state"] == "READY"}
        for name in [name for name in self._runs if name not in models]:
            self._runs.pop(name).close()
        failure: OSError | None = None
        for name, model in models.items():
            run = self._runs.setdefault(name, _Run(self._folder / name))
            try:
                run.write(model, overview["buckets"], now, round(now - self._started))
            except OSError as error:
                failure = failure or error  # the other runs may be on another disk, or have been left writable
        if failure and not self._failing:
            log.warning("the TensorBoard log cannot be written: %s; trying again", failure.strerror or failure)
        elif self._failing and not failure:
            log.info("the TensorBoard log is written again")
        self._failing = failure is not None

    def close(self) -> None:
        for run in self._runs.values():
            run.close()


class _Run:
    """The event files of one version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: EventFile | None = None
        self._paths: list[Path] = []
        self._has_points = False  # whether the open file has any
        self._opened = 0
        self._before: tuple[float, Mapping[str, Any]] | None = None

    def write(self, model: Mapping[str, Any], buckets: Mapping[str, Sequence[float]], now: float, step: int) -> None:
        """Raises OSError."""
        before, self._before = self._before, (now, model["figures"])
        if before is None or now <= before[0]:
            return  # rates need two readings
        values = _values(before[1], model["figures"], now - before[0], buckets)
        values |= {"memory/mib": model["memory_bytes"] / (1 << 20), "workers/up": model["workers"]}
        try:
            if self._file is None or self._file.written > _MAX_BYTES:
                self._open()
            assert self._file is not None
            self._file.scalars(values, step)
            self._file.flush()
        except OSError:
            # What was written may end in the middle of an event, so the next one goes into another file.
            failed = self._file
            self.close()
            if failed is not None and not self._has_points:
                self._paths.pop().unlink(missing_ok=True)
            raise
        self._has_points = True
        while len(self._paths) > _MAX_FILES:
            self._paths.pop(0).unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a disk that is full
                self._file.close()
            self._file = None

    def _open(self) -> None:
        self.close()
        # The names have whole seconds, and TensorBoard reads files in the order of their names.
        self._file = EventFile(self._folder, f".{self._opened:06d}")
        self._opened += 1
        self._paths.append(self._file.path)
        self._has_points = False


def _run_name(model: Mapping[str, Any]) -> str:
    """Return the run of a version. A models.config can name a model as it likes, but the run is in the log's folder."""
    return "/".join(_folder_name(model[key]) for key in ("name", "version"))


def _folder_name(text: str) -> str:
    """Return a name that no other text has, and that every file system accepts."""
    name = quote(text, safe=" ")
    if not name.strip("."):
        return name.replace(".", "%2E")
    if len(name) > _MAX_NAME:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{name[: _MAX_NAME - len(digest) - 1]}~{digest}"
    return name


def _values(
    before: Mapping[str, Any], after: Mapping[str, Any], seconds: float, buckets: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    """Return the values by tag. Durations and batch sizes are left out if there were no requests."""
    outcomes = {kind: count - before["outcomes"].get(kind, 0) for kind, count in after["outcomes"].items()}
    answered, failed = sum(outcomes.values()), sum(count for kind, count in outcomes.items() if kind != "success")
    values = {
        "requests/per_s": answered / seconds,
        "requests/errors_per_s": failed / seconds,
        "requests/rows_per_s": (after["rows"] - before["rows"]) / seconds,
        "queue/waiting": after["queued"],
        "queue/in_flight": after["in_flight"],
    }
    durations = _difference(before["request"], after["request"])
    if any(durations):
        values["latency/p50_ms"] = _quantile(durations, buckets["seconds"], 0.5) * 1e3
        values["latency/p99_ms"] = _quantile(durations, buckets["seconds"], 0.99) * 1e3
    queued = _difference(before["queue"], after["queue"])
    if any(queued):
        values["queue/mean_ms"] = (after["queue"]["total"] - before["queue"]["total"]) / sum(queued) * 1e3
    batches = _difference(before["batch_rows"], after["batch_rows"])
    if any(batches):
        values["batch/mean_rows"] = (after["batch_rows"]["total"] - before["batch_rows"]["total"]) / sum(batches)
    return values


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[int]:
    return [later - earlier for earlier, later in zip(before["counts"], after["counts"], strict=True)]


def _quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float:
    """Return the value below which this share lies, interpolated within its bucket, as Prometheus does."""
    rank = share * sum(counts)
    lower = 0.0
    for count, bound in zip(counts, bounds, strict=False):
        if count and rank <= count:
            return lower + (bound - lower) * rank / count
        rank -= count
        lower = bound
    return lower  # above the last bound, nothing more is known
