"""Live figures of models as a TensorBoard log."""

import asyncio
import errno
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.engine.metrics import DURATION_BUCKETS, ROW_BUCKETS, ModelMetrics
from gateway.supervisor import live_figures
from gateway.supervisor.live_figures import LiveFigures, write_figures
from gateway.tensorboard.events import EventFile
from tests.support.event_files import scalars

STARTED = 1_800_000_000.0


def histogram(bounds: tuple[float, ...], value: float, times: int) -> dict[str, Any]:
    counts = [0] * (len(bounds) + 1)
    counts[sum(bound < value for bound in bounds)] = times
    return {"counts": counts, "total": value * times}


def overview(
    requests: int = 0, errors: int = 0, names: tuple[str, ...] = ("m",), state: str = "READY"
) -> Mapping[str, Any]:
    """What the supervisor says about models after so many requests of 4 ms, which ran in batches of two."""
    figures = {
        **ModelMetrics().snapshot(),
        "outcomes": {"success": requests - errors, "overloaded": errors},
        "rows": requests,
        "queued": 3,
        "request": histogram(DURATION_BUCKETS, 0.004, requests),
        "queue": histogram(DURATION_BUCKETS, 0.002, requests),
        "batch_rows": histogram(ROW_BUCKETS, 2, requests // 2),
    }
    loaded = {"version": "1", "state": state, "memory_bytes": 5 << 20, "workers": 1, "figures": figures}
    unloaded = {"name": "other", "version": "1", "state": "UNAVAILABLE", "figures": figures}
    return {
        "models": [*({"name": name, **loaded} for name in names), unloaded],
        "buckets": {"seconds": DURATION_BUCKETS, "rows": ROW_BUCKETS},
    }


def run_of(folder: Path, name: str = "m/1") -> Path:
    (session,) = folder.iterdir()
    return session / name


def test_a_point_is_what_happened_since_the_one_before(tmp_path: Path) -> None:
    log = LiveFigures(tmp_path, STARTED)
    log.write(overview(100, 10), STARTED + 1)
    log.write(overview(200, 30), STARTED + 6)
    log.write(overview(200, 30), STARTED + 11)
    log.close()
    found = scalars(run_of(tmp_path))
    assert found["requests/per_s"] == {6: 20, 11: 0}
    assert found["requests/errors_per_s"] == {6: 4, 11: 0}
    assert found["queue/waiting"] == {6: 3, 11: 3}
    assert found["memory/mib"] == {6: 5, 11: 5}
    assert found["batch/mean_rows"] == {6: 2}  # nothing ran after that
    assert found["queue/mean_ms"] == {6: pytest.approx(2)}
    assert found["latency/p50_ms"] == {6: pytest.approx(3.75)}  # half of the bucket from 2.5 to 5 ms
    assert found["latency/p99_ms"] == {6: pytest.approx(4.975)}
    assert not run_of(tmp_path, "other/1").exists()


def test_a_version_has_a_run_from_when_it_is_ready(tmp_path: Path) -> None:
    log = LiveFigures(tmp_path, STARTED)
    for second, state in enumerate(["LOADING", "LOADING", "READY", "READY", "LOADING"]):
        log.write(overview(state=state), STARTED + second)
    log.close()
    assert list(scalars(run_of(tmp_path))["requests/per_s"]) == [3, 4]  # it starts again after a crash


def test_a_run_is_in_the_folder_whatever_the_name(tmp_path: Path) -> None:
    log = LiveFigures(tmp_path / "log", STARTED)
    for second in range(2):
        log.write(overview(names=("../../../a/b",)), STARTED + second)
    log.close()
    assert scalars(run_of(tmp_path / "log", "..%2F..%2F..%2Fa%2Fb/1"))["requests/per_s"] == {1: 0}
    assert [each.name for each in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize(
    ("name", "run"),
    [
        pytest.param("..", "%2E%2E/1", id="the folder above"),
        pytest.param("图" * 80, "%E5%9B%BE%E5%9B%BE", id="longer than a file system accepts"),
    ],
)
def test_names_that_are_no_names_of_folders(name: str, run: str, tmp_path: Path) -> None:
    log = LiveFigures(tmp_path / "log", STARTED)
    for second in range(2):
        log.write(overview(names=(name, "m")), STARTED + second)
    log.close()
    session = run_of(tmp_path / "log", "")
    (found,) = [file.parent for file in session.rglob("*tfevents*") if file.parent != session / "m/1"]
    assert found.relative_to(session).as_posix().startswith(run)
    assert scalars(found)["requests/per_s"] == {1: 0}


def test_a_run_that_cannot_be_written_does_not_stop_others(tmp_path: Path) -> None:
    log = LiveFigures(tmp_path, STARTED)
    log.write(overview(names=("broken", "m")), STARTED)
    session = tmp_path / time.strftime("%Y%m%d-%H%M%S", time.localtime(STARTED))
    session.mkdir()
    (session / "broken").touch()  # a file where its folder should be
    log.write(overview(names=("broken", "m")), STARTED + 1)
    log.close()
    assert scalars(run_of(tmp_path))["requests/per_s"] == {1: 0}


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_figures, "_MAX_BYTES", 1000)
    log = LiveFigures(tmp_path, STARTED)
    for second in range(200):
        log.write(overview(), STARTED + second)
    log.close()
    files = list(run_of(tmp_path).iterdir())
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) < 8000
    steps = list(scalars(run_of(tmp_path))["requests/per_s"])
    assert steps == list(range(steps[0], 200))  # the newest points, in order


