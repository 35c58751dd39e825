"""`modelport traffic`: shows or changes how a model's requests are divided among its versions, and copied."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.commands import http_client
from gateway.commands.connection import Connection
from gateway.commands.http_client import CommandError, Request, model_path
from gateway.domain.traffic import percent


class Change(NamedTuple):
    """What to change; by default, nothing.

    weights     such as "3=95,4=5"; "none" removes them
    shadow      a version, or "none"; of, share: of which version, and how many of its requests
    promote     a version
    """

    weights: str = ""
    shadow: str = ""
    of: str = ""
    share: float | None = None
    promote: str = ""
    rollback: bool = False


def traffic(connection: Connection, model: str, change: Change) -> int:
    """Run the command. Return the exit code."""
    return http_client.run(connection, lambda: _traffic(connection, model, change))


def _traffic(connection: Connection, model: str, change: Change) -> int:
    """Raises CommandError, URLError."""
    path = "/v2/models" + model_path(model, "") + "/traffic"
    verbs = [bool(change.weights or change.shadow), bool(change.promote), change.rollback]
    if sum(verbs) > 1:
        raise CommandError("--promote and --rollback each change everything; use one of them, and no other change", 2)
    if (change.of or change.share is not None) and change.shadow in ("", "none"):
        raise CommandError("--of and --share describe a shadow; name its version with --shadow", 2)
    body: Mapping[str, Any] | None = None
    if change.promote:
        path, body = path + "/promote", {"version": change.promote}
    elif change.rollback:
        path, body = path + "/rollback", {}
    elif any(verbs):
        body = _changes(change)
    request = None if body is None else Request(json.dumps(body).encode(), "application/json", "application/json")
    _, answer = http_client.send(connection, path, request)
    try:
        _print(json.loads(answer))
    except (ValueError, KeyError, TypeError):
        raise CommandError(f"the server at {connection.url} is not modelport") from None
    return 0


def _changes(change: Change) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if change.weights:
        changes["weights"] = None if change.weights == "none" else _weights(change.weights)
    if change.shadow == "none":
        changes["shadow"] = None
    elif change.shadow:
        shadow = {"version": change.shadow, "of": change.of, "share": change.share}
        changes["shadow"] = {key: value for key, value in shadow.items() if value not in ("", None)}
    return changes


def _weights(text: str) -> dict[str, float]:
    """Read "3=95,4=5". Raises CommandError."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        version, _, weight = part.partition("=")
        version = version.strip()
        if version in weights:
            raise CommandError(f"--weights has version {version} twice", 2)
        try:
            weights[version] = float(weight)
        except ValueError:
            raise CommandError(f"--weights is '{text}': expected versions and weights, such as 3=95,4=5", 2) from None
    return weights


def _print(found: Mapping[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("VERSION", "STATE", "SHARE", "ROLE"):
        table.add_column(column, no_wrap=True, justify="right" if column == "SHARE" else "left")
    table.add_column("", overflow="fold")
    shadow = found["shadow"]
    for each in found["versions"]:
        role = "answers" if each["share"] else ""
        detail = each["reason"]
        if shadow and each["version"] == shadow["version"]:
            role = "answers, shadow" if role else "shadow"
            detail = detail or found["shadow_problem"] or f"of {percent(shadow['share'])} of version {shadow['of']}"
        table.add_row(each["version"], each["state"], percent(each["share"]), role, Text(detail))
    console = Console(highlight=False, markup=False)
    console.print(table)
    origin = {
        "default": "by default, the newest version that is READY gets all requests that name no version",
        "run time": "changed at run time; it holds until the model's configuration changes, or the server restarts",
    }.get(found["source"], "as in the model's configuration")
    console.print(origin, soft_wrap=True)
