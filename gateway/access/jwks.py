"""JSON Web Key Sets: the public keys of a tokens' issuer, from a file or from a URL."""

import json
import ssl
import time
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from gateway.process.address import is_loopback_address

# Key sets have a few KB. This also bounds what fronts receive.
_MAX_BYTES = 1 << 18
_MAX_KEYS = 64
# For each step of a fetch, and for all of it.
_TIMEOUT_S = 5.0
_TOTAL_S = 15.0
_CHUNK = 1 << 14
# How long keys are used before they are fetched again, unless the issuer asks for less. Issuers publish a new key
# hours before they use it.
_MAX_AGE_S = 300.0
_MIN_AGE_S = 30.0
# The members of public keys by type (RFC 7518, section 6; RFC 8037). Everything else stays out of the fronts.
_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}

Keys = tuple[Mapping[str, str], ...]


class JwksError(Exception):
    """Keys cannot be used or fetched. The message is one sentence without the location."""


class Fetched(NamedTuple):
    """max_age_s: how long the keys may be used before they are fetched again."""

    keys: Keys
    max_age_s: float


def check_url(location: str) -> str:
    """Return the path or URL unchanged. Raises ValueError for a URL that must not be trusted."""
    if "://" not in location:
        return location
    url = urlsplit(location)
    host = url.hostname or ""
    if url.scheme == "https" or (url.scheme == "http" and (host == "localhost" or is_loopback_address(host))):
        return location
    raise ValueError("keys that arrive without TLS can be anyone's; use an https URL, or the path of a file")


def read_keys(path: Path) -> Keys:
    """Raises JwksError."""
    try:
        with path.open("rb") as stream:
            return parse_keys(stream.read(_MAX_BYTES + 1))
    except OSError as error:
        raise JwksError(f"they cannot be read: {error.strerror}") from None


def fetch_keys(url: str) -> Fetched:
    """Fetch the keys. Takes seconds. Raises JwksError."""
    # Loopback needs no proxy, and a proxy would see what has no TLS.
    proxies: dict[str, str] | None = {} if urlsplit(url).scheme == "http" else None
    opener = build_opener(ProxyHandler(proxies), _Redirects())
    ends = time.monotonic() + _TOTAL_S
    try:
        request = Request(url, headers={"Accept": "application/json", "User-Agent": "modelport"})
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            raw = b""
            while chunk := answer.read1(_CHUNK):
                raw += chunk
                if len(raw) > _MAX_BYTES:
                    break
                if time.monotonic() > ends:
                    raise JwksError("the issuer sends them too slowly")
            return Fetched(parse_keys(raw), _max_age(answer.headers))
    except HTTPError as error:
        with error:
            raise JwksError(f"the issuer answered with status {error.code}") from None
    except URLError as error:
        raise JwksError(f"the issuer cannot be reached: {_reason(error.reason)}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise JwksError(f"the issuer cannot be reached: {_reason(error)}") from None


def parse_keys(raw: bytes) -> Keys:
    """Return the public keys of a key set, in its order. Keys of other types or uses are left out. Raises JwksError."""
    if len(raw) > _MAX_BYTES:
        raise JwksError(f"the key set is larger than {_MAX_BYTES >> 10} KiB")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise JwksError("the key set is not JSON") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        raise JwksError(f'the key set must be an object with "keys", a list of at most {_MAX_KEYS}')
    keys = [_public(key) for key in listed if isinstance(key, dict)]
    usable = tuple(key for key in keys if key is not None)
    if not usable:
        raise JwksError("the key set has no public key for signatures (RSA, EC or OKP)")
    return usable


def _public(key: Mapping[str, Any]) -> Mapping[str, str] | None:
    members = _MEMBERS.get(str(key.get("kty")))
    if members is None or key.get("use", "sig") != "sig":
        return None
    if isinstance(key.get("key_ops"), list) and "verify" not in key["key_ops"]:
        return None
    public = {name: key[name] for name in ("kty", *members) if isinstance(key.get(name), str)}
    if len(public) != len(members) + 1:
        return None
    return {**public, **{name: key[name] for name in ("kid", "alg") if isinstance(key.get(name), str)}}


class _Redirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        try:
            check_url(newurl)
        except ValueError:
            raise JwksError("the issuer redirects to an address without TLS") from None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _max_age(headers: HTTPMessage) -> float:
    for directive in headers.get("Cache-Control", "").split(","):
        name, _, value = directive.strip().partition("=")
        if name.lower() == "max-age" and value.isascii() and value.isdigit() and len(value) < 10:
            return min(max(float(value), _MIN_AGE_S), _MAX_AGE_S)
    return _MAX_AGE_S


def _reason(error: object) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return str(getattr(error, "strerror", None) or error)
