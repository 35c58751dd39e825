"""The common part of all gRPC methods, whatever their messages are."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from gateway.codecs.protobuf_limits import check_fields
from gateway.domain.identity import Action, Identity
from gateway.domain.request_record import CANCELLED, CURRENT, RequestRecord
from gateway.domain.types import InferRequest, InferResponse, NotLoaded
from gateway.engine.protocol import AnswerCallback, Engine, RequestHandle
from gateway.errors import InvalidRequest, ModelportError, Overloaded
from gateway.front.base.access import Check
from gateway.front.base.affinity import CALL_METADATA, with_affinity
from gateway.front.base.client_errors import to_client_error

# Takes a message and returns its answer. The number is the seconds left until the call's deadline, if it has one. The
# check is called once, as soon as the message has been parsed, because it names the model.
Method = Callable[[bytes, float | None, Check | None], Awaitable[bytes]]
Done = Callable[[bytes | Exception], None]
# Called once per answer, with whether it is the final one, and whether it has no outputs. After an error that is not
# final, which is one of writing an answer, the request should be cancelled.
EachDone = Callable[[bytes | Exception, bool, bool], None]
# Takes any number of messages, a function that returns the seconds left, and the check, which is called for each
# message. Yields any number of answers.
StreamMethod = Callable[[AsyncIterator[bytes], Callable[[], float | None], Check | None], AsyncGenerator[bytes, None]]

# Takes one message and the check, and yields any number of answers.
ServerStreamMethod = Callable[[bytes, Check | None], AsyncGenerator[bytes, None]]

# How the answer to one request is written: which outputs, in which form.
_OptionsT = TypeVar("_OptionsT")

# The protobuf fields of one message. Each tensor has several, and each parameter, so this allows thousands of them.
# protobuf_limits.py has what a field can cost: with many more of them, one message would block the event loop.
_MAX_FIELDS = 1 << 16


class InferCall(Generic[_OptionsT]):
    """An inference method. It can be called as a coroutine, and by `submit` with a callback, at half the cost.

    read   returns the request in a message, and how to write its answer; it gets the seconds until the call's deadline
    write  encodes an answer
    model  returns the model that a message names. Raises ModelportError. Used if `read` has failed
    """

    def __init__(
        self,
        engine: Engine,
        read: Callable[[bytes, float | None], tuple[InferRequest, _OptionsT]],
        write: Callable[[_OptionsT, InferResponse], bytes],
        model: Callable[[bytes], str],
    ) -> None:
        self._engine, self._read, self._write, self._model = engine, read, write, model

    @property
    def drained(self) -> asyncio.Event:
        return self._engine.drained

    async def __call__(self, raw: bytes, seconds: float | None, check: Check | None = None) -> bytes:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        handle = self.submit(raw, seconds, partial(_resolve, answer), check, CURRENT.get())
        try:
            return await answer
        except asyncio.CancelledError:
            handle.cancel()
            raise
        finally:
            del answer, handle  # as in FrontEngine.infer

    def submit(
        self,
        raw: bytes,
        seconds: float | None,
        done: Done,
        check: Check | None = None,
        record: RequestRecord | None = None,
    ) -> RequestHandle:
        """Like Engine.submit, for a method with one answer: `done` is called later, once. Raises ModelportError."""
        try:
            request, options = self._read_checked(raw, seconds, check, record)
            return self._submit(request, partial(self._on_final, options, done), check, record)
        except NotLoaded as unloaded:
            submit = partial(self.submit, raw, done=done, check=check, record=record)
            return self._submit_later(unloaded, submit, done, len(raw), seconds, check)

    def submit_each(
        self,
        raw: bytes,
        seconds: float | None,
        done: EachDone,
        check: Check | None = None,
        record: RequestRecord | None = None,
    ) -> RequestHandle:
        """Like `submit`, for a method with any number of answers, which `done` gets. See Engine.submit."""
        try:
            request, options = self._read_checked(raw, seconds, check, record)
            return self._submit(request, partial(self._on_each, options, done), check, record, takes_many=True)
        except NotLoaded as unloaded:
            submit = partial(self.submit_each, raw, done=done, check=check, record=record)
            return self._submit_later(
                unloaded, submit, lambda error: done(error, True, False), len(raw), seconds, check
            )

    def _submit_later(
        self,
        unloaded: NotLoaded,
        submit: Callable[..., RequestHandle],
        fail: Callable[[Exception], None],
        size: int,
        seconds: float | None,
        check: Check | None,
    ) -> RequestHandle:
        """Submit a request when its model has been loaded, with the time that is left until its deadline."""
        started, model = time.monotonic(), unloaded.model_status.name
        identity = None if check is None else check("infer", model)
        go_on = lambda: submit(seconds=_left(seconds, started))  # noqa: E731
        with _refusals_recorded(check, model):
            return self._engine.when_loaded(unloaded, go_on, fail, size, seconds, identity)

    def _read_checked(
        self, raw: bytes, seconds: float | None, check: Check | None, record: RequestRecord | None
    ) -> tuple[InferRequest, _OptionsT]:
        """Read a message. A client that may not use the model does not learn what is wrong, which may tell about it."""
        try:
            request, options = self._read(raw, seconds)
            if self._engine.sticky_headers:
                request = with_affinity(self._engine, request, CALL_METADATA.get())
            return request, options
        except Exception:
            if check is not None or record is not None:
                model = ""
                with suppress(ModelportError):
                    model = self._model(raw)
                if record is not None:
                    record.model = model
                if check is not None:
                    check("infer", model)
            raise

    def _submit(
        self,
        request: InferRequest,
        on_answer: AnswerCallback,
        check: Check | None,
        record: RequestRecord | None,
        takes_many: bool = False,
    ) -> RequestHandle:
        identity = None if check is None else check("infer", request.model)
        if record is not None:
            request = record.attach(request, identity)
        if check is None:
            return self._engine.submit(request, on_answer, takes_many=takes_many)
        try:
            return self._engine.submit(request, on_answer, identity, takes_many)
        except Overloaded as error:
            check.record("infer", request.model, error.kind)
            raise

    def _on_final(self, options: _OptionsT, done: Done, outcome: InferResponse | Exception) -> None:
        if isinstance(outcome, Exception):
            done(outcome)
            return
        if not outcome.final:
            return
        answer: bytes | Exception
        try:
            answer = self._write(options, outcome)
        except Exception as error:
            answer = error
        done(answer)

    def _on_each(self, options: _OptionsT, done: EachDone, outcome: InferResponse | Exception) -> None:
        if isinstance(outcome, Exception):
            done(outcome, True, False)
            return
        answer: bytes | Exception
        try:
            answer = self._write(options, outcome)
        except Exception as error:
            answer = error
        done(answer, outcome.final, not outcome.outputs)


def _resolve(answer: "asyncio.Future[bytes]", outcome: bytes | Exception) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


@contextmanager
def _refusals_recorded(check: Check | None, model: str) -> Iterator[None]:
    """Record in the audit log that the engine has refused an inference."""
    try:
        yield
    except Overloaded as error:
        if check is not None:
            check.record("infer", model, error.kind)
        raise


def _left(seconds: float | None, started: float) -> float | None:
    """Return what is left of the seconds that there were at a time."""
    return None if seconds is None else seconds - (time.monotonic() - started)


class Service(NamedTuple):
    """One gRPC service and its methods by name. An InferCall is a hot method.

    streams         bidirectional ones
    server_streams  those with one message from the client
    """

    name: str
    methods: Mapping[str, Method]
    streams: Mapping[str, StreamMethod] = {}
    server_streams: Mapping[str, ServerStreamMethod] = {}


def unary(
    action: Action | Callable[[Any], Action],
    kind: type[Message],
    model: Callable[[Any], str],
    answer: Callable[[Any, float | None, Identity | None], Awaitable[Message]],
    max_fields: int = _MAX_FIELDS,
) -> Method:
    """Build a method that is not hot. `model` returns which model a message concerns; "" for none.

    action  or a function that returns what a message asks for
    """
    action_of = action if callable(action) else lambda message: action

    async def call(raw: bytes, seconds: float | None, check: Check | None = None) -> bytes:
        try:
            message = parse(kind, raw, max_fields)
        except ModelportError as error:
            if check is not None:
                action = action_of(kind())
                check(action, "")  # it names no model
                if action == "admin":
                    check.record(action, "", error.kind)
            raise
        name, action = model(message), action_of(message)
        identity = None if check is None else check(action, name)
        record = CURRENT.get()
        if record is not None:
            record.model, record.identity = name, "" if identity is None else identity.name
        if check is None:
            return (await answer(message, seconds, identity)).SerializeToString()
        try:
            reply = await answer(message, seconds, identity)
        except Exception as error:
            if action == "admin" or isinstance(error, Overloaded):
                check.record(action, name, to_client_error(error).kind)
            raise
        except asyncio.CancelledError:
            if action == "admin":  # what was begun may be carried out nevertheless
                check.record(action, name, CANCELLED)
            raise
        if action == "admin":
            check.record(action, name)
        return reply.SerializeToString()

    return call


def no_model(message: Any) -> str:
    return ""


def parse(kind: type[Message], raw: bytes, max_fields: int = _MAX_FIELDS) -> Any:
    """Parse a message of this type. Raises InvalidRequest, TooLarge."""
    check_fields(raw, kind.DESCRIPTOR, max_fields)
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise InvalidRequest(f"the message is not a valid {kind.DESCRIPTOR.full_name}") from None
