"""The engine's interface to a front. FrontEngine (engine.py) and FakeEngine (fake.py) implement it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeVar

from gateway.domain.control import ControlRequest, ResultT
from gateway.domain.deployment import Deployment
from gateway.domain.identity import Identity
from gateway.domain.shared_memory import SharedMemory
from gateway.domain.types import InferRequest, InferResponse, ModelStatus, NotLoaded
from gateway.domain.uploads import Uploads
from gateway.errors import ModelportError

# Called once per answer. The last call gets the final answer or an error.
AnswerCallback = Callable[[InferResponse | Exception], None]

_T = TypeVar("_T")


class ClientDisconnected(Exception):
    """The client closed its connection before it was answered."""


class BodyReservation(Protocol):
    """Memory reserved for one body, from its first byte until the engine admits or rejects its request."""

    def reserve(self, size: int, is_input: bool = True) -> None:
        """Reserve `size` more bytes until `close`.

        is_input  False for memory that reading the body takes: it counts against the limits, but against no quota

        Raises Overloaded if they would exceed the limit that all requests and bodies share, or one of the client.
        """

    def release(self, size: int) -> None:
        """Reserve `size` bytes less than until now."""

    def suspend(self) -> None:
        """Release the bytes until `resume`, which has to follow at once if the engine does not admit the request."""

    def resume(self) -> None:
        """Reserve them again. They are never refused."""

    def close(self, error: BaseException | None = None) -> None:
        """Release the bytes. Called once.

        An error is recorded in the model's metrics: as rejected, as failed or, for ClientDisconnected, as cancelled.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Call `close` with the exception that left the block, if any."""


class RequestHandle(Protocol):
    """An admitted request, as `submit` returns it."""

    def cancel(self) -> object:
        """Cancel the request: its callback is not called again. Does nothing after the callback's last call."""

    def acknowledge(self) -> object:
        """Report that the client has read one more answer that was not the final one.

        The model computes no further answers while too many of them are unread.
        """


class Acceptance(Protocol):
    """A request that has been received whole and counts as in progress, until it is submitted or fails.

    Whoever reads a request later than in the turn of the event loop in which it arrived whole holds one, and so does
    whoever makes several requests of it, one after the other.
    """

    def go_on(self, go_on: Callable[[], _T]) -> _T:
        """Return what `go_on` does, which submits a request, or has it wait for its model. A drain does not refuse it,
        unless this has ended."""

    def proceed(self, go_on: Callable[[], _T]) -> _T:
        """End this, and return what `go_on` does, which submits the request, or accepts it again. It is not refused
        although the gateway may drain by now."""

    def end(self) -> object:
        """End this: the request needs no answer. Does nothing after `proceed`, `end` or an error."""


class Engine(Protocol):
    """Accepts decoded requests and returns decoded answers."""

    @property
    def ready(self) -> bool:
        """Whether load balancers should send requests to this server."""

    @property
    def drained(self) -> asyncio.Event:
        """Set when the server is stopping and no request is in progress. Waiting for requests must end then."""

    @property
    def server_name(self) -> str:
        """The server's name in its metadata."""
        ...

    @property
    def deployment(self) -> Deployment:
        """How the platform that runs this server addresses it."""
        ...

    @property
    def uploads(self) -> Uploads | None:
        """Where files go that come with requests to load models; None if none may come."""
        ...

    @property
    def shared_memory(self) -> SharedMemory:
        """The shared-memory regions that clients have registered."""

    @property
    def sticky_headers(self) -> Mapping[str, str]:
        """Model → the header, in lower case, whose value goes into InferRequest.affinity. Most models have none."""

    def models(self) -> Sequence[ModelStatus]:
        """Return the status of every version of every model in the repository."""

    def model(self, name: str, version: str = "") -> ModelStatus:
        """Return the status of one version, by number or label; "" is the newest ready one. Raises NotFound."""

    def choose_version(self, request: InferRequest, identity: Identity | None = None) -> str:
        """Return the version for requests that belong together; "" if the model's traffic is not divided.

        For a single request that names none, `submit` chooses. Without inputs, a request is enough here.
        """
        ...

    def reserve_body(self, model: str, version: str, identity: Identity | None = None) -> BodyReservation:
        """Return a reservation to hold while a request is read. Close it right before `submit` or `infer`."""

    def accept(self, fail: Callable[[ModelportError], object]) -> Acceptance:
        """Accept a request that has been received whole, and has yet to be read: a drain waits for it.

        Its bytes are reserved. Limits and quotas refuse it when it is submitted, if they do.

        fail  answers with an error, if the gateway stops before

        Raises Unavailable.
        """

    def buffer(self, size: int, model: str = "") -> memoryview:
        """Return memory to receive a body of `size` bytes into. Its workers read large ones from it without a copy.

        It may be called on any thread, and what it returns has the bytes of others until it is overwritten.

        model  "" if it is not known before the body has been read
        """

    def submit(
        self,
        request: InferRequest,
        on_answer: AnswerCallback,
        identity: Identity | None = None,
        takes_many: bool = False,
    ) -> RequestHandle:
        """Admit a request and return before it is answered. `identity` is who sent it, if that is known.

        takes_many  whether the caller takes any number of answers. It acknowledges all but the final one, which has no
                    outputs if there are others. Without it, decoupled models are refused, and the only answer is final

        Raises ModelportError if the request is rejected; `on_answer` is not called then.
        """

    async def infer(
        self, request: InferRequest, identity: Identity | None = None, accepted: Acceptance | None = None
    ) -> InferResponse:
        """Submit a request and return its only answer. Raises ModelportError.

        accepted  that of the call to which it belongs

        Cancel it when the client disconnects. For decoupled models, use `submit`.
        """

    def when_loaded(
        self,
        unloaded: NotLoaded,
        go_on: Callable[[], RequestHandle | None],
        fail: Callable[[Exception], object],
        size: int = 0,
        seconds: float | None = None,
        identity: Identity | None = None,
    ) -> RequestHandle:
        """Have a model loaded, which `unloaded` is about, and then call `go_on`; or `fail`, if that does not succeed.

        go_on    reads the request again and submits it. Returns its handle, for which that of the wait then stands.
                 `fail` is called with what it raises
        size     the bytes that wait, unless a reservation has them
        seconds  how long the request may wait; by default, as long as any
        identity who sent it, whose quota counts it meanwhile

        Raises Overloaded, Unavailable.
        """

    async def control(self, request: ControlRequest[ResultT]) -> ResultT:
        """Send a control request (gateway/domain/control.py) to the supervisor. Raises ModelportError."""
