"""Calls whose coroutine waits for a model, or submits several requests, before it can answer."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.domain.identity import Identity
from gateway.engine.protocol import Acceptance, Engine
from gateway.errors import ModelportError

_MessageT = TypeVar("_MessageT")
_AnswerT = TypeVar("_AnswerT")
Answer = Callable[[_MessageT, float | None, Identity | None, Acceptance], Awaitable[_AnswerT]]


def accepted_call(
    engine: Engine, model: Callable[[_MessageT], str], answer: Answer[_MessageT, _AnswerT]
) -> Callable[[_MessageT, float | None, Identity | None], Awaitable[_AnswerT]]:
    """Return `answer` as a call that is in progress from its arrival to its end: a drain waits for all of it.

    model  the name of a message's model
    """

    async def call(message: _MessageT, seconds: float | None, identity: Identity | None) -> _AnswerT:
        with engine.reserve_body(model(message), ""):  # counts a refusal
            accepted = engine.accept(_nothing)
        try:
            return await answer(message, seconds, identity, accepted)
        finally:
            accepted.end()

    return call


def _nothing(error: ModelportError) -> None:
    """The gateway stops: what the call has submitted fails, and with it the call."""
