"""The reconcile loop without workers: what it makes of a repository, and of who loads and unloads."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from gateway.config import RepositoryControl
from gateway.domain.table import Table
from gateway.environments.builder import Builder
from gateway.errors import NotFound, Unavailable, Unsupported
from gateway.lifecycle.manager import Manager, ManagerOptions
from gateway.lifecycle.selection import ModelSelection
from gateway.repository.scan import ModelConfig, RepositoryError

# Nothing here takes longer than a moment; what waits for ever is a failure.
_WAIT_S = 5.0


def run(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run_it(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run_it


class Repository:
    """What each look sees: `models`, or an exception. None of the models can be loaded, so there are no workers."""

    def __init__(self, *names: str) -> None:
        self.models = [ModelConfig(name, "1", "content", problem="it is broken") for name in names]
        self.error: Exception | None = None
        self.looks = 0

    def scan(self, path: Path, runtimes: Any) -> list[ModelConfig]:
        self.looks += 1
        if self.error:
            raise self.error
        return list(self.models)


@asynccontextmanager
async def managing(
    repository: Repository, control: RepositoryControl = "poll", load_model: tuple[str, ...] = ()
) -> AsyncIterator[Manager]:
    """A manager that looks all the time, once it has looked."""
    tables: list[Table] = []
    options = ManagerOptions(
        Path("repository"), Path(), poll_s=0.001, control=control, load_model=load_model, scan=repository.scan
    )
    manager = Manager(options, {}, Builder(Path(), "cpu", {}, frozenset(), lambda: None), tables.append)
    running = asyncio.create_task(manager.run())
    try:
        await until(lambda: repository.looks > 0 and bool(tables))
        yield manager
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await manager.close()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(_WAIT_S):
        while not is_so():  # noqa: ASYNC110 - looks are threads, and tell nobody
            await asyncio.sleep(0)


def states(manager: Manager) -> dict[str, str]:
    return {entry["name"]: entry["reason"] for entry in manager.index()}


@run
async def test_a_look_that_fails_unforeseen_leaves_what_runs_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    repository = Repository("a")
    async with managing(repository) as manager:
        repository.error = AssertionError("whatever a file system may do")
        seen = repository.looks
        await until(lambda: repository.looks > seen + 5)
        assert states(manager) == {"a": "it is broken"}
        repository.models, repository.error = Repository("a", "b").models, None
        await until(lambda: "b" in states(manager))
        repository.error = AssertionError("once more")
        seen = repository.looks
        await until(lambda: repository.looks > seen + 5)
    told = [record.exc_text or "" for record in caplog.records if "could not be scanned" in record.message]
    assert [("AssertionError" in text) for text in told] == [True, True]


@pytest.mark.parametrize("control", ["poll", "explicit"])
@pytest.mark.parametrize("error", [RepositoryError("/srv/models does not exist"), KeyError()])
@run
async def test_a_load_while_the_repository_cannot_be_read_says_so(control: RepositoryControl, error: Exception) -> None:
    repository = Repository("a")
    async with managing(repository, control, ("a",)) as manager, asyncio.timeout(_WAIT_S):
        repository.error = error
        for name in ("a", "nobody"):
            with pytest.raises(
                Unavailable, match=f"'{name}' was not loaded: the repository cannot be read; the gateway's log"
            ):
                await manager.load(name)
        assert states(manager) == {"a": "it is broken"}


@run
async def test_an_emptied_repository_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A volume that goes away leaves an empty mount point; one model of several that is taken away is unloaded."""
    repository = Repository("a", "b")
    async with managing(repository) as manager:
        repository.models = Repository("a").models
        await until(lambda: states(manager) == {"a": "it is broken"})
        repository.models = []
        seen = repository.looks
        await until(lambda: repository.looks > seen + 5)
        assert states(manager) == {"a": "it is broken"}
        assert not manager._table.ready  # nothing is left that answers
        repository.models = Repository("b").models
        await until(lambda: states(manager) == {"b": "it is broken"})
        assert manager._table.ready
    assert sum("contains no models any more" in record.message for record in caplog.records) == 1


@run
async def test_a_load_always_loads_what_is_there_now() -> None:
    """Not every file system tells that a file has changed."""
    repository = Repository("a")
    async with managing(repository) as manager, asyncio.timeout(_WAIT_S):
        (before,) = manager.versions
        with pytest.raises(Unavailable):
            await manager.load("a")
        await until(lambda: len(manager.versions) == 1)
        (after,) = manager.versions
        assert (before[:2], before.fingerprint) == (after[:2], "content")
        assert after.fingerprint != before.fingerprint


@run
async def test_a_broken_model_is_loaded_anew_when_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    async with managing(Repository("a"), "explicit", ("a",)) as manager, asyncio.timeout(_WAIT_S):
        for _ in range(2):
            with pytest.raises(Unavailable, match="failed to load 'a': it is broken"):
                await manager.load("a")
    assert sum("a version 1 is UNAVAILABLE" in record.message for record in caplog.records) == 3


@pytest.mark.parametrize("control", ["poll", "explicit"])
@run
async def test_unloading_what_is_not_loaded_is_no_error(control: RepositoryControl) -> None:
    async with managing(Repository("a"), control) as manager, asyncio.timeout(_WAIT_S):
        for _ in range(2):
            await manager.unload("a")
            await until(lambda: states(manager) == {"a": "unloaded"})
        with pytest.raises(NotFound, match="no model 'nobody'"):
            await manager.unload("nobody")


@run
async def test_without_control_unknown_models_are_refused_alike() -> None:
    async with managing(Repository("a"), "none") as manager:
        for verb in (manager.load, manager.unload):
            for name in ("a", "nobody"):
                with pytest.raises(Unsupported):
                    await verb(name)


@run
async def test_models_that_are_named_for_the_start_and_missing_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async with managing(Repository("a", "b"), "explicit", ("a", "nobody")) as manager:
        assert states(manager) == {"a": "it is broken", "b": "unloaded"}
    assert [record.message for record in caplog.records if "nobody" in record.message] == [
        "--load-model names 'nobody', which is not in the repository"
    ]


@run
async def test_names_that_nobody_has_are_not_kept() -> None:
    selection = ModelSelection("explicit")
    selection.select("nobody")
    assert selection.is_selected("nobody")
    selection.forget("nobody")
    assert not selection.is_selected("nobody")
    async with managing(Repository(), "explicit") as manager:
        with pytest.raises(NotFound):
            await manager.load("nobody")
        assert not manager._selection.is_selected("nobody")
