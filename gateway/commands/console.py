"""Tables for the terminal: the live table of `serve`, and `modelport models`."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.console import Group
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
