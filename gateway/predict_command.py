"""`modelport predict`: ask a running gateway one thing, and show the answer to a person."""

import http.client
import io
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gateway.console import no_gateway
from gateway.errors import InvalidRequest
from gateway.front.image_types import is_image
from gateway.front.npy import NPZ, write_npz
from gateway.front.tensors import guess_tensor, read_tensor
from gateway.predict_answer import NoSuchOutput, show
from runtimes.contract import DATATYPES
from runtimes.wire import Tensor, from_array, to_array

# The server's own limit for a request is 60 s, unless it was told otherwise.
_TIMEOUT_S = 300
_NAMED = re.compile(r"([^=@\[{\"]+)=(.*)", re.DOTALL)


class Question(NamedTuple):
    """inputs: as on the command line. version, output: "" for any. top: 0 for all that there is."""

    model: str
    inputs: Sequence[str]
    url: str
    version: str = ""
    output: str = ""
    top: int = 0


class _Cannot(Exception):
    """One sentence. code: 1 where the gateway says no, 2 where the command line is wrong."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class _Image(bytes):
    """A file as it is."""


class _Given(NamedTuple):
    """name: "" for the only input. value: an array, what JSON gives, or an _Image. file: "" where there is none."""

    name: str
    value: Any
    file: str = ""


class _Request(NamedTuple):
    body: bytes
    content_type: str
    accept: str


def predict(question: Question) -> int:
    """The exit code."""
    try:
        given = [_read(text) for text in question.inputs]
        about = _metadata(question)
        request = _request(given, about, question)
        kind, body = _ask(question, "/predict" + _place(question), request)
        datatypes = {spec["name"]: spec["datatype"] for spec in about["outputs"]}
        show(kind, body, datatypes, [each.file for each in given], question.output, question.top)
    except _Cannot as error:
        print(f"modelport: {error}", file=sys.stderr)
        return error.code
    except NoSuchOutput as error:
        print(f"modelport: there is no output '{question.output}'; there are {error}", file=sys.stderr)
        return 1
    except urllib.error.URLError as error:
        return no_gateway(question.url, error.reason)
    except (http.client.HTTPException, OSError) as error:
        return no_gateway(question.url, error)
    return 0


def _read(text: str) -> _Given:
    """NAME=VALUE or VALUE; a value is JSON, or @FILE: .npy, .json, or an image. Raises _Cannot."""
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
        raise _Cannot(f"{file} cannot be read: {error.strerror}", 2) from None
    except (ValueError, EOFError):
        raise _Cannot(f"{file} is not an npy file of numbers or strings; write it with numpy.save", 2) from None
    if file.suffix == ".json":
        return _Given(name, _json(content, str(file)), file.name)
    if not is_image(content):
        raise _Cannot(f"{file} is none of .npy, .json, JPEG, PNG, WebP, BMP and GIF", 2)
    return _Given(name, _Image(content), file.name)


def _json(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _Cannot(f"{where} is not JSON; numbers or lists such as '[[1, 2]]' are wanted, or @FILE", 2) from None


def _place(question: Question) -> str:
    version = f"/versions/{urllib.parse.quote(question.version, safe='')}" if question.version else ""
    return f"/{urllib.parse.quote(question.model, safe='')}{version}"


def _metadata(question: Question) -> Mapping[str, list[dict[str, Any]]]:
    """What the model says of its inputs and outputs. Raises _Cannot, URLError."""
    _, body = _ask(question, "/v2/models" + _place(question))
    try:
        about = json.loads(body)
        return {"inputs": about["inputs"], "outputs": about["outputs"]}
    except (ValueError, KeyError, TypeError):
        raise _Cannot(f"what answers at {question.url} is no modelport") from None


def _ask(question: Question, path: str, request: _Request | None = None) -> tuple[str, bytes]:
    """Content type and body of the answer. Raises _Cannot, URLError."""
    headers = {"Content-Type": request.content_type, "Accept": request.accept} if request else {}
    try:
        asked = urllib.request.Request(question.url.rstrip("/") + path, request.body if request else None, headers)
        with urllib.request.urlopen(asked, timeout=_TIMEOUT_S) as answer:
            return answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            try:
                told = json.load(error)["error"]
            except (ValueError, KeyError, TypeError):
                told = f"what answers at {question.url} says {error.code} {error.reason}"
        raise _Cannot(told) from None
    except ValueError:
        raise _Cannot(f"--url {question.url} is not an address such as http://127.0.0.1:8000", 2) from None


def _request(given: Sequence[_Given], about: Mapping[str, list[dict[str, Any]]], question: Question) -> _Request:
    """An image or a form of several; npz where there is an array; else JSON. Raises _Cannot."""
    inputs = {spec["name"]: spec["datatype"] for spec in about["inputs"]}
    if any(isinstance(each.value, _Image) for each in given):
        return _images(given, inputs, question)
    named: dict[str, Any] = {}
    for each in given:
        if not each.name and len(inputs) > 1:
            names = ", ".join(f"{name}=…" for name in inputs)
            raise _Cannot(f"model '{question.model}' has {len(inputs)} inputs; name each: {names}", 2)
        name = each.name or next(iter(inputs), "")
        if name in named:
            raise _Cannot(f"input '{name}' is given twice", 2)
        named[name] = each.value
    # Strings may not be text, which numpy's files cannot hold.
    has_strings = any(spec["datatype"] == "BYTES" for spec in about["outputs"])
    accept = "application/json" if has_strings else NPZ
    if any(isinstance(value, np.ndarray) for value in named.values()):
        tensors = [_tensor(name, value, inputs.get(name, "")) for name, value in named.items()]
        return _Request(write_npz(tensors), NPZ, accept)
    document: dict[str, Any] = {"inputs": named}
    if question.output:
        document["outputs"] = [question.output]
    return _Request(json.dumps(document).encode(), "application/json", accept)


def _images(given: Sequence[_Given], inputs: Mapping[str, str], question: Question) -> _Request:
    for name in {each.name for each in given} - {"", *inputs}:
        raise _Cannot(f"model '{question.model}' has no input '{name}'; it has {', '.join(inputs)}")
    if not all(isinstance(each.value, _Image) for each in given):
        raise _Cannot("images go with nothing but images", 2)
    accept = NPZ if question.output else "application/json"
    if len(given) == 1:
        return _Request(given[0].value, "application/octet-stream", accept)
    line = uuid.uuid4().hex
    head = f'--{line}\r\nContent-Disposition: form-data; name="data"; filename="image"\r\n\r\n'.encode()
    body = b"".join(head + each.value + b"\r\n" for each in given) + f"--{line}--\r\n".encode()
    return _Request(body, f"multipart/form-data; boundary={line}", accept)


def _tensor(name: str, value: Any, datatype: str) -> Tensor:
    """`datatype` is the input's, and "" where nobody knows it. Raises _Cannot."""
    try:
        if isinstance(value, np.ndarray):
            return from_array(name, _fitted(name, value, datatype))
        return read_tensor(name, value, datatype) if datatype else guess_tensor(name, value)
    except InvalidRequest as error:
        raise _Cannot(str(error), 2) from None
    except (KeyError, ValueError, TypeError):
        raise _Cannot(
            f"the data of input '{name}' is no array of {datatype or 'a datatype that is served'}", 2
        ) from None


def _fitted(name: str, array: np.ndarray, datatype: str) -> np.ndarray:
    """The array as the input's datatype, where JSON's numbers would be taken for it, too.

    numpy makes FP64 and INT64 of what nobody says more about. What would become another value is left as
    it is, for the gateway to refuse. Raises InvalidRequest where one is out of range.
    """
    wanted, kind = DATATYPES.get(datatype, array.dtype), array.dtype.kind
    if array.dtype == wanted:
        return array
    if wanted.kind == "f" and kind in "iuf":
        with np.errstate(over="ignore"):
            fitted = array.astype(wanted)
        if not np.array_equal(np.isinf(fitted), np.isinf(array)):
            raise InvalidRequest(f"the data of input '{name}' holds a number too large for {datatype}")
        return fitted
    if wanted.kind in "biu" and kind in "iu":
        return to_array(read_tensor(name, array.tolist(), datatype)).reshape(array.shape)
    return array
