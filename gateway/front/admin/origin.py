"""Whether a page of another origin made a browser send this request: such a page must not change the gateway.

A browser sends a POST without asking first, whatever page it was told to by, if the body says that it is text. It
adds Sec-Fetch-Site (all browsers since 2023) or at least Origin; other clients send neither. Where a name that the
page's owner controls was made to lead here (DNS rebinding), the request looks as if it were of our own origin; but
then it names that host. So a name of ours must be known: by itself, or by the setting `allowed_hosts`.
"""

import socket
from collections.abc import Collection, Mapping
from functools import cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.errors import Forbidden

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = ("same-origin", "none")


def check_origin(method: str, headers: Mapping[str, str], allowed_hosts: Collection[str] = ()) -> None:
    """`headers` by names in lower case; `allowed_hosts` in lower case, without ports. Raises Forbidden."""
    site, origin, host = (headers.get(name, "") for name in ("sec-fetch-site", "origin", "host"))
    if method in _SAFE_METHODS or not (site or origin):
        return
    authority = origin.partition("://")[2].lower()
    # A proxy may have put another Host in the place of the one that the browser sent.
    own = site in _OWN_SITES if site else authority == host.lower() or _name(authority) in allowed_hosts
    if not own:
        raise Forbidden("a web page of another origin may not change this server; send the request from another client")
    if not _is_ours(_name(host), allowed_hosts):
        raise Forbidden(
            "a browser may change this server only under one of its own addresses, and the Host header names another; "
            "open it by its IP address or as localhost, or name the host in the server's setting allowed_hosts"
        )


def _name(authority: str) -> str:
    """Without the port and the brackets of an IPv6 address; "" for what is no authority."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _is_ours(name: str, allowed_hosts: Collection[str]) -> bool:
    """Whether it is an address, a name of this machine or an allowed one: no one else can make those lead here."""
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
