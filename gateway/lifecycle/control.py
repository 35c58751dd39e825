"""Which models of the repository are wanted: by the repository itself, or by who loads and unloads them.

Triton's three ways, under its names.
"""

import logging
from collections.abc import Iterable

from gateway.config import RepositoryControl
from gateway.errors import Unsupported

log = logging.getLogger("models")


class Control:
    """`start`: names to load at the start, under explicit control; "*" for all that are there then."""

    def __init__(self, kind: RepositoryControl = "poll", start: Iterable[str] = ()) -> None:
        self.kind = kind
        self._start = set(start)
        # By name: whether somebody asked for it, or asked for its end.
        self._asked: dict[str, bool] = {}

    def load(self, name: str) -> None:
        """Raises Unsupported."""
        self.check()
        self._asked[name] = True

    def unload(self, name: str) -> None:
        """Raises Unsupported."""
        self.check()
        self._asked[name] = False

    def forget(self, name: str) -> None:
        """Nobody has a model of this name: clients may ask for any number of them."""
        self._asked.pop(name, None)

    def first_look(self, names: Iterable[str]) -> None:
        """What was there at the start."""
        there = set(names)
        for name in sorted(self._start - there - {"*"}):
            log.error("--load-model names '%s', which is not in the repository", name)
        if "*" in self._start:
            self._start |= there

    def wants(self, name: str) -> bool:
        return self._asked.get(name, self.kind != "explicit" or name in self._start)

    def check(self) -> None:
        """Whether models may be loaded and unloaded at all. Raises Unsupported."""
        if self.kind == "none":
            raise Unsupported(
                "models are neither loaded nor unloaded here: the server was started with --repository-control none"
            )
