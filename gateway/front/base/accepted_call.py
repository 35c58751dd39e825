"""Calls whose coroutine waits for a model, or submits several requests, before it can answer."""

import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from gateway.domain.identity import Identity
from gateway.engine.protocol import Acceptance, Engine
from gateway.errors import ModelportError

_MessageT = TypeVar("_MessageT")
_AnswerT = TypeVar("_AnswerT")


class Call(NamedTuple):
    """Whose call it is, and until when it may take, in time.monotonic()."""

    deadline: float | None
    identity: Identity | None
    accepted: Acceptance

    @property
    def seconds_left(self) -> float | None:
        return None if self.deadline is None else self.deadline - time.monotonic()


Answer = Callable[[_MessageT, Call], Awaitable[_AnswerT]]


def accepted_call(
    engine: Engine, model: Callable[[_MessageT], str], answer: Answer[_MessageT, _AnswerT]
) -> Callable[[_MessageT, float | None, Identity | None], Awaitable[_AnswerT]]:
    """Return `answer` as a call that is in progress from its arrival to its end: a drain waits for all of it.

    model  the name of a message's model
    """

    async def call(message: _MessageT, seconds: float | None, identity: Identity | None) -> _AnswerT:
        deadline = None if seconds is None else time.monotonic() + seconds
        with engine.reserve_body(model(message), ""):  # counts a refusal
            accepted = engine.accept(_nothing)
        try:
            return await answer(message, Call(deadline, identity, accepted))
        finally:
            accepted.end()

    return call


def _nothing(error: ModelportError) -> None:
    """The gateway stops: what the call has submitted fails, and with it the call."""
