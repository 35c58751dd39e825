"""Triton's generate extension: inputs are keys of a JSON object, without datatypes or shapes, and so are outputs.

`generate` has one answer. `generate_stream` has any number, each a server-sent event.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from gateway.codecs.json_tensors import guess_tensor, json_values, read_tensor
from gateway.codecs.json_text import dumps, loads
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest
from gateway.front.base.body import Headers
from gateway.front.base.dialect import EVENTS, Dialect, Reply, Route
from gateway.front.base.limits import LARGE_JSON, Limits, check_answer, check_json_answer
from gateway.front.base.named_inputs import find_signature
from gateway.front.base.parameters import read_options
from runtimes.contract import TensorSpec
from runtimes.tensors import Buffer, Tensor

_PARAMETERS = (str, int, float, bool)


def read_request(engine: Engine, model: str, version: str, body: Buffer) -> InferRequest:
    """Read a request. Raises InvalidRequest, NotFound, Unavailable.

    A key that is no input is a parameter, and a parameter that is an input's name is that input, as in Triton.
    """
    document = loads(body)
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object with the model's inputs as keys")
    nested = document.get("parameters")
    if nested is None:
        nested = {}
    elif not isinstance(nested, dict):
        raise InvalidRequest("'parameters' must be an object")
    given = {**nested, **{name: value for name, value in document.items() if name != "parameters"}}
    given = {name: value for name, value in given.items() if value is not None}
    status = engine.model(model, version)
    specs = {spec.name: spec for spec in find_signature(status, _text(given, "signature")).inputs}
    parameters = {name: value for name, value in given.items() if name not in specs}
    for name, value in parameters.items():
        if not isinstance(value, _PARAMETERS):
            raise InvalidRequest(
                f"'{name}' is not an input of model '{model}', and parameters are strings, numbers, true or false"
            )
    request_id = _text(parameters, "id")
    options = read_options({name: value for name, value in parameters.items() if name != "id"})
    inputs = [_tensor(specs[name], value) for name, value in given.items() if name in specs]
    return options.request(model, version, inputs, request_id)


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str):
        raise InvalidRequest(f"'{name}' must be a string")
    return value


def _tensor(spec: TensorSpec, value: Any) -> Tensor:
    """Convert a value, a list or nested lists. Only nested lists show their shape."""
    name, datatype, shape = spec
    is_list = isinstance(value, list)
    if not datatype:
        return guess_tensor(name, value)
    if shape is None or (is_list and any(isinstance(each, list) for each in value)):
        return read_tensor(name, value, datatype)
    return read_tensor(name, value, datatype, _fill(name, shape, len(value) if is_list else 1))


def _fill(name: str, shape: Sequence[int], count: int) -> list[int]:
    """Return the shape for this many values. As in Triton, the last dimension of any size gets what the fixed ones
    leave, and the others get 1. Raises InvalidRequest."""
    fixed, filled = prod([size for size in shape if size != -1]), list(shape)
    left = count // fixed if fixed else 0
    for axis in reversed(range(len(filled))):
        if filled[axis] == -1:
            filled[axis], left = left, 1
    if prod(filled) != count:
        values = "1 value" if count == 1 else f"{count} values"
        raise InvalidRequest(f"input '{name}' has {values}, which do not fill its shape {list(shape)}")
    return filled


def write_answer(response: InferResponse, limits: Limits) -> bytes:
    """Return the JSON of an answer. An output with one element is a value, and any other a flat list."""
    check_answer(response, limits)
    check_json_answer(response.outputs, limits, flat=True)
    names = {"model_name": response.model, "model_version": response.version}
    text = dumps({"id": response.id, **names} if response.id else names)[:-1]
    for tensor in response.outputs:
        values = dumps(json_values(tensor, flat=True))
        if all(size == 1 for size in tensor.shape):
            values = values[1:-1]
        text += b",%b:%b" % (dumps(tensor.name), values)
    return text + b"}"


class OneAnswer:
    """Writes the answer of `generate`. A decoupled model must give exactly one."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._answer = b""

    def add(self, response: InferResponse) -> bytes:
        """Keep an answer that is not the final one. Raises InvalidRequest if it is the second."""
        if self._answer:
            raise _not_one()
        self._answer = write_answer(response, self._limits)
        return b""

    def __call__(self, response: InferResponse) -> Reply:
        if response.outputs:
            self.add(response)
        if not self._answer:
            raise _not_one()
        return Reply(200, [self._answer])


def _not_one() -> InvalidRequest:
    return InvalidRequest(
        "generate expects the model to produce exactly 1 response; use generate_stream for a model that may produce "
        "another number of them"
    )


class Events:
    """Writes the answers of `generate_stream`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def add(self, response: InferResponse) -> bytes:
        return b"data: %b\n\n" % write_answer(response, self._limits)

    def __call__(self, response: InferResponse) -> Reply:
        return Reply(200, [self.add(response) if response.outputs else b""], EVENTS)


def _limit(headers: Headers, limits: Limits) -> tuple[int, str]:
    return limits.json_bytes, "JSON"


def _read_one(
    engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer
) -> tuple[InferRequest, OneAnswer]:
    return read_request(engine, route.model, route.version, body), OneAnswer(limits)


def _read_stream(
    engine: Engine, limits: Limits, route: Route, headers: Headers, body: Buffer
) -> tuple[InferRequest, Events]:
    return read_request(engine, route.model, route.version, body), Events(limits)


def _is_slow(headers: Headers, body: Buffer) -> bool:
    return len(body) >= LARGE_JSON


GENERATE = Dialect(_limit, _read_one, is_slow=_is_slow, takes_many=True)
GENERATE_STREAM = Dialect(_limit, _read_stream, is_slow=_is_slow, takes_many=True)
