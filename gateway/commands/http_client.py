"""The HTTP client of the commands that talk to a running gateway: predict, models and compare."""

import http.client
import json
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from gateway.commands.connection import Connection
from gateway.config import SettingsError

# Well above the server's default limit of 60 s for a request, which a setting may raise.
_TIMEOUT_S = 300


class CommandError(Exception):
    """A command failed. The message is one sentence; code: 1 if the gateway refused, 2 if the command line is wrong."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class Refused(CommandError):
    """The model refused these inputs; it may accept others."""


class Request(NamedTuple):
    """length: of a body that is not in memory."""

    body: bytes | Iterable[bytes]
    content_type: str
    accept: str
    length: int | None = None


class Configuration(NamedTuple):
    """What a model's configuration says of requests to it.

    optional      the inputs that a request may leave out, with their datatypes; "" for one that is not known
    json_outputs  the outputs that only an answer in JSON can have
    """

    optional: Mapping[str, str] = {}
    json_outputs: tuple[str, ...] = ()


def model_path(model: str, version: str) -> str:
    """Return the part of a path that names the model. version: "" for the newest."""
    quoted = urllib.parse.quote(model, safe="")
    return f"/{quoted}/versions/{urllib.parse.quote(version, safe='')}" if version else f"/{quoted}"


def metadata(connection: Connection, model: str, version: str) -> Mapping[str, list[dict[str, Any]]]:
    """Return the descriptions of the model's inputs and outputs. Raises CommandError, URLError."""
    _, body = send(connection, "/v2/models" + model_path(model, version))
    try:
        document = json.loads(body)
        return {"inputs": document["inputs"], "outputs": document["outputs"]}
    except (ValueError, KeyError, TypeError):
        raise CommandError(f"the server at {connection.url} is not modelport") from None


def configuration(connection: Connection, model: str, version: str) -> Configuration:
    """Raises CommandError, URLError."""
    _, body = send(connection, "/v2/models" + model_path(model, version) + "/config")
    try:
        document = json.loads(body)
        optional = {each["name"]: _datatype(each["data_type"]) for each in document["input"] if each["optional"]}
        listed = document["parameters"].get("json_outputs", {"string_value": "[]"})["string_value"]
        return Configuration(optional, tuple(json.loads(listed)))
    except (ValueError, KeyError, TypeError):
        raise CommandError(f"the server at {connection.url} is not modelport") from None


def _datatype(data_type: str) -> str:
    """Return the datatype for one of Triton's configuration; "" if that has no name for it."""
    return {"TYPE_STRING": "BYTES", "TYPE_INVALID": ""}.get(data_type, data_type.removeprefix("TYPE_"))


def send(
    connection: Connection, path: str, request: Request | None = None, timeout_s: float = _TIMEOUT_S
) -> tuple[str, bytes]:
    """Send the request, or a GET without one. Return the response's content type and body.

    Raises CommandError, URLError.
    """
    url = connection.url
    headers = {"Content-Type": request.content_type, "Accept": request.accept} if request else {}
    if request is not None and request.length is not None:
        headers["Content-Length"] = str(request.length)
    try:
        http_request = connection.request(path, request.body if request else None, headers)
        with connection.opener().open(http_request, timeout=timeout_s) as response:
            return response.headers.get_content_type(), response.read()
    except urllib.error.HTTPError as error:
        with error:
            try:
                message = json.load(error)["error"]
            except (ValueError, KeyError, TypeError):
                message = f"the server at {url} returned {error.code} {error.reason}"
            # The statuses of InvalidInput and ModelError.
            raise (Refused if error.code in (400, 500) else CommandError)(message) from None
    except SettingsError as error:
        raise CommandError(str(error), 2) from None
    except ssl.SSLError as error:  # a ValueError as well, if a certificate is wrong
        raise CommandError(connection.explain(error)) from None
    except ValueError:
        raise CommandError(f"--url is {url}: expected an address such as http://127.0.0.1:8000", 2) from None


def run(connection: Connection, command: Callable[[], int]) -> int:
    """Run the command and return its exit code. Errors are printed."""
    try:
        return command()
    except CommandError as error:
        print(f"modelport: {error}", file=sys.stderr)
        return error.code
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):
            print(f"modelport: {connection.explain(error.reason)}", file=sys.stderr)
            return 1
        return _no_gateway(connection.url, error.reason)
    except (http.client.HTTPException, OSError) as error:
        return _no_gateway(connection.url, error)


def _no_gateway(url: str, reason: object) -> int:
    hint = ""
    if isinstance(reason, http.client.RemoteDisconnected) and url.startswith("http://"):
        hint = "; if it uses TLS, its URL begins with https://"
    print(f"modelport: no gateway answers at {url} ({reason}{hint}); start one with 'modelport serve'", file=sys.stderr)
    return 1
