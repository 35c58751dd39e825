"""The memory of spares: workers that were made in advance, or are being made, and have no model yet."""

from collections.abc import Collection, Mapping
from typing import Protocol

from gateway.process.resident import Resident


class Helpers(Protocol):
    """Processes that help to start workers, as Zygotes has them."""

    def spares(self) -> Mapping[str, Collection[int]]:
        """Return the name of a runtime → the processes that wait to become its next workers."""

    def coming(self) -> Mapping[str, Collection[int]]:
        """Return the same for those that are being made; 0 for each that does not exist yet."""

    def importing(self) -> Collection[int]:
        """Return the processes that import frameworks, or have done so, to be copied."""

    def starting(self) -> Collection[int]:
        """Return the processes that are becoming workers, but are not known as such yet."""

    def end_spares(self) -> bool:
        """End all these processes, and make none for a while. Return whether there were any."""

    def end_idle(self) -> bool:
        """End them, and the others that have no workers. Return whether there were any."""

    def ending(self) -> Collection[int]:
        """Return the processes that were ended, but may still have their memory for a moment."""


class SpareMemory:
    """What spares take, by measurement. One that is being made counts as if it had what the one before had."""

    def __init__(self, helpers: Helpers | None) -> None:
        self._helpers = helpers
        self._measured: dict[int, int] = {}  # by process id
        self._usual: dict[str, int] = {}  # by runtime

    @property
    def pids(self) -> set[int]:
        """The processes that exist."""
        if self._helpers is None:
            return set()
        every = (*self._helpers.spares().values(), *self._helpers.coming().values())
        return {pid for pids in every for pid in pids if pid}

    @property
    def total(self) -> int:
        """The bytes of all of them."""
        if self._helpers is None:
            return 0
        made = sum(sum(self._made(name)) for name in self._helpers.spares())
        return made + sum(sum(self._coming(name)) for name in self._helpers.coming())

    def of(self, runtime: str) -> int:
        """Return the bytes of the one that a load of this runtime would get, at least; 0 if there is none."""
        return min(self._made(runtime), default=0)

    def soon_of(self, runtime: str) -> int:
        """Return the same, with those that are being made."""
        return min([*self._made(runtime), *self._coming(runtime)], default=0)

    def take(self, found: Mapping[int, Resident]) -> None:
        """Take over a measurement, by process id."""
        self._measured = {pid: found[pid].private for pid in self.pids if pid in found}
        for name in self._helpers.spares() if self._helpers is not None else ():
            self._usual[name] = max(self._made(name), default=0)

    def _made(self, runtime: str) -> list[int]:
        pids = self._helpers.spares().get(runtime, ()) if self._helpers is not None else ()
        return [self._measured.get(pid, 0) for pid in pids]

    def _coming(self, runtime: str) -> list[int]:
        pids = self._helpers.coming().get(runtime, ()) if self._helpers is not None else ()
        usual = self._usual.get(runtime, 0)
        return [max(usual, self._measured.get(pid, 0)) for pid in pids]
