"""Waits for models that are loaded on demand, in coroutines."""

import asyncio
from functools import partial

from gateway.domain.identity import Identity
from gateway.domain.types import ModelStatus, NotLoaded
from gateway.engine.protocol import Acceptance, Engine


async def loaded(
    engine: Engine,
    unloaded: NotLoaded,
    seconds: float | None = None,
    identity: Identity | None = None,
    accepted: Acceptance | None = None,
) -> None:
    """Wait until a model has been loaded, for at most `seconds`, or the default timeout. Raises ModelportError.

    accepted  that of the call which waits
    """
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def go_on() -> None:
        if not done.done():
            done.set_result(None)

    def fail(error: Exception) -> None:
        if not done.done():
            done.set_exception(error)

    wait = partial(engine.when_loaded, unloaded, go_on, fail, seconds=seconds, identity=identity)
    handle = wait() if accepted is None else accepted.go_on(wait)
    try:
        await done
    finally:
        handle.cancel()


async def loaded_model(engine: Engine, name: str, version: str = "", identity: Identity | None = None) -> ModelStatus:
    """Return the status of a version whose signatures are known. One that was never loaded is loaded for that.

    While it waits, it counts as a request in flight of whoever asks, `identity`.

    Raises ModelportError.
    """
    while (status := engine.model(name, version)).awaits_load:
        await loaded(engine, NotLoaded(status), identity=identity)
    return status
