"""The reconcile loop without workers: scans of a repository, and the table."""

import asyncio
import logging
from typing import Any

import pytest

from gateway.config import RepositoryControl
from gateway.domain.pipeline import Step
from gateway.domain.table import Table, WorkerAddress
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.policy import State
from gateway.repository.errors import RepositoryError
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import ModelToml
from tests.support.managers import Repository, managing, run, states, until


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
            manager.scan_soon()
            await until(lambda: repository.scans > seen)  # noqa: B023 - it is awaited at once


@run
async def test_a_first_scan_that_failed_is_repeated_when_the_repository_has_changed() -> None:
    """Also if it is not polled. What is to be loaded at the start is loaded then."""
    repository = Repository("a")
    repository.error = RepositoryError("/srv/models does not exist")
    async with managing(repository, "explicit", ("*",), tables=[Table()]) as manager:
        repository.error = None
        manager.scan_soon()
        await until(lambda: states(manager) == {"a": "it is broken"})


@pytest.mark.parametrize("control", ["explicit", "none"])
@run
async def test_a_first_scan_that_failed_is_repeated_after_a_while(control: RepositoryControl) -> None:
    """Nobody would notice otherwise that a volume was not there for a moment."""
    repository, tables = Repository("a"), [Table()]
    repository.error = RepositoryError("/srv/models does not exist")
    async with managing(repository, control, ("*",), tables=tables) as manager:
        repository.error = None
        await until(lambda: tables[-1].ready)
        assert states(manager) == {"a": "it is broken"}


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
async def test_missing_models_of_load_model_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with managing(Repository("a", "b"), "explicit", ("a", "missing")) as manager:
        assert states(manager) == {"a": "it is broken", "b": "unloaded"}
    assert [record.message for record in caplog.records if "missing" in record.message] == [
        "--load-model names 'missing', which is not in the repository"
    ]


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
        manager.on_demand.room.needs.needs_more(first.key, 1)
        first.give_up_memory()
        await until(lambda: len(manager.versions) == 1)
        assert not manager.on_demand.room.needs.is_known(first.key)  # it would be kept for each change of any file
        assert tables[-1].entries[0].status.state == "LOADING"
        assert all(entry.status.admits for table in tables[seen:] for entry in table.entries)
