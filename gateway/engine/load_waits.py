"""Requests that wait until their model has been loaded for the first time, because nobody can read them before."""

import time
from collections.abc import Callable

from gateway.domain.quota import Usage
from gateway.domain.types import ModelStatus, NotLoaded
from gateway.engine.accepted import AcceptedRequests
from gateway.engine.admission import AdmissionController
from gateway.engine.admitted import AdmittedRequest
from gateway.engine.deadlines import Deadlines
from gateway.engine.metrics import FrontMetrics
from gateway.engine.protocol import RequestHandle
from gateway.errors import ModelportError, Overloaded, Unavailable

_Key = tuple[str, str]


class LoadWait:
    """The RequestHandle of a request that waits, and afterwards of the request itself.

    go_on  reads and submits the request, and returns its handle, if there is one
    fail   answers with an error
    size   bytes of it that are counted only here
    """

    def __init__(
        self,
        waits: "LoadWaits",
        number: int,
        status: ModelStatus,
        go_on: Callable[[], RequestHandle | None],
        fail: Callable[[Exception], object],
        size: int,
        deadline: float,
        timeout_s: float | None,
        is_child: bool,
        usage: Usage | None,
    ) -> None:
        self.is_child, self.usage = is_child, usage
        self.id, self.deadline, self.timeout_s = number, deadline, timeout_s
        self.key = status.name, status.version
        self.size = size
        self.started = time.monotonic()
        self._waits, self._go_on, self._on_failed = waits, go_on, fail
        self._handle: RequestHandle | None = None

    def cancel(self) -> None:
        if self._waits.end(self, "cancelled"):
            return
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()

    def acknowledge(self) -> None:
        if self._handle is not None:
            self._handle.acknowledge()

    def fail(self, error: ModelportError) -> None:
        """Answer with an error, unless the wait has ended."""
        if self._waits.end(self, error.kind):
            self._on_failed(error)

    def proceed(self) -> None:
        """The model has been loaded."""
        if not self._waits.end(self):
            return
        try:
            self._handle = self._waits.accepted.go_on(self._go_on)
        except Exception as error:
            self._on_failed(error)


class LoadWaits:
    """All waits of a front, by version and in the order in which they came.

    They count against the limits of admission as requests do, so there cannot be more of them.
    """

    def __init__(
        self,
        admission: AdmissionController,
        deadlines: "Deadlines[AdmittedRequest | LoadWait]",
        metrics: FrontMetrics,
        want: Callable[[ModelStatus], None],
        accepted: AcceptedRequests,
    ) -> None:
        """`want` asks for a version to be loaded; called as often as there may be a reason."""
        self._admission, self._deadlines, self._metrics, self._want = admission, deadlines, metrics, want
        self.accepted = accepted
        self._waits: dict[_Key, dict[int, LoadWait]] = {}

    def add(
        self,
        number: int,
        unloaded: NotLoaded,
        go_on: Callable[[], RequestHandle | None],
        fail: Callable[[Exception], object],
        size: int = 0,
        seconds: float | None = None,
        has_other_models: bool = True,
        is_child: bool = False,
        usage: Usage | None = None,
    ) -> LoadWait:
        """Have a request wait, for at most `seconds`, or the default timeout. Raises Overloaded.

        number    an id that no other request has
        is_child  whether it is made for another one, so that it is never refused
        usage     of whoever sent it
        """
        status = unloaded.model_status
        waits = self._waits.get((status.name, status.version), {})
        if is_child:
            self._admission.admit_child(size)
        else:
            self._admission.admit(size, len(waits), has_other_models)
            if usage is not None:
                try:
                    usage.hold(size)
                except Overloaded:
                    self._admission.release(size)
                    raise
        timeout_s = self._admission.limits.timeout_s if seconds is None else None
        deadline = time.monotonic() + (self._admission.limits.timeout_s if seconds is None else seconds)
        wait = LoadWait(self, number, status, go_on, fail, size, deadline, timeout_s, is_child, usage)
        self._waits.setdefault(wait.key, waits)[wait.id] = wait
        self._deadlines.add(wait, timeout_s)
        self._want(status)
        return wait

    def end(self, wait: LoadWait, outcome: str = "") -> bool:
        """Stop counting a wait; return False if it has ended already. `outcome`: of the request, if it ends with it."""
        waits = self._waits.get(wait.key, {})
        if waits.pop(wait.id, None) is None:
            return False
        if not waits:
            del self._waits[wait.key]
        self._deadlines.remove(wait, wait.timeout_s)
        if outcome:
            self._metrics.of(*wait.key).count(outcome, time.monotonic() - wait.started)
        if wait.is_child:
            self._admission.end_child(wait.size)
        else:
            self._admission.release(wait.size)
            if wait.usage is not None:
                wait.usage.end(wait.size)
        return True

    def apply(self, find: Callable[[str, str], ModelStatus | None]) -> None:
        """Continue after a change of the table, in which `find` looks up a version."""
        for (name, version), waits in list(self._waits.items()):
            status = find(name, version)
            if status is not None and status.awaits_load:
                self._want(status)
                continue
            for wait in list(waits.values()):
                if status is None:
                    wait.fail(Unavailable(f"model '{name}' version {version} was unloaded"))
                else:  # if it could not be loaded, the request may be one for another version instead
                    wait.proceed()

    def counts(self) -> dict[_Key, int]:
        """Return how many requests wait for each version."""
        return {key: len(waits) for key, waits in self._waits.items()}

    def fail_all(self, error: ModelportError) -> None:
        for waits in list(self._waits.values()):
            for wait in list(waits.values()):
                wait.fail(error)
