"""The reconcile loop without workers: scans of a repository, and clients that load and unload."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from gateway.config import RepositoryControl
from gateway.domain.pipeline import Step
from gateway.domain.table import Table, WorkerAddress
from gateway.environments.builder import Builder
from gateway.errors import NotFound, Unavailable, Unsupported
from gateway.lifecycle.manager import Manager, ManagerOptions
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.policy import State
from gateway.lifecycle.selection import ModelSelection
from gateway.lifecycle.starter import StarterOptions
from gateway.repository.model_toml import ModelToml
from gateway.repository.scan import ModelConfig, RepositoryError

# Nothing here takes long; the limit only turns an endless wait into a failure.
_WAIT_S = 5.0


def run(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run_it(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run_it


class Repository:
    """Returns `models` at each scan, or raises `error`. No model can be loaded, so there are no workers."""

    def __init__(self, *names: str) -> None:
        self.models = [ModelConfig(name, "1", "content", problem="it is broken") for name in names]
        self.error: Exception | None = None
        self.scans = 0

    def scan(self, path: Path, runtimes: Any) -> list[ModelConfig]:
        self.scans += 1
        if self.error:
            raise self.error
        return list(self.models)


@asynccontextmanager
async def managing(
    repository: Repository,
    control: RepositoryControl = "poll",
    load_model: tuple[str, ...] = (),
    poll_s: float = 0.001,
    is_complete: Callable[[], bool] = lambda: True,
    tables: list[Table] | None = None,
    **options_of_remote: Any,
) -> AsyncIterator[Manager]:
    """Run a manager that scans all the time, and wait for its first scan."""
    tables = [] if tables is None else tables
    options = ManagerOptions(
        Path("repository"),
        StarterOptions(run_dir=Path()),
        poll_s=poll_s,
        control=control,
        load_model=load_model,
        scan=repository.scan,
        is_complete=is_complete,
        **options_of_remote,
    )
    manager = Manager(options, {}, Builder(Path(), "cpu", {}, frozenset(), lambda: None), tables.append)
    running = asyncio.create_task(manager.run())
    try:
        await until(lambda: repository.scans > 0 and bool(tables))
        yield manager
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await manager.close()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(_WAIT_S):
        while not is_so():  # noqa: ASYNC110 - scans run in threads, and have no event to wait for
            await asyncio.sleep(0)


def states(manager: Manager) -> dict[str, str]:
    return {entry["name"]: entry["reason"] for entry in manager.index()}


@run
async def test_a_scan_with_an_unexpected_error_unloads_nothing_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    repository = Repository("a")
    async with managing(repository) as manager:
        repository.error = AssertionError("whatever a file system may do")
        seen = repository.scans
        await until(lambda: repository.scans > seen + 5)
        assert states(manager) == {"a": "it is broken"}
        repository.models, repository.error = Repository("a", "b").models, None
        await until(lambda: "b" in states(manager))
        repository.error = AssertionError("once more")
        seen = repository.scans
        await until(lambda: repository.scans > seen + 5)
    tracebacks = [record.exc_text or "" for record in caplog.records if "could not be scanned" in record.message]
    assert [("AssertionError" in text) for text in tracebacks] == [True, True]


@pytest.mark.parametrize("trouble", ["", "the store is gone"])
@run
async def test_what_was_prepared_for_a_load_is_kept_until_it_has_finished(trouble: str) -> None:
    events = list[str]()

    async def prepare(models: Collection[str]) -> str:
        events.append(f"prepare {','.join(models)}")
        return trouble

    def finished(models: Collection[str]) -> None:
        events.append(f"finished {','.join(models)}")

    repository = Repository("a")
    async with managing(repository, "explicit", prepare=prepare, finished=finished) as manager:
        scans = repository.scans
        with pytest.raises(Unavailable, match=trouble or "it is broken"):
            await manager.load("a")
        assert (repository.scans > scans) is not bool(trouble)
    assert events == ["prepare a", "finished a"]


@run
async def test_another_problem_of_a_model_without_files_is_seen() -> None:
    repository = Repository()
    repository.models = [ModelConfig("a", "", "", problem="its files are being downloaded")]
    async with managing(repository) as manager:
        repository.models = [ModelConfig("a", "", "", problem="it has no version folder")]
        await until(lambda: states(manager) == {"a": "it has no version folder"})


@run
async def test_a_problem_may_go_without_a_change_of_files() -> None:
    """Of an archive that could not be unpacked, because the disk was full."""
    repository = Repository("a")
    async with managing(repository) as manager:
        repository.models = [ModelConfig("a", "1", "content", problem="it is broken in another way")]
        await until(lambda: states(manager) == {"a": "it is broken in another way"})


@run
async def test_a_repository_that_has_changed_is_scanned_at_once() -> None:
    repository = Repository("a")
    async with managing(repository, poll_s=3600) as manager:
        for _ in range(3):
            seen = repository.scans
            manager.rescan()
            await until(lambda: repository.scans > seen)  # noqa: B023 - it is awaited at once


@run
async def test_readiness_waits_for_all_models_of_remote_repositories(caplog: pytest.LogCaptureFixture) -> None:
    """The models of the scan that completes the repositories are put into the table one after another."""
    caplog.set_level(logging.INFO, "models")
    repository, tables, read = Repository("a"), list[Table](), list[bool]()
    async with managing(repository, is_complete=lambda: bool(read), tables=tables):
        repository.models = Repository("a", "b", "c").models
        read.append(True)
        await until(lambda: tables[-1].ready)
    assert {len(table.entries) for table in tables if table.ready} == {3}
    assert [text for text in caplog.messages if "startup" in text] == [
        "startup is complete: 0 of 3 model versions are READY"
    ]


@pytest.mark.parametrize("control", ["poll", "explicit"])
@pytest.mark.parametrize("error", [RepositoryError("/srv/models does not exist"), KeyError()])
@run
async def test_a_load_while_the_repository_cannot_be_read_says_so(control: RepositoryControl, error: Exception) -> None:
    repository = Repository("a")
    async with managing(repository, control, ("a",)) as manager, asyncio.timeout(_WAIT_S):
        repository.error = error
        for name in ("a", "missing"):
            with pytest.raises(
                Unavailable, match=f"'{name}' was not loaded: the repository cannot be read; the gateway's log"
            ):
                await manager.load(name)
        assert states(manager) == {"a": "it is broken"}


@run
async def test_an_emptied_repository_unloads_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A volume that disappears leaves an empty mount point. If one model of several is removed, it is unloaded."""
    repository = Repository("a", "b")
    async with managing(repository) as manager:
        repository.models = Repository("a").models
        await until(lambda: states(manager) == {"a": "it is broken"})
        repository.models = []
        seen = repository.scans
        await until(lambda: repository.scans > seen + 5)
        assert states(manager) == {"a": "it is broken"}
        assert not manager._table.ready  # no version is left that can answer
        repository.models = Repository("b").models
        await until(lambda: states(manager) == {"b": "it is broken"})
        assert manager._table.ready
    assert sum("no longer contains any models" in record.message for record in caplog.records) == 1


