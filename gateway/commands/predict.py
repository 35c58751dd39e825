"""`modelport predict`: sends one request to a running gateway, and prints the response for people."""

import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gateway.codecs.cast import cast
from gateway.codecs.json_tensors import guess_tensor, json_values, read_tensor
from gateway.codecs.json_text import dumps
from gateway.codecs.media_types import is_image
from gateway.codecs.npy import NPZ
from gateway.commands import http_client
from gateway.commands.array_bodies import form_for, write
from gateway.commands.connection import Connection
from gateway.commands.http_client import CommandError, Configuration, Request
from gateway.commands.predict_output import NoSuchOutput, print_response
from gateway.errors import InvalidRequest
from runtimes.tensors import Tensor, from_array

_WHOLE, _QUOTED = re.compile(r"[0-9]+"), re.compile(r'".+"', re.DOTALL)
_NAMED = re.compile(r"([^=@\[{\"]+)=(.*)", re.DOTALL)


class Question(NamedTuple):
    """inputs: as on the command line. version: "" for the newest. output: "" for all. top: number of scores; 0: all.

    sequence_id: as on the command line; "" if the request belongs to no sequence
    """

    model: str
    inputs: Sequence[str]
    connection: Connection
    version: str = ""
    output: str = ""
    top: int = 0
    sequence_id: str = ""
    sequence_start: bool = False
    sequence_end: bool = False


class _Image(bytes):
    """The content of an image file."""


class _Argument(NamedTuple):
    """One --input. name: "" for the only input. value: an array, a JSON value or an _Image. file: its name, or ""."""

    name: str
    value: Any
    file: str = ""


def predict(question: Question) -> int:
    """Run the command. Return the exit code."""
    return http_client.run(question.connection, lambda: _predict(question))


def _predict(question: Question) -> int:
    """Raises CommandError, URLError."""
    arguments = [_read(text) for text in question.inputs]
    configuration = http_client.configuration(question.connection, question.model, question.version)
    metadata = http_client.metadata(question.connection, question.model, question.version)
    request = _request(arguments, metadata, question, configuration)
    path = "/predict" + http_client.model_path(question.model, question.version)
    content_type, body = http_client.send(question.connection, path, request)
    datatypes = {spec["name"]: spec["datatype"] for spec in metadata["outputs"]}
    try:
        print_response(content_type, body, datatypes, [each.file for each in arguments], question.output, question.top)
    except NoSuchOutput as error:
        raise CommandError(f"there is no output '{question.output}'; there are {error}") from None
    return 0


def _read(text: str) -> _Argument:
    """Parse [NAME=]VALUE, where VALUE is JSON or @FILE (.npy, .json or an image). Raises CommandError."""
    named = _NAMED.fullmatch(text)
    name, value = (named[1].strip(), named[2]) if named else ("", text)
    if not value.startswith("@"):
        return _Argument(name, _json(value, f"--input {text}"))
    file = Path(value[1:])
    try:
        content = file.read_bytes()
        if file.suffix == ".npy":
            return _Argument(name, np.load(io.BytesIO(content), allow_pickle=False), file.name)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}", 2) from None
    except (ValueError, EOFError):
        raise CommandError(f"{file} is not an npy file of numbers or strings; write it with numpy.save", 2) from None
    if file.suffix == ".json":
        return _Argument(name, _json(content, str(file)), file.name)
    if not is_image(content):
        raise CommandError(f"{file} is not .npy, .json, JPEG, PNG, WebP, BMP or GIF", 2)
    return _Argument(name, _Image(content), file.name)


