"""Who may do what: one check that each transport makes once for each request.

There are three doors. Each passes every request of its transport, whatever the dialect:

    hot REST     front/http/exchange.py, `Exchange.open`; where the path names no model, `_submit`
    FastAPI app  front/admin/door.py, an ASGI middleware
    gRPC         front/grpc/server.py and native.py hand a `Check` to each method, which calls it once it has
                 parsed the message, since that names the model

Without an Access, which is how every server runs today, everything is allowed and no record is made.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

# read: metadata, states, statistics, documentation. admin: whatever changes the server.
Action = Literal["infer", "read", "admin", "metrics", "health"]


class Caller(NamedTuple):
    """Who asks, as far as the transport knows.

    peer     the address: HOST:PORT over HTTP, as gRPC writes it (ipv4:HOST:PORT) over gRPC; "" if there is none
    headers  HTTP's headers or gRPC's metadata as they came, with names in lower case; a name may occur twice
    """

    peer: str
    headers: Sequence[tuple[str, str | bytes]]


class Access(Protocol):
    def check(self, action: Action, model: str, caller: Caller) -> None:
        """Return if the caller may do this. `model` is "" for what concerns no model, or all of them.

        Raises Unauthenticated if it must say first who it is, Forbidden if it may not.
        """


# An Access that knows its caller.
Check = Callable[[Action, str], None]


def check_of(access: Access | None, peer: str, metadata: Sequence[Any]) -> Check | None:
    """The check for one gRPC call; None where everything is allowed."""
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
    """Says what an endpoint of the FastAPI app does; see `action_of` for those that say nothing."""

    def mark(endpoint: _Endpoint) -> _Endpoint:
        endpoint.action = action  # type: ignore[attr-defined]
        return endpoint

    return mark


def action_of(endpoint: object, method: str) -> Action:
    """What an endpoint says with `acts`; else "read" for methods that change nothing, and "admin" for the others."""
    default: Action = "read" if method in _SAFE_METHODS else "admin"
    action: Action = getattr(endpoint, "action", default)
    return action
