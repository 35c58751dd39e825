"""The spare of a process that is copied: one worker that was made in advance, and waits for its model."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway.lifecycle.copy import CannotFork, Copy

log = logging.getLogger("models")

# How long after a worker is ready a spare is made. A larger value makes the next load wait for its copy more often;
# with a smaller one, the first answer of the worker and the spare share the cores.
_DELAY_S = 0.02
# How long until one is replaced that has ended by itself. A smaller value takes more time if something ends them all.
_REPLACE_S = 1.0
# How long one is kept if no worker is started. A larger value keeps memory for models that do not come; with a smaller
# one, the first of those that come later waits for its copy.
IDLE_S = 300.0
# How long it may take to prepare. It is of use to nobody until then, and nobody waits for it.
_PREPARE_S = 20.0


class Spare:
    """At most one copy at a time. copy: makes one, and may raise CannotFork."""

    def __init__(self, name: str, copy: Callable[[], Awaitable[Copy]]) -> None:
        self._name = name
        self._copy = copy
        self._making: Copy | None = None
        self._made: Copy | None = None
        self._timer: asyncio.TimerHandle | None = None  # until it is made, or until it has waited for too long
        self._ending: set[Copy] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_making = self._is_useless = self._is_closed = False
        self._is_unwanted = False  # what is being made

    @property
    def pid(self) -> int | None:
        """The process id of one that waits; None if there is none. May be called on another thread."""
        made = self._made
        return made.pid if made else None

    @property
    def coming(self) -> int | None:
        """The process id of one that is being made; 0 if it does not exist yet, None if none is being made."""
        if not self._is_making or self._is_unwanted:
            return None
        return (self._making.pid if self._making else None) or 0

    def prepare(self, delay_s: float = _DELAY_S) -> None:
        """Make one soon, unless there is one."""
        if self._made is not None or self._is_making or self._is_useless or self._is_closed:
            return
        self._is_making, self._is_unwanted = True, False
        self._set_timer(delay_s, lambda: self._keep(self._make()))

    async def _make(self) -> None:
        try:
            if self._is_unwanted:
                return
            self._making = copy = await self._copy()
            if self._is_unwanted:
                copy.kill()
            is_prepared = await copy.answered(_PREPARE_S)
        except CannotFork as error:
            log.info("%s: no worker is prepared, because %s", self._name, error)
            return
        finally:
            self._is_making, self._making = False, None
        if is_prepared and not self._is_unwanted and copy.pid:
            self._made = copy
            copy.on_end(lambda: self._on_end(copy))
            self._set_timer(IDLE_S, self.drop)
        else:
            # It has said why, or somebody has killed it.
            self._is_useless = not is_prepared and not self._is_unwanted
            await self._end(copy)

    def take(self) -> Copy | None:
        """Return the one that waits, if there is one. Nobody else gets it."""
        made, self._made = self._made, None
        if made is None:
            return None
        self._stop_timer()
        if made.pid is None:
            self.discard(made)
            return None
        made.on_end(lambda: None)
        return made

    def drop(self) -> bool:
        """End the one that waits, or is being made. Return whether there was one that is not ending already."""
        made = self.take()
        if made is not None:
            self.discard(made)
        was_wanted = self._is_making and not self._is_unwanted
        if was_wanted:
            self._is_unwanted = True
            if self._making is not None:
                self._ending.add(self._making)
                self._making.kill()
        return made is not None or was_wanted

    def _on_end(self, copy: Copy) -> None:
        """It has ended by itself: replace it."""
        if self._made is copy:
            self.drop()
            self.prepare(_REPLACE_S)

    def close(self) -> None:
        """End the one that waits, or is being made, and make no others."""
        self._is_closed = True
        self.drop()
        self._stop_timer()

    async def wait(self) -> None:
        """Wait until all processes have ended, after `close`."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def discard(self, copy: Copy) -> None:
        """End a copy that nobody needs, without waiting for its end."""
        self._keep(self._end(copy))

    def ending(self) -> list[int]:
        """Return the pids of copies that were killed, but run for a moment."""
        return [copy.pid for copy in self._ending if copy.pid is not None]

    async def _end(self, copy: Copy) -> None:
        self._ending.add(copy)
        try:
            await copy.end()
        finally:
            self._ending.discard(copy)

    def _set_timer(self, seconds: float, call: Callable[[], object]) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
