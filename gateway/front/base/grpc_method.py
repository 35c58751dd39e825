"""What gRPC methods have in common, whatever their messages are."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from gateway.codecs.protobuf_limits import check_fields
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine, RequestHandle
from gateway.errors import InvalidRequest
from gateway.front.base.access import Action, Check
from gateway.front.base.limits import Limits

# From a message to its answer. The number is the seconds that the call's own deadline leaves, if it has one; the check
# is made once, as soon as the message says which model it concerns.
Method = Callable[[bytes, float | None, Check | None], Awaitable[bytes]]
Done = Callable[[bytes | Exception], None]
# Called once per answer, and told whether it is the final one; an error always is.
EachDone = Callable[[bytes | Exception, bool], None]
# Any number of messages, what tells the seconds that are left, and the check for each -> any number of answers.
StreamMethod = Callable[[AsyncIterator[bytes], Callable[[], float | None], Check | None], AsyncGenerator[bytes, None]]

_Wanted = TypeVar("_Wanted")

# Of a message: each tensor has some, and each parameter.
_MAX_FIELDS = 1 << 16


class InferCall(ABC, Generic[_Wanted]):
    """Called all the time: so it is there as a coroutine, and by plain calls, which cost half of one."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine, self._limits = engine, limits

    @abstractmethod
    def _read(self, raw: bytes, seconds: float | None) -> tuple[InferRequest, _Wanted]:
        """The request, and how its answer is to be written. Raises ModelportError."""

    @abstractmethod
    def _write(self, wanted: _Wanted, response: InferResponse) -> bytes:
        """Raises ModelportError."""

    @property
    def drained(self) -> asyncio.Event:
        return self._engine.drained

    async def __call__(self, raw: bytes, seconds: float | None, check: Check | None = None) -> bytes:
        request, wanted = self._read(raw, seconds)
        if check is not None:
            check("infer", request.model)
        return self._write(wanted, await self._engine.infer(request))

    def submit(self, raw: bytes, seconds: float | None, done: Done, check: Check | None = None) -> RequestHandle:
        """As the engine's, of a call that has one answer: `done` is called later, once, or ModelportError raised."""
        request, wanted = self._read(raw, seconds)
        if check is not None:
            check("infer", request.model)
        return self._engine.submit(request, partial(self._on_done, wanted, done))

    def submit_each(
        self, raw: bytes, seconds: float | None, done: EachDone, check: Check | None = None
    ) -> RequestHandle:
        """`submit`, of a call that may have several answers to a request."""
        request, wanted = self._read(raw, seconds)
        if check is not None:
            check("infer", request.model)
        return self._engine.submit(request, partial(self._on_each, wanted, done))

    def _on_done(self, wanted: _Wanted, done: Done, outcome: InferResponse | Exception) -> None:
        if isinstance(outcome, Exception):
            done(outcome)
        elif outcome.final:
            done(self._told(wanted, outcome))

    def _on_each(self, wanted: _Wanted, done: EachDone, outcome: InferResponse | Exception) -> None:
        if isinstance(outcome, Exception):
            done(outcome, True)
        else:
            done(self._told(wanted, outcome), outcome.final)

    def _told(self, wanted: _Wanted, response: InferResponse) -> bytes | Exception:
        try:
            return self._write(wanted, response)
        except Exception as error:
            return error


class Service(NamedTuple):
    """One gRPC service, its methods by name. Those that are an InferCall are called all the time."""

    name: str
    methods: Mapping[str, Method]
    streams: Mapping[str, StreamMethod] = {}


def unary(
    action: Action,
    kind: type[Message],
    model: Callable[[Any], str],
    answer: Callable[[Any, float | None], Awaitable[Message]],
    max_fields: int = _MAX_FIELDS,
) -> Method:
    """A method that is not called all the time. model: which one a message of this kind concerns; "" for none."""

    async def call(raw: bytes, seconds: float | None, check: Check | None = None) -> bytes:
        message = parse(kind, raw, max_fields)
        if check is not None:
            check(action, model(message))
        return (await answer(message, seconds)).SerializeToString()

    return call


def no_model(message: Any) -> str:
    return ""


def parse(kind: type[Message], raw: bytes, most_fields: int = _MAX_FIELDS) -> Any:
    """A message of this kind. Raises InvalidRequest, TooLarge."""
    check_fields(raw, kind.DESCRIPTOR, most_fields)
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise InvalidRequest(f"the message is not a valid {kind.DESCRIPTOR.full_name}") from None
