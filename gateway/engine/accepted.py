"""Requests that were received whole and are not submitted yet: they are in progress, though nobody can run them."""

from collections.abc import Callable
from typing import TypeVar

from gateway.engine.admission import AdmissionController
from gateway.errors import ModelportError

_T = TypeVar("_T")


class Accepted:
    """The gateway.engine.protocol.Acceptance of one request."""

    __slots__ = ("_all", "_on_failed")

    def __init__(self, accepted: "AcceptedRequests", fail: Callable[[ModelportError], object]) -> None:
        self._all, self._on_failed = accepted, fail

    def go_on(self, go_on: Callable[[], _T]) -> _T:
        return self._all.go_on(go_on) if self in self._all else go_on()

    def proceed(self, go_on: Callable[[], _T]) -> _T:
        self.end()
        return self._all.go_on(go_on)

    def end(self) -> None:
        self._all.end(self)

    def fail(self, error: ModelportError) -> None:
        if self._all.end(self):
            self._on_failed(error)


class AcceptedRequests:
    """Those of one front. What limits them is what is reserved for their bodies.

    going_on  whether one is being continued now. It was accepted when it came, so draining does not refuse it
    """

    def __init__(self, admission: AdmissionController) -> None:
        self._admission = admission
        self._accepted: set[Accepted] = set()
        self.going_on = False

    def __contains__(self, accepted: Accepted) -> bool:
        """Whether it has not ended."""
        return accepted in self._accepted

    def add(self, fail: Callable[[ModelportError], object]) -> Accepted:
        self._admission.accepted += 1
        accepted = Accepted(self, fail)
        self._accepted.add(accepted)
        return accepted

    def end(self, accepted: Accepted) -> bool:
        """Stop counting a request; return False if it has ended already."""
        if accepted not in self._accepted:
            return False
        self._accepted.remove(accepted)
        self._admission.end_accepted()
        return True

    def go_on(self, go_on: Callable[[], _T]) -> _T:
        """Continue a request that was accepted before."""
        before, self.going_on = self.going_on, True
        try:
            return go_on()
        finally:
            self.going_on = before

    def fail_all(self, error: ModelportError) -> None:
        for accepted in list(self._accepted):
            accepted.fail(error)