def _json(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CommandError(f"{where} is not JSON; expected numbers, lists such as '[[1, 2]]', or @FILE", 2) from None


def _request(
    arguments: Sequence[_Argument],
    metadata: Mapping[str, list[dict[str, Any]]],
    question: Question,
    configuration: Configuration,
) -> Request:
    """Return an image, or a form with several; npz if one input is an array; else JSON. Raises CommandError."""
    inputs = {spec["name"]: spec["datatype"] for spec in metadata["inputs"]}
    sequence = _sequence(question)
    if any(isinstance(each.value, _Image) for each in arguments):
        if sequence:
            raise CommandError("an image cannot be sent with a sequence id; send its pixels as an array", 2)
        return _images(arguments, inputs, question)
    named: dict[str, Any] = {}
    needed = [name for name in inputs if name not in configuration.optional]
    for each in arguments:
        if not each.name and len(inputs) > 1 and len(needed) != 1:
            names = ", ".join(f"{name}=…" for name in inputs)
            raise CommandError(f"model '{question.model}' has {len(inputs)} inputs; name each: {names}", 2)
        name = each.name or next(iter(needed or inputs), "")
        if name in named:
            raise CommandError(f"input '{name}' is given twice", 2)
        named[name] = each.value
    # npz cannot hold arbitrary bytes, and strings need not be valid text. Nor can it hold an output that is no tensor,
    # which the metadata does not list.
    wanted = (question.output,) if question.output else configuration.json_outputs
    tensors_only = set(wanted) <= {spec["name"] for spec in metadata["outputs"]}
    is_numeric = tensors_only and all(spec["datatype"] != "BYTES" for spec in metadata["outputs"])
    accept = form_for(spec["datatype"] for spec in metadata["outputs"]) if is_numeric else "application/json"
    has_arrays = any(isinstance(value, np.ndarray) for value in named.values())
    if has_arrays:
        datatypes = {**configuration.optional, **inputs}
        tensors = [_tensor(name, value, datatypes.get(name, "")) for name, value in named.items()]
        if not sequence:
            form = form_for(datatypes.values())
            return Request(write(tensors, form), form, accept)
        named = {tensor.name: json_values(tensor) for tensor in tensors}  # no other body has parameters
    document: dict[str, Any] = {"inputs": named}
    if question.output:
        document["outputs"] = [question.output]
    if sequence:
        document["parameters"] = sequence
    # orjson writes arrays, but not the NaN of a JSON value.
    body = dumps(document) if has_arrays else json.dumps(document).encode()
    return Request(body, "application/json", accept)


def _sequence(question: Question) -> Mapping[str, Any]:
    """Return the parameters of the request's sequence; none without one. Raises CommandError."""
    text, flags = question.sequence_id, (question.sequence_start, question.sequence_end)
    if not text:
        if any(flags):
            raise CommandError("--sequence-start and --sequence-end need --sequence-id", 2)
        return {}
    number: int | str = text
    if _WHOLE.fullmatch(text):
        number = int(text)
        if number not in range(1, 1 << 64):
            raise CommandError(f"--sequence-id is {text}: expected a number from 1 to 2^64 - 1, or text", 2)
    elif _QUOTED.fullmatch(text):
        number = text[1:-1]
    return {"sequence_id": number, "sequence_start": flags[0], "sequence_end": flags[1]}


def _images(arguments: Sequence[_Argument], inputs: Mapping[str, str], question: Question) -> Request:
    for name in {each.name for each in arguments} - {"", *inputs}:
        raise CommandError(f"model '{question.model}' has no input '{name}'; it has {', '.join(inputs)}")
    if not all(isinstance(each.value, _Image) for each in arguments):
        raise CommandError("images cannot be combined with other inputs", 2)
    accept = NPZ if question.output else "application/json"
    if len(arguments) == 1:
        return Request(arguments[0].value, "application/octet-stream", accept)
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="data"; filename="image"\r\n\r\n'.encode()
    body = b"".join(head + each.value + b"\r\n" for each in arguments) + f"--{boundary}--\r\n".encode()
    return Request(body, f"multipart/form-data; boundary={boundary}", accept)


def _tensor(name: str, value: Any, datatype: str) -> Tensor:
    """datatype: the input's, or "" if it is unknown. Raises CommandError."""
    try:
        if isinstance(value, np.ndarray):
            return from_array(name, cast(name, value, datatype))
        return read_tensor(name, value, datatype) if datatype else guess_tensor(name, value)
    except InvalidRequest as error:
        raise CommandError(str(error), 2) from None
    except (KeyError, ValueError, TypeError):
        raise CommandError(
            f"the data of input '{name}' is not an array of {datatype or 'a supported datatype'}", 2
        ) from None
