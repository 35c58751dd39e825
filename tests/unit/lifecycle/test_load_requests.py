"""Clients load and unload models, of which none can be loaded."""

import asyncio
import logging
from collections.abc import Collection

import pytest

from gateway.config import RepositoryControl
from gateway.domain.pipeline import Step
from gateway.errors import NotFound, Unavailable, Unsupported
from gateway.lifecycle.load_requests import LoadRequests
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.selection import ModelSelection
from gateway.repository.errors import RepositoryError
from gateway.repository.model_config import ModelConfig
from tests.support.managers import WAIT_S, Repository, managing, run, states, until


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
    async with managing(repository, "explicit") as manager:
        scans = repository.scans
        with pytest.raises(Unavailable, match=trouble or "it is broken"):
            await LoadRequests(manager, prepare, finished).load("a")
        assert (repository.scans > scans) is not bool(trouble)
    assert events == ["prepare a", "finished a"]


@pytest.mark.parametrize("control", ["poll", "explicit"])
@pytest.mark.parametrize("error", [RepositoryError("/srv/models does not exist"), KeyError()])
@run
async def test_a_load_while_the_repository_cannot_be_read_says_so(control: RepositoryControl, error: Exception) -> None:
    repository = Repository("a")
    async with managing(repository, control, ("a",)) as manager, asyncio.timeout(WAIT_S):
        repository.error = error
        for name in ("a", "missing"):
            with pytest.raises(
                Unavailable, match=f"'{name}' was not loaded: the repository cannot be read; the gateway's log"
            ):
                await LoadRequests(manager).load(name)
        assert states(manager) == {"a": "it is broken"}


@run
async def test_a_load_always_loads_the_current_files() -> None:
    """Not every file system reports that a file has changed."""
    repository = Repository("a")
    async with managing(repository) as manager, asyncio.timeout(WAIT_S):
        (before,) = manager.versions
        with pytest.raises(Unavailable):
            await LoadRequests(manager).load("a")
        await until(lambda: len(manager.versions) == 1)
        (after,) = manager.versions
        assert before[:2] == after[:2]
        assert after.fingerprint != before.fingerprint


@run
async def test_a_broken_model_is_loaded_again_on_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    async with managing(Repository("a"), "explicit", ("a",)) as manager, asyncio.timeout(WAIT_S):
        for _ in range(2):
            with pytest.raises(Unavailable, match="failed to load 'a': it is broken"):
                await LoadRequests(manager).load("a")
    assert sum("a version 1 is UNAVAILABLE" in record.message for record in caplog.records) == 3


@run
async def test_a_load_follows_files_that_change_while_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository("a")
    fail = ModelVersion.fail

    def changed(self: ModelVersion, reason: str) -> None:
        if repository.models[0].fingerprint == "content":
            repository.models = [ModelConfig("a", "1", "new content", problem="it is broken in another way")]
            self.outdated = True
            self._look_again()
        fail(self, reason)

    async with managing(repository, "explicit") as manager, asyncio.timeout(WAIT_S):
        monkeypatch.setattr(ModelVersion, "fail", changed)
        with pytest.raises(Unavailable, match="it is broken in another way"):
            await LoadRequests(manager).load("a")


@run
async def test_loads_end_when_the_gateway_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, the front cancels them after the grace period, and clients get an internal error."""
    loading = asyncio.Event()

    def never_ends(loads: LoadRequests, name: str) -> bool:
        loading.set()
        return True

    monkeypatch.setattr(LoadRequests, "_is_transient", never_ends)
    async with managing(Repository("a"), "explicit") as manager, asyncio.timeout(WAIT_S):
        loads = LoadRequests(manager)
        load = asyncio.create_task(loads.load("a"))
        await loading.wait()
        loads.stop()
        for each in (load, loads.load("a")):  # also one that comes later
            with pytest.raises(Unavailable, match="'a' was not loaded: the gateway is shutting down; send the request"):
                await each


@pytest.mark.parametrize("control", ["poll", "explicit"])
@run
async def test_unloading_a_model_that_is_not_loaded_is_not_an_error(control: RepositoryControl) -> None:
    async with managing(Repository("a"), control) as manager, asyncio.timeout(WAIT_S):
        for _ in range(2):
            await LoadRequests(manager).unload("a")
            await until(lambda: states(manager) == {"a": "unloaded"})
        with pytest.raises(NotFound, match="no model 'missing'"):
            await LoadRequests(manager).unload("missing")


@run
async def test_without_control_known_and_unknown_models_are_refused_alike() -> None:
    async with managing(Repository("a"), "none") as manager:
        for verb in (LoadRequests(manager).load, LoadRequests(manager).unload):
            for name in ("a", "missing"):
                with pytest.raises(Unsupported):
                    await verb(name)


@run
async def test_names_of_unknown_models_are_not_kept() -> None:
    selection = ModelSelection("explicit")
    selection.select("missing")
    assert selection.is_selected("missing")
    selection.forget("missing")
    assert not selection.is_selected("missing")
    async with managing(Repository(), "explicit") as manager:
        with pytest.raises(NotFound):
            await LoadRequests(manager).load("missing")
        assert not manager.desired.selection.is_selected("missing")


@run
async def test_steps_that_are_loaded_with_a_pipeline_are_read_again() -> None:
    repository = Repository("step")
    steps = (Step("step", "", {"x": "x"}, {"y": "y"}),)
    repository.models.append(ModelConfig("pipeline", "1", "content", steps=steps))
    async with managing(repository, "explicit") as manager, asyncio.timeout(WAIT_S):
        with pytest.raises(Unavailable, match="it is broken"):
            await LoadRequests(manager).load("pipeline")
        await LoadRequests(manager).unload("step")
        repository.models[0] = ModelConfig("step", "1", "new content", problem="it is broken in another way")
        with pytest.raises(Unavailable, match="it is broken in another way"):
            await LoadRequests(manager).load("pipeline")
