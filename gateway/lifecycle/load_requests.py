"""Loads and unloads models for clients, and returns when that is done."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from gateway.errors import NotFound, Unavailable, from_kind, shorten, unknown_model
from gateway.lifecycle.manager import Manager
from gateway.lifecycle.overrides import Override
from gateway.lifecycle.policy import TRANSIENT, State


class LoadRequests:
    """Changes what a manager should serve.

    prepare   downloads models that are about to be loaded; returns why that failed, or ""; None: nothing is remote
    finished  called with them when they have been loaded or not: their files need not be kept for that any more
    """

    def __init__(
        self,
        manager: Manager,
        prepare: Callable[[Collection[str]], Awaitable[str]] | None = None,
        finished: Callable[[Collection[str]], None] = lambda models: None,
    ) -> None:
        self._manager = manager
        self._desired = manager.desired
        self._prepare = prepare
        self._finished = finished
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Refuse loads, also those that clients wait for: a gateway that stops does not wait for them."""
        self._stopped.set()

    async def load(self, name: str, override: Override | None = None) -> None:
        """Scan the model's files again, and wait until it is loaded or has failed.

        override  what replaces them from now on. If it fails to load, what was served before still is

        Raises NotFound, Unsupported, or Unavailable with the reason.
        """
        self._desired.overrides.own(override)
        try:
            await self._load_overridden(name, override)
        finally:
            await self._desired.sweep()

    async def unload(self, name: str) -> None:
        """Stop serving a model until `load`. A model that is not loaded is no error. Raises NotFound, Unsupported."""
        desired = self._desired
        desired.selection.check_allowed()
        if not desired.exists(name) and not any(key.model == name for key in self._manager.versions):
            raise unknown_model(name)
        desired.selection.deselect(name)
        self._manager.reconcile()
        if desired.overrides.drop(name):
            await self._manager.rescan(name)
            if not desired.exists(name):
                desired.selection.forget(name)
            await desired.sweep()

    def places(self) -> dict[str, str]:
        """Return the models that were loaded from a place outside the repository: name → path."""
        return self._desired.overrides.places()

    async def _load_overridden(self, name: str, override: Override | None) -> None:
        self._desired.selection.check_allowed()
        if self._prepare is None or (override is not None and override.folder is not None):
            await self._load_prepared(name, override)
            return
        models = {name} | self._desired.steps_below([name])
        try:
            trouble = await self._prepare(models)
            if trouble:
                raise Unavailable(f"model '{shorten(name)}' was not loaded: {trouble}")
            await self._load_prepared(name, override)
        finally:
            self._finished(models)

    async def _load_prepared(self, name: str, override: Override | None) -> None:
        undo_selection = self._desired.selection.remember(name)
        try:
            with self._desired.overrides.putting(name, override):
                await self._load_again(name, is_known=override is not None)
            self._manager.reconcile()  # what it replaces is no longer there when the client gets its answer
        except BaseException:
            if override is not None:
                undo_selection()
                await self._manager.rescan(name)
            raise

    async def _load_again(self, name: str, is_known: bool) -> None:
        """is_known: whether the version key says that there is something new to load."""
        manager, desired = self._manager, self._desired
        desired.selection.select(name)
        # A model that is READY or UNAVAILABLE is loaded again even if its files seem unchanged, because some file
        # systems do not report every change. A model that is loading is not: repeated requests would restart it
        # forever.
        states = [(key in desired.versions, each.state) for key, each in manager.versions.items() if key.model == name]
        if not is_known and (True, State.LOADING) not in states and any(state not in TRANSIENT for _, state in states):
            desired.force_reload(name)
        if not await manager.rescan(name):
            # The log has the reason, with a path that clients must not see.
            raise Unavailable(
                f"model '{name}' was not loaded: the repository cannot be read; the gateway's log says why"
            )
        for key in desired.keys(name):
            if key in manager.versions:
                manager.want(key.model, key.version)
        while self._is_transient(name):
            waits = [asyncio.ensure_future(each.wait()) for each in (manager.state_change, self._stopped)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()
            if self._stopped.is_set():
                raise Unavailable(
                    f"model '{name}' was not loaded: the gateway is shutting down; send the request to another one"
                )
        if not desired.selection.is_selected(name):
            raise Unavailable(f"model '{name}' was unloaded while it was being loaded")
        if not desired.keys(name):
            desired.forget(name)
            raise NotFound(f"failed to load '{shorten(name)}': there is no such model in the repository")
        failed = [manager.versions[key] for key in desired.keys(name) if manager.versions[key].failed]
        if failed:
            raise from_kind(failed[0].error_kind or Unavailable.kind, f"failed to load '{name}': {failed[0].reason}")

    def _is_transient(self, name: str) -> bool:
        """Return whether a model is still changing its state, or its files are still changing."""
        versions, keys = self._manager.versions, self._desired.keys(name)
        if not keys:
            return self._desired.exists(name) and self._desired.selection.is_selected(name)
        return any(key not in versions or versions[key].is_changing for key in keys)
