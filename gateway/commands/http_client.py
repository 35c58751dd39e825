"""What the commands that ask a running gateway have in common: predict, compare."""

import http.client
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gateway.commands.console import no_gateway, opener

# The server's own limit for a request is 60 s, unless it was told otherwise.
_TIMEOUT_S = 300


class CommandError(Exception):
    """A command failed. The message is one sentence; code: 1 if the gateway refused, 2 if the command line is wrong."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class Refused(CommandError):
    """The model refused these inputs; it may accept others."""


class Request(NamedTuple):
    body: bytes
    content_type: str
    accept: str


def place(model: str, version: str) -> str:
    """The part of a path that names it; version: "" for the newest."""
    quoted = urllib.parse.quote(model, safe="")
    return f"/{quoted}/versions/{urllib.parse.quote(version, safe='')}" if version else f"/{quoted}"


def metadata(url: str, model: str, version: str) -> Mapping[str, list[dict[str, Any]]]:
    """What the model says of its inputs and outputs. Raises CommandError, URLError."""
    _, body = ask(url, "/v2/models" + place(model, version))
    try:
        about = json.loads(body)
        return {"inputs": about["inputs"], "outputs": about["outputs"]}
    except (ValueError, KeyError, TypeError):
        raise CommandError(f"what answers at {url} is no modelport") from None


def ask(url: str, path: str, request: Request | None = None) -> tuple[str, bytes]:
    """Content type and body of the answer. Raises CommandError, URLError."""
    headers = {"Content-Type": request.content_type, "Accept": request.accept} if request else {}
    try:
        asked = urllib.request.Request(url.rstrip("/") + path, request.body if request else None, headers)
        with opener(url).open(asked, timeout=_TIMEOUT_S) as answer:
            return answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            try:
                told = json.load(error)["error"]
            except (ValueError, KeyError, TypeError):
                told = f"what answers at {url} says {error.code} {error.reason}"
            # By the statuses of InvalidInput and ModelError.
            raise (Refused if error.code in (400, 500) else CommandError)(told) from None
    except ValueError:
        raise CommandError(f"--url {url} is not an address such as http://127.0.0.1:8000", 2) from None


def run(url: str, command: Callable[[], int]) -> int:
    """The command's exit code; where it could not ask, why not is printed."""
    try:
        return command()
    except CommandError as error:
        print(f"modelport: {error}", file=sys.stderr)
        return error.code
    except urllib.error.URLError as error:
        return no_gateway(url, error.reason)
    except (http.client.HTTPException, OSError) as error:
        return no_gateway(url, error)
