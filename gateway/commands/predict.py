"""`modelport predict`: ask a running gateway one thing, and show the answer to a person."""

import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gateway.codecs.json_tensors import guess_tensor, read_tensor
from gateway.codecs.media_types import is_image
from gateway.codecs.npy import NPZ, write_npz
from gateway.commands import http_client
from gateway.commands.http_client import CommandError, Request
from gateway.commands.predict_output import NoSuchOutput, print_response
from gateway.errors import InvalidRequest
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes.tensors import Tensor, from_array, to_array

_NAMED = re.compile(r"([^=@\[{\"]+)=(.*)", re.DOTALL)


class Question(NamedTuple):
    """inputs: as on the command line. version, output: "" for any. top: 0 for all that there is."""

    model: str
    inputs: Sequence[str]
    url: str
    version: str = ""
    output: str = ""
    top: int = 0


class _Image(bytes):
    """A file as it is."""


class _Given(NamedTuple):
    """name: "" for the only input. value: an array, what JSON gives, or an _Image. file: "" where there is none."""

    name: str
    value: Any
    file: str = ""


def predict(question: Question) -> int:
    """The exit code."""
    return http_client.run(question.url, lambda: _predict(question))


def _predict(question: Question) -> int:
    """Raises CommandError, and what asking raises."""
    given = [_read(text) for text in question.inputs]
    about = http_client.metadata(question.url, question.model, question.version)
    request = _request(given, about, question)
    path = "/predict" + http_client.place(question.model, question.version)
    content_type, body = http_client.ask(question.url, path, request)
    datatypes = {spec["name"]: spec["datatype"] for spec in about["outputs"]}
    try:
        print_response(content_type, body, datatypes, [each.file for each in given], question.output, question.top)
    except NoSuchOutput as error:
        raise CommandError(f"there is no output '{question.output}'; there are {error}") from None
    return 0


def _read(text: str) -> _Given:
    """NAME=VALUE or VALUE; a value is JSON, or @FILE: .npy, .json, or an image. Raises CommandError."""
    named = _NAMED.fullmatch(text)
    name, value = (named[1].strip(), named[2]) if named else ("", text)
    if not value.startswith("@"):
        return _Given(name, _json(value, f"--input {text}"))
    file = Path(value[1:])
    try:
        content = file.read_bytes()
        if file.suffix == ".npy":
            return _Given(name, np.load(io.BytesIO(content), allow_pickle=False), file.name)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}", 2) from None
    except (ValueError, EOFError):
        raise CommandError(f"{file} is not an npy file of numbers or strings; write it with numpy.save", 2) from None
    if file.suffix == ".json":
        return _Given(name, _json(content, str(file)), file.name)
    if not is_image(content):
        raise CommandError(f"{file} is none of .npy, .json, JPEG, PNG, WebP, BMP and GIF", 2)
    return _Given(name, _Image(content), file.name)


def _json(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CommandError(
            f"{where} is not JSON; numbers or lists such as '[[1, 2]]' are wanted, or @FILE", 2
        ) from None


def _request(given: Sequence[_Given], about: Mapping[str, list[dict[str, Any]]], question: Question) -> Request:
    """An image or a form of several; npz where there is an array; else JSON. Raises CommandError."""
    inputs = {spec["name"]: spec["datatype"] for spec in about["inputs"]}
    if any(isinstance(each.value, _Image) for each in given):
        return _images(given, inputs, question)
    named: dict[str, Any] = {}
    for each in given:
        if not each.name and len(inputs) > 1:
            names = ", ".join(f"{name}=…" for name in inputs)
            raise CommandError(f"model '{question.model}' has {len(inputs)} inputs; name each: {names}", 2)
        name = each.name or next(iter(inputs), "")
        if name in named:
            raise CommandError(f"input '{name}' is given twice", 2)
        named[name] = each.value
    # Strings may not be text, which numpy's files cannot hold.
    has_strings = any(spec["datatype"] == "BYTES" for spec in about["outputs"])
    accept = "application/json" if has_strings else NPZ
    if any(isinstance(value, np.ndarray) for value in named.values()):
        tensors = [_tensor(name, value, inputs.get(name, "")) for name, value in named.items()]
        return Request(write_npz(tensors), NPZ, accept)
    document: dict[str, Any] = {"inputs": named}
    if question.output:
        document["outputs"] = [question.output]
    return Request(json.dumps(document).encode(), "application/json", accept)


def _images(given: Sequence[_Given], inputs: Mapping[str, str], question: Question) -> Request:
    for name in {each.name for each in given} - {"", *inputs}:
        raise CommandError(f"model '{question.model}' has no input '{name}'; it has {', '.join(inputs)}")
    if not all(isinstance(each.value, _Image) for each in given):
        raise CommandError("images go with nothing but images", 2)
    accept = NPZ if question.output else "application/json"
    if len(given) == 1:
        return Request(given[0].value, "application/octet-stream", accept)
    line = uuid.uuid4().hex
    head = f'--{line}\r\nContent-Disposition: form-data; name="data"; filename="image"\r\n\r\n'.encode()
    body = b"".join(head + each.value + b"\r\n" for each in given) + f"--{line}--\r\n".encode()
    return Request(body, f"multipart/form-data; boundary={line}", accept)


def _tensor(name: str, value: Any, datatype: str) -> Tensor:
    """`datatype` is the input's, and "" where nobody knows it. Raises CommandError."""
    try:
        if isinstance(value, np.ndarray):
            return from_array(name, _fitted(name, value, datatype))
        return read_tensor(name, value, datatype) if datatype else guess_tensor(name, value)
    except InvalidRequest as error:
        raise CommandError(str(error), 2) from None
    except (KeyError, ValueError, TypeError):
        raise CommandError(
            f"the data of input '{name}' is no array of {datatype or 'a datatype that is served'}", 2
        ) from None


def _fitted(name: str, array: np.ndarray, datatype: str) -> np.ndarray:
    """The array as the input's datatype, where JSON's numbers would be taken for it, too.

    numpy makes FP64 and INT64 of what nobody says more about. What would become another value is left as
    it is, for the gateway to refuse. Raises InvalidRequest where one is out of range.
    """
    if datatype not in DATATYPES:
        return array
    wanted, wanted_kind, kind = numpy_dtype(datatype), DATATYPES[datatype].kind, array.dtype.kind
    if array.dtype == wanted:
        return array
    if wanted_kind == "float" and kind in "iuf":
        with np.errstate(over="ignore"):
            fitted = array.astype(wanted)
        if not np.array_equal(np.isinf(fitted), np.isinf(array)):
            raise InvalidRequest(f"the data of input '{name}' holds a number too large for {datatype}")
        return fitted
    if wanted_kind in ("bool", "int", "uint") and kind in "iu":
        return to_array(read_tensor(name, array.tolist(), datatype)).reshape(array.shape)
    return array
