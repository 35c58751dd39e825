"""Whether a page of another origin made a browser send this request: such a page must not change the gateway.

A browser sends a POST without asking first, whatever page it was told to by, if the body says that it is text. It
adds Sec-Fetch-Site (all browsers since 2023) or at least Origin; other clients send neither. Where a name that the
page's owner controls was made to lead here (DNS rebinding), the request looks as if it were of our own origin; but
then it names that host.
"""

import socket
from collections.abc import Mapping
from functools import cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.errors import Forbidden

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = ("same-origin", "none")


def check_origin(method: str, headers: Mapping[str, str]) -> None:
    """`headers` by names in lower case. Raises Forbidden."""
    site, origin, host = (headers.get(name, "") for name in ("sec-fetch-site", "origin", "host"))
    if method in _SAFE_METHODS or not (site or origin):
        return
    own = site in _OWN_SITES if site else origin.partition("://")[2].lower() == host.lower()
    if not own:
        raise Forbidden("a web page of another origin may not change this server; send the request from another client")
    if not _is_ours(host):
        raise Forbidden(
            "a browser may change this server only under one of its own addresses, and the Host header names another; "
            "open it by its IP address or as localhost"
        )


def _is_ours(host: str) -> bool:
    """Whether it is an address, or a name of this machine: no one else can make those lead here."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost") or name in _own_names():
        return True
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


@cache
def _own_names() -> frozenset[str]:
    return frozenset({socket.gethostname().lower()})
