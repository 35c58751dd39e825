"""Access control: each transport finds out once for each request who sent it, and asks whether they may do this.

There are three doors. Every request of a transport passes through its door, whatever the dialect:

    hot REST     front/http/hot_request.py, `HotRequest.open`; if the path does not name the model, `_submit`
    admin app    front/admin/door.py, an ASGI middleware
    gRPC         front/grpc/grpcio.py and native.py pass a `Check` to each method, which calls it once it has
                 parsed the message, because the message names the model

A server without an Access allows everything, and no Caller and no Identity is created.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gateway.domain.caller import Caller, Event, Header
from gateway.domain.identity import Action, Identity
from gateway.domain.types import ModelStatus
from gateway.engine.protocol import Engine
from gateway.errors import ModelportError, Unauthenticated

if TYPE_CHECKING:
    from starlette.requests import Request


class Access(Protocol):
    @property
    def known_headers(self) -> Mapping[Header, Identity]:
        """Single headers by which clients have identified themselves lately, always in the same dictionary.

        As long as the identity is valid, whoever sends this one and no other with credentials is that client.
        """

    def identify(self, caller: Caller) -> Identity:
        """Return who this is. Without credentials, that is the anonymous identity.

        Raises Unauthenticated if the credentials are not valid, and Unavailable if they cannot be checked.
        """

    def record(self, event: Event) -> None:
        """Add the event to the audit log, if there is one."""


def known_caller(
    access: Access, peer: str, metadata: Sequence[Any], certificate: Sequence[str] = ()
) -> Identity | None:
    """Return who sends a call; None for credentials that are not accepted."""
    try:
        return access.identify(Caller(peer, metadata, certificate))
    except ModelportError:
        return None


class DeniedModel(Exception):
    """A body names a model that its sender may not use. Whoever catches this records it, and refuses the request."""

    def __init__(self, model: str) -> None:
        self.model = model


class GuardedEngine:
    """The engine, for reading a body that names its model: it says nothing of a model that the client may not use.

    It may be used in a thread, where nothing can be recorded. `model` raises DeniedModel.
    """

    def __init__(self, engine: Engine, identity: Identity) -> None:
        self._engine, self._identity = engine, identity

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def model(self, name: str, version: str = "") -> ModelStatus:
        try:
            self._identity.check("infer", name)
        except ModelportError:
            raise DeniedModel(name) from None
        return self._engine.model(name, version)


class Check:
    """Asks for one gRPC call whether its caller may do something, and who that is."""

    __slots__ = ("_access", "_caller", "_identity", "_what")

    def __init__(self, access: Access, caller: Caller, what: str) -> None:
        self._access, self._caller, self._what = access, caller, what
        self._identity: Identity | None = None

    def __call__(self, action: Action, model: str) -> Identity:
        """Raises Unauthenticated if the caller must identify itself first, Forbidden if it lacks permission."""
        try:
            if self._identity is None or not self._identity.is_valid:  # a stream may outlive its credentials
                self._identity = None
                self._identity = self._access.identify(self._caller)
            self._identity.check(action, model)
        except ModelportError as error:
            self.record(action, model, error.kind)
            raise
        return self._identity

    def record(self, action: Action, model: str, outcome: str = "ok") -> None:
        """Record what became of the call."""
        name = "" if self._identity is None else self._identity.name
        self._access.record(Event(action, model, self._caller.peer, name, self._what, outcome))


def check_of(
    access: Access | None, peer: str, metadata: Sequence[Any], what: str, certificate: Sequence[str] = ()
) -> Check | None:
    """Return the check for one call of the gRPC method `what`, or None if everything is allowed."""
    if access is None:
        return None
    return Check(access, Caller(peer, [(key, value) for key, value in metadata], certificate), what)


def http_caller(
    client: tuple[str, int] | None, headers: Sequence[tuple[bytes, bytes]], certificate: Sequence[str] = ()
) -> Caller:
    peer = f"{client[0]}:{client[1]}" if client else ""
    return Caller(peer, [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers], certificate)


# Keys in the scope of a request to the admin app: the names in the client's certificate; the identity; for the audit
# log, the kind of the error that it has ended with, and the model that its body names.
CERTIFICATE = "modelport.certificate"
IDENTITY = "modelport.identity"
OUTCOME = "modelport.outcome"
MODEL = "modelport.model"


def challenge(error: ModelportError) -> dict[str, str]:
    """Return the headers that an answer with this error must have: RFC 9110, section 15.5.2."""
    return {"www-authenticate": error.challenge} if isinstance(error, Unauthenticated) else {}


def identity_of(request: "Request") -> Identity | None:
    """Return who sent a request to the admin app; None if everything is allowed."""
    identity: Identity | None = request.scope.get(IDENTITY)
    return identity


def readable_models(engine: Engine, request: "Request") -> list[str]:
    """Return the names of the models that the client may read about, sorted."""
    identity = identity_of(request)
    return sorted({status.name for status in engine.models() if may_read(identity, status.name)})


def may_read(identity: Identity | None, model: str) -> bool:
    """Whether an answer that lists models has this one."""
    return identity is None or identity.allows("read", model)


_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def acts(action: Action) -> Callable[[_Endpoint], _Endpoint]:
    """Declare the action of an endpoint of the admin app. `action_of` has the default for the others."""

    def mark(endpoint: _Endpoint) -> _Endpoint:
        endpoint.action = action  # type: ignore[attr-defined]
        return endpoint

    return mark


def public(endpoint: _Endpoint) -> _Endpoint:
    """Declare that an endpoint of the admin app answers everybody, because it is the same for all and has no data.

    A browser opens a page without credentials; its scripts add them to their requests.
    """
    endpoint.is_public = True  # type: ignore[attr-defined]
    return endpoint


def action_of(endpoint: object, method: str) -> Action:
    """Return what `acts` declared; by default, "read" for safe methods and "admin" for the others.

    endpoint  None if there is none, which is only said to those who may read the documentation
    """
    default: Action = "read" if endpoint is None or method in _SAFE_METHODS else "admin"
    action: Action = getattr(endpoint, "action", default)
    return action