def test_a_full_disk_is_logged_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: EventFile) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = LiveFigures(tmp_path, STARTED)
    caplog.set_level("INFO")
    log.write(overview(1), STARTED)
    log.write(overview(2), STARTED + 1)
    with monkeypatch.context() as patched:
        patched.setattr(EventFile, "flush", full)
        for second in range(2, 20):
            log.write(overview(3), STARTED + second)
    log.write(overview(5), STARTED + 20)
    log.close()
    assert caplog.messages == [
        "the TensorBoard log cannot be written: No space left on device; trying again",
        "the TensorBoard log is written again",
    ]
    points = scalars(run_of(tmp_path))["requests/per_s"]
    assert (points[1], points[20]) == (1, 2)
    assert len(list(run_of(tmp_path).iterdir())) == 2  # attempts leave no files, and replace none


def test_a_version_that_is_unloaded_has_no_open_file(tmp_path: Path) -> None:
    log = LiveFigures(tmp_path, STARTED)
    for second in range(3):
        log.write(overview(names=("m", "n")), STARTED + second)
    log.write(overview(names=("n",)), STARTED + 3)
    log.close()
    assert list(scalars(run_of(tmp_path))["requests/per_s"]) == [1, 2]
    assert list(scalars(run_of(tmp_path, "n/1"))["requests/per_s"]) == [1, 2, 3]


def test_a_point_that_takes_long_is_written_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, may_go_on, several = list[Any](), threading.Event(), threading.Event()

    class FakeFigures:
        def __init__(self, folder: Path, started: float) -> None:
            written.append(folder)

        def write(self, overview: Any, now: float) -> None:
            written.append(overview["models"])
            assert may_go_on.wait(30)
            if len(written) > 3:
                several.set()

    monkeypatch.setattr(live_figures, "LiveFigures", FakeFigures)
    monkeypatch.setattr(live_figures, "_INTERVAL_S", 0)

    async def main() -> None:
        writing = asyncio.create_task(write_figures(tmp_path, STARTED, lambda: {"models": []}))
        for _ in range(100):
            await asyncio.sleep(0)
        assert written == [tmp_path, []]
        may_go_on.set()
        assert await asyncio.to_thread(several.wait, 30)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    asyncio.run(main())
    assert written[1:4] == [[], [], []]
