"""Tables for the terminal: the live table of `serve`, and `modelport models`."""

import http.client
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

_STYLES = {"ready": "green", "loading": "yellow", "building": "cyan", "failed": "red", "unloading": "dim"}


class Row(NamedTuple):
    """One row of the table. state: ready, loading, building, failed or unloading."""

    model: str
    version: str
    runtime: str
    state: str
    detail: str


def state_word(state: str, building: bool) -> str:
    if state == "LOADING":
        return "building" if building else "loading"
    return {"READY": "ready", "UNAVAILABLE": "failed"}.get(state, state.lower())


def table(rows: Iterable[Row], runtimes: bool = True) -> Table:
    """runtimes: whether to show a column for them."""
    rendered = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("MODEL", "VERSION", *(["RUNTIME"] if runtimes else []), "STATE"):
        rendered.add_column(column, no_wrap=True)
    rendered.add_column("", overflow="fold")
    for row in rows:
        runtime = [row.runtime] if runtimes else []
        state = Text(row.state, style=_STYLES.get(row.state, ""))
        rendered.add_row(row.model, row.version, *runtime, state, Text(row.detail))
    return rendered


def screen(rows: Sequence[Row], hints: Sequence[str]) -> Group:
    """Return the table with hints below it."""
    return Group(Text(), table(rows), Text(), *(Text(hint) for hint in hints))


def print_models(url: str) -> int:
    """`modelport models`: print the repository index of a running gateway. Return the exit code."""
    try:
        rows = _read_index(url)
    except (KeyError, TypeError):
        return no_gateway(url, "the server there is not modelport")
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        return no_gateway(url, getattr(error, "reason", error))
    Console().print(table(rows, runtimes=False))
    return 0


def _read_index(url: str) -> list[Row]:
    """Return rows without runtimes, which the index does not contain."""
    request = urllib.request.Request(url.rstrip("/") + "/v2/repository/index", data=b"{}", method="POST")
    with opener(url).open(request, timeout=10) as response:
        index = json.load(response)
    return [Row(each["name"], each["version"], "", state_word(each["state"], False), each["reason"]) for each in index]


def opener(url: str) -> urllib.request.OpenerDirector:
    """Return an opener for this URL. It uses no proxy for loopback addresses, whatever the environment says."""
    host = urllib.parse.urlsplit(url).hostname or ""
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if _is_loopback(host) else []))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def no_gateway(url: str, reason: object) -> int:
    """Print that no gateway is reachable. Return the exit code."""
    print(f"modelport: no gateway answers at {url} ({reason}); start one with 'modelport serve'", file=sys.stderr)
    return 1