@run
async def test_a_load_always_loads_the_current_files() -> None:
    """Not every file system reports that a file has changed."""
    repository = Repository("a")
    async with managing(repository) as manager, asyncio.timeout(_WAIT_S):
        (before,) = manager.versions
        with pytest.raises(Unavailable):
            await manager.load("a")
        await until(lambda: len(manager.versions) == 1)
        (after,) = manager.versions
        assert before[:2] == after[:2]
        assert after.fingerprint != before.fingerprint


@run
async def test_a_broken_model_is_loaded_again_on_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    async with managing(Repository("a"), "explicit", ("a",)) as manager, asyncio.timeout(_WAIT_S):
        for _ in range(2):
            with pytest.raises(Unavailable, match="failed to load 'a': it is broken"):
                await manager.load("a")
    assert sum("a version 1 is UNAVAILABLE" in record.message for record in caplog.records) == 3


@run
async def test_a_load_follows_files_that_change_while_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository("a")
    fail = ModelVersion.fail

    def changed(self: ModelVersion, reason: str) -> None:
        if repository.models[0].fingerprint == "content":
            repository.models = [ModelConfig("a", "1", "new content", problem="it is broken in another way")]
            self.outdated = True
            self._on_outdated()
        fail(self, reason)

    async with managing(repository, "explicit") as manager, asyncio.timeout(_WAIT_S):
        monkeypatch.setattr(ModelVersion, "fail", changed)
        with pytest.raises(Unavailable, match="it is broken in another way"):
            await manager.load("a")


@pytest.mark.parametrize("control", ["poll", "explicit"])
@run
async def test_unloading_a_model_that_is_not_loaded_is_not_an_error(control: RepositoryControl) -> None:
    async with managing(Repository("a"), control) as manager, asyncio.timeout(_WAIT_S):
        for _ in range(2):
            await manager.unload("a")
            await until(lambda: states(manager) == {"a": "unloaded"})
        with pytest.raises(NotFound, match="no model 'missing'"):
            await manager.unload("missing")


