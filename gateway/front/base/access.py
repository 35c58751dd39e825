"""Access control: one check that each transport makes once for each request.

There are three doors. Every request of a transport passes through its door, whatever the dialect:

    hot REST     front/http/hot_request.py, `HotRequest.open`; if the path does not name the model, `_submit`
    admin app    front/admin/door.py, an ASGI middleware
    gRPC         front/grpc/grpcio.py and native.py pass a `Check` to each method, which calls it once it has
                 parsed the message, because the message names the model

Every server runs without an Access today: everything is allowed, and no Caller is created.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

# read: metadata, states, statistics, documentation. admin: everything that changes the server.
Action = Literal["infer", "read", "admin", "metrics", "health"]


class Caller(NamedTuple):
    """The sender of a request, as far as the transport knows it.

    peer     the address: HOST:PORT over HTTP, ipv4:HOST:PORT or another form of gRPC's over gRPC, "" if there is none
    headers  HTTP headers or gRPC metadata as received, with names in lower case; a name may occur more than once
    """

    peer: str
    headers: Sequence[tuple[str, str | bytes]]


class Access(Protocol):
    def check(self, action: Action, model: str, caller: Caller) -> None:
        """Return if the caller may do this. `model` is "" if the action concerns no model, or all of them.

        Raises Unauthenticated if the caller must identify itself first, Forbidden if it lacks permission.
        """


# Access.check for a given caller.
Check = Callable[[Action, str], None]


def check_of(access: Access | None, peer: str, metadata: Sequence[Any]) -> Check | None:
    """Return the check for one gRPC call, or None if everything is allowed."""
    if access is None:
        return None
    caller = Caller(peer, [(key, value) for key, value in metadata])
    return lambda action, model: access.check(action, model, caller)


def http_caller(client: tuple[str, int] | None, headers: Sequence[tuple[bytes, bytes]]) -> Caller:
    peer = f"{client[0]}:{client[1]}" if client else ""
    return Caller(peer, [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])


_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def acts(action: Action) -> Callable[[_Endpoint], _Endpoint]:
    """Declare the action of an endpoint of the admin app. `action_of` has the default for the others."""

    def mark(endpoint: _Endpoint) -> _Endpoint:
        endpoint.action = action  # type: ignore[attr-defined]
        return endpoint

    return mark


def action_of(endpoint: object, method: str) -> Action:
    """Return what `acts` declared; by default, "read" for safe methods and "admin" for the others."""
    default: Action = "read" if method in _SAFE_METHODS else "admin"
    action: Action = getattr(endpoint, "action", default)
    return action
