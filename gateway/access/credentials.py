"""Finds the credentials of a request in its headers, or in the metadata of a gRPC call."""

from collections.abc import Sequence

from gateway.access.keys import FORM
from gateway.errors import Unauthenticated

# Also of tokens, which have a few hundred bytes, a few thousand with many claims.
MAX_LENGTH = 1 << 13
NAMES = frozenset({"authorization", "x-api-key"})
# What may surround the value of a header (RFC 9110, section 5.6.3).
_SPACE = " \t"
_ACCEPTED = ("bearer", "apikey")
# Schemes that clients know, and that are named in the refusal. Anything else could be a key without a scheme.
_OTHERS = {"basic": "Basic", "digest": "Digest", "negotiate": "Negotiate", "token": "Token", "aws4-hmac-sha256": "AWS"}


def read_credentials(headers: Sequence[tuple[str, str | bytes]]) -> str | None:
    """Return the API key or the token; None if there is none. Raises Unauthenticated.

    Nothing is guessed: a request with several credentials is refused unless they are the same, because proxies and
    servers differ in which one they would take.
    """
    authorization = api_key = None
    for name, value in headers:
        if name == "authorization":
            if authorization is not None:
                raise Unauthenticated("the request has several Authorization headers; send one")
            authorization = _bearer(_text(value))
        elif name == "x-api-key":
            if api_key is not None:
                raise Unauthenticated("the request has several X-API-Key headers; send one")
            api_key = _check(_text(value), "X-API-Key must have the API key alone, or be left out")
    if api_key is None or authorization is None:
        return authorization if api_key is None else api_key
    if api_key != authorization:
        raise Unauthenticated("Authorization and X-API-Key have different credentials; send one of them")
    return authorization


def _bearer(value: str) -> str:
    scheme, _, credentials = value.strip(_SPACE).partition(" ")
    if scheme.lower() in _OTHERS:
        raise Unauthenticated(
            f"the {_OTHERS[scheme.lower()]} scheme of Authorization is not accepted; send the API key or token as "
            "Authorization: Bearer"
        )
    advice = "Authorization must be Bearer, a space, and the API key or token; or leave it out"
    return _check(credentials.strip(_SPACE) if scheme.lower() in _ACCEPTED else "", advice)


def _check(credentials: str, advice: str) -> str:
    credentials = credentials.strip(_SPACE)
    if len(credentials) > MAX_LENGTH:
        raise Unauthenticated(f"the credentials have {len(credentials)} characters; at most {MAX_LENGTH} are accepted")
    if not FORM.fullmatch(credentials):
        raise Unauthenticated(advice)
    return credentials


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
