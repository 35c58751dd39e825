"""`modelport models`: prints the models of a running gateway, and the state of each."""

import json

from rich.console import Console

from gateway.commands import http_client
from gateway.commands.connection import Connection
from gateway.commands.console import Row, state_word, table
from gateway.commands.http_client import CommandError, Request


def print_models(connection: Connection) -> int:
    """Run the command. Return the exit code."""
    return http_client.run(connection, lambda: _print_models(connection))


def _print_models(connection: Connection) -> int:
    """Raises CommandError, URLError."""
    request = Request(b"{}", "application/json", "application/json")
    _, body = http_client.send(connection, "/v2/repository/index", request)
    try:
        # The index does not contain runtimes.
        rows = [
            Row(each["name"], each["version"], "", state_word(each["state"], False), each["reason"])
            for each in json.loads(body)
        ]
    except (ValueError, KeyError, TypeError):
        raise CommandError(f"the server at {connection.url} is not modelport") from None
    Console().print(table(rows, runtimes=False))
    return 0
