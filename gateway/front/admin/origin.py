"""Protects against cross-site requests: a web page of another origin must not change the gateway.

Any web page can make a browser send a POST without a preflight if its Content-Type is text/plain. Browsers then add
Sec-Fetch-Site (all of them since 2023) or at least Origin; other clients send neither. With DNS rebinding, the owner of
the page points a host name at this server, so that the request appears to be of the same origin. But its Host header
names that host, so the server only accepts its own names and those in the setting `allowed_hosts`.

Pages that the setting `cors_origin` allows may send requests and read the answers. The browser adds no credentials to
them, so what changes the server, or reveals a model, is left to pages that have a key or a token of their own.
"""

import socket
from collections.abc import Collection, Mapping
from functools import cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.domain.identity import Action
from gateway.errors import Forbidden
from gateway.front.base.cors import Cors

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = ("same-origin", "none")


def is_allowed_page(headers: Mapping[str, str], cors: Cors, allowed_hosts: Collection[str] = ()) -> bool:
    """Whether a page of another origin sends this request, and `cors` allows it."""
    return cors.allows(headers.get("origin", "")) and not _is_same_origin(headers, allowed_hosts)


def check_page(action: Action, has_credentials: bool) -> None:
    """Check a request of an allowed page. Raises Forbidden."""
    if action == "admin" and not has_credentials:
        raise Forbidden(
            "a web page of another origin may do this only with an API key or a token, and this request has none that "
            "the server knows; send the request from another client"
        )


def check_origin(method: str, headers: Mapping[str, str], allowed_hosts: Collection[str] = ()) -> None:
    """Check a request. Header names and `allowed_hosts` are in lower case, hosts without ports. Raises Forbidden."""
    if method in _SAFE_METHODS or not (headers.get("sec-fetch-site") or headers.get("origin")):
        return
    if not _is_same_origin(headers, allowed_hosts):
        raise Forbidden("a web page of another origin may not change this server; send the request from another client")
    if not _is_ours(_name(headers.get("host", "")), allowed_hosts):
        raise Forbidden(
            "a browser may change this server only under one of its own addresses, but the Host header names another; "
            "open it by its IP address or as localhost, or name the host in the server's setting allowed_hosts"
        )


def _is_same_origin(headers: Mapping[str, str], allowed_hosts: Collection[str]) -> bool:
    """Whether a browser sends this request for a page of the origin to which it goes."""
    site, origin, host = (headers.get(name, "") for name in ("sec-fetch-site", "origin", "host"))
    if site:
        return site in _OWN_SITES
    authority = origin.partition("://")[2].lower()
    # A proxy may have replaced the Host header that the browser sent.
    return authority == host.lower() or _name(authority) in allowed_hosts


def _name(authority: str) -> str:
    """Return the host without port and brackets, or "" for an invalid authority."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _is_ours(name: str, allowed_hosts: Collection[str]) -> bool:
    """Whether it is an address, a name of this machine or an allowed one. Others cannot point those at this server."""
    if name == "localhost" or name.endswith(".localhost") or name in _own_names() or name in allowed_hosts:
        return True
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


@cache
def _own_names() -> frozenset[str]:
    return frozenset({socket.gethostname().lower()})