@run
async def test_without_control_known_and_unknown_models_are_refused_alike() -> None:
    async with managing(Repository("a"), "none") as manager:
        for verb in (manager.load, manager.unload):
            for name in ("a", "missing"):
                with pytest.raises(Unsupported):
                    await verb(name)


@run
async def test_missing_models_of_load_model_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with managing(Repository("a", "b"), "explicit", ("a", "missing")) as manager:
        assert states(manager) == {"a": "it is broken", "b": "unloaded"}
    assert [record.message for record in caplog.records if "missing" in record.message] == [
        "--load-model names 'missing', which is not in the repository"
    ]


@run
async def test_names_of_unknown_models_are_not_kept() -> None:
    selection = ModelSelection("explicit")
    selection.select("missing")
    assert selection.is_selected("missing")
    selection.forget("missing")
    assert not selection.is_selected("missing")
    async with managing(Repository(), "explicit") as manager:
        with pytest.raises(NotFound):
            await manager.load("missing")
        assert not manager._selection.is_selected("missing")


@run
async def test_a_model_that_becomes_a_pipeline_serves_until_the_pipeline_is_ready() -> None:
    repository = Repository("a")
    async with managing(repository) as manager:
        (old,) = manager.versions.values()
        old.__class__ = Serving
        steps = (Step("nobody", "", {"x": "x"}, {"y": "y"}),)
        repository.models = [ModelConfig("a", "1", "new content", steps=steps)]
        await until(lambda: len(manager.versions) == 2)
        (entry,) = manager._table.entries
        assert (entry.status.state, entry.status.steps) == ("READY", ())
        reasons = {version.reason for version in manager.versions.values()}
        assert "its step 'nobody' is not served: it is not in the repository, or it was unloaded" in reasons


@run
async def test_steps_that_are_loaded_with_a_pipeline_are_read_again() -> None:
    repository = Repository("step")
    steps = (Step("step", "", {"x": "x"}, {"y": "y"}),)
    repository.models.append(ModelConfig("pipeline", "1", "content", steps=steps))
    async with managing(repository, "explicit") as manager, asyncio.timeout(_WAIT_S):
        with pytest.raises(Unavailable, match="it is broken"):
            await manager.load("pipeline")
        await manager.unload("step")
        repository.models[0] = ModelConfig("step", "1", "new content", problem="it is broken in another way")
        with pytest.raises(Unavailable, match="it is broken in another way"):
            await manager.load("pipeline")


class Serving(ModelVersion):
    state = State.READY  # type: ignore[assignment]


class Loaded:
    """A worker that has loaded its model, and runs until it is stopped."""

    id, pid, load_s, audits, use = 1, None, 0.1, (0, 0), (1, False)
    address = WorkerAddress(1, "socket", "status", 1)
    ready = True

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def stop(self) -> None:
        self.ended.set()

    kill = stop


@run
async def test_requests_wait_for_new_files_if_the_old_ones_leave_memory_for_them() -> None:
    """A model on demand whose new files have to wait for room, and the room is that of the old ones."""
    repository, tables = Repository(), list[Table]()
    old, new = (ModelConfig("m", "1", each, toml=ModelToml(load="on_demand")) for each in ("old", "new"))
    repository.models = [old]

    async def start(version: ModelVersion) -> None:
        if version.key.fingerprint == "old":
            worker: Any = Loaded()
            version.workers.append(worker)
            manager._on_change()
            await worker.ended.wait()
            version.workers.remove(worker)
        else:
            await asyncio.Event().wait()  # it waits for room

    async with managing(repository, tables=tables) as manager:
        manager.on_demand._start = start
        manager.want("m", "1")
        await until(lambda: tables[-1].entries[0].status.state == "READY")
        first = next(each for each in manager.versions.values() if isinstance(each, ModelVersion))
        repository.models = [new]
        await until(lambda: any(each.state is State.LOADING for each in manager.versions.values()))
        assert tables[-1].entries[0].status.state == "READY"
        seen = len(tables)
        manager.on_demand.needs.needs_more(first.key, 1)
        first.give_up_memory()
        await until(lambda: len(manager.versions) == 1)
        assert not manager.on_demand.needs.is_known(first.key)  # it would be kept for each change of any file
        assert tables[-1].entries[0].status.state == "LOADING"
        assert all(entry.status.admits for table in tables[seen:] for entry in table.entries)
