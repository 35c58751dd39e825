"""A manager without workers, which scans a fake repository."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from gateway.config import RepositoryControl
from gateway.domain.table import Table
from gateway.environments.builder import Builder
from gateway.lifecycle.manager import Manager
from gateway.lifecycle.options import ManagerOptions
from gateway.lifecycle.starter import StarterOptions
from gateway.repository.model_config import ModelConfig

# Nothing here takes long; the limit only turns an endless wait into a failure.
WAIT_S = 5.0


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
    async with asyncio.timeout(WAIT_S):
        while not is_so():  # noqa: ASYNC110 - scans run in threads, and have no event to wait for
            await asyncio.sleep(0)


def states(manager: Manager) -> dict[str, str]:
    return {entry["name"]: entry["reason"] for entry in manager.index()}
