"""Decides which models of the repository are served, in the three modes of Triton's --model-control-mode.

poll      every model, as the repository changes
explicit  the models that clients load, and those that the command line names, each with the steps of a pipeline
none      every model that is there at the start
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping

from gateway.config import RepositoryControl
from gateway.errors import Unsupported

log = logging.getLogger("models")


class ModelSelection:
    """`initial` has the models to load at the start under explicit control; "*" is every model that is there then."""

    def __init__(self, mode: RepositoryControl = "poll", initial: Iterable[str] = ()) -> None:
        self.mode = mode
        self._initial = set(initial)
        # Model → whether clients last asked to load it (True) or to unload it (False).
        self._requested: dict[str, bool] = {}
        self._steps: Mapping[str, Collection[str]] = {}

    def select(self, name: str) -> None:
        """Serve a model, and the steps of a pipeline, because a client loads it. Raises Unsupported."""
        self.check_allowed()
        for model in [name, *steps_below([name], self._steps)]:
            self._requested[model] = True

    def deselect(self, name: str) -> None:
        """Stop serving a model because a client unloads it. Raises Unsupported."""
        self.check_allowed()
        self._requested[name] = False

    def remember(self, name: str) -> Callable[[], None]:
        """Return a function that undoes a `select` that follows, unless the model has been deselected since."""
        asked = self._requested.get(name)

        def undo() -> None:
            if not self._requested.get(name):
                return
            if asked is None:
                self._requested.pop(name, None)
            else:
                self._requested[name] = asked

        return undo

    def forget(self, name: str) -> None:
        """Drop the entry of a model that does not exist. Otherwise clients could fill the memory with made-up names."""
        self._requested.pop(name, None)

    def on_first_scan(self, names: Iterable[str]) -> None:
        """Resolve "*" to the models found at the start, and log which of the named ones are missing."""
        found = set(names)
        for name in sorted(self._initial - found - {"*"}):
            log.error("--load-model names '%s', which is not in the repository", name)
        if "*" in self._initial:
            self._initial |= found

    def on_pipelines(self, steps: Mapping[str, Collection[str]]) -> None:
        """Select the steps of the pipelines that are selected. As in Triton, unloading a pipeline does not undo that.

        steps: pipeline → the names of the models that it runs
        """
        self._steps = steps
        self._initial |= steps_below([name for name in steps if self.is_selected(name)], steps)

    def is_selected(self, name: str) -> bool:
        return self._requested.get(name, self.mode != "explicit" or name in self._initial)

    def check_allowed(self) -> None:
        """Raises Unsupported if clients may not load and unload models."""
        if self.mode == "none":
            raise Unsupported(
                "models cannot be loaded or unloaded here: the server was started with --repository-control none"
            )


def steps_below(names: Iterable[str], steps: Mapping[str, Collection[str]]) -> set[str]:
    """Return the models that pipelines run, directly or through other pipelines."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        new = set(steps.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found
