"""TensorFlow Serving's :predict over REST.

    {"instances": [[1, 2], [3, 4]]}   rows    -> {"predictions": [[5], [6]]}
    {"inputs": {"x": [[1, 2]]}}       columns -> {"outputs": [[5]]}

A request may also have "signature_name"; other keys are ignored, as by TensorFlow Serving. Several outputs are objects:
one per row, or one with all columns. Strings of outputs whose name ends in _bytes are {"b64": "…"}.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gateway.codecs.json_tensors import json_values
from gateway.codecs.json_text import dumps, loads, numbers, without_nulls
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.errors import InvalidRequest, TooLarge
from gateway.front.base.limits import MAX_OBJECTS, Limits, check_json_answer
from gateway.front.base.named_inputs import find_signature, read_inputs
from gateway.front.dialects.tfserving.model_spec import signature_key
from runtimes.tensors import Buffer, Tensor, to_array, widened


def read_object(body: Buffer) -> dict[str, Any]:
    """Parse a body that must be an object. Raises InvalidRequest."""
    document = loads(body)
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    document = without_nulls(document)
    if not isinstance(document.get("signature_name", ""), str):
        raise InvalidRequest("'signature_name' must be a string, the name of one of the model's signatures")
    return document


def read_request(status: ModelStatus, version: str, body: Buffer) -> tuple[InferRequest, int | None]:
    """Return the request and its number of instances, which is None for columns. Raises InvalidRequest, Unavailable."""
    document = read_object(body)
    key = signature_key(status, document.get("signature_name", ""))
    inputs = read_inputs(document, status, find_signature(status, key))
    instances = len(document["instances"]) if "instances" in document else None
    return InferRequest(status.name, inputs, version, signature=key), instances


def write_response(response: InferResponse, instances: int | None, limits: Limits, has_names: bool = False) -> bytes:
    """Write an answer to `instances` rows, or to columns if it is None.

    has_names  whether an only output has its name

    Raises InvalidRequest if the outputs do not have that many rows, and TooLarge.
    """
    outputs = response.outputs
    check_json_answer(outputs, limits)
    if instances is not None:
        _check_rows(outputs, instances)
        if len(outputs) == 1 and not has_names:
            return dumps({"predictions": _values(outputs[0])})
        names = [tensor.name for tensor in outputs]
        rows = zip(*[_rows(tensor) for tensor in outputs], strict=True)
        return dumps({"predictions": [dict(zip(names, row, strict=True)) for row in rows]})
    if len(outputs) == 1 and not has_names:
        return dumps({"outputs": _values(outputs[0])})
    return dumps({"outputs": {tensor.name: _values(tensor) for tensor in outputs}})


def answer_texts(names: Sequence[str], has_instances: bool) -> tuple[list[bytes], bytes] | None:
    """Return what `write_response` writes before the values of each output, and after those of the last.

    Return None if it does not write the values of each output together.
    """
    if len(names) == 1:
        return [b'{"predictions":' if has_instances else b'{"outputs":'], b"}"
    if has_instances:
        return None
    return [(b"," if number else b'{"outputs":{') + dumps(name) + b":" for number, name in enumerate(names)], b"}}"


def _values(tensor: Tensor) -> Any:
    return json_values(tensor, binary=tensor.name.endswith("_bytes"))


def _rows(tensor: Tensor) -> Iterator[Any]:
    """Yield each row as an object that `dumps` can write."""
    if tensor.datatype == "BYTES":
        return iter(_values(tensor))
    array = widened(to_array(tensor))
    if array.size and (array.dtype.kind != "f" or np.isfinite(array).all()):
        return iter(array)
    return map(numbers, array)


def _check_rows(outputs: Sequence[Tensor], instances: int) -> None:
    """Check that each row belongs to one instance. A single instance may have any number, as in TensorFlow Serving."""
    if not outputs:
        raise InvalidRequest("the answer has no outputs, so it has no rows; send 'inputs' instead of 'instances'")
    first = outputs[0]
    for tensor in outputs:
        if not tensor.shape:
            raise InvalidRequest(f"output '{tensor.name}' has no rows; send 'inputs' instead of 'instances'")
        if tensor.shape[0] != first.shape[0]:
            raise InvalidRequest(
                f"output '{tensor.name}' has {tensor.shape[0]} rows, and '{first.name}' has {first.shape[0]}; "
                "send 'inputs' instead of 'instances'"
            )
    if instances > 1 and first.shape[0] != instances:
        raise InvalidRequest(
            f"output '{first.name}' has {first.shape[0]} rows for {instances} instances, so it does not say which is "
            "whose; send 'inputs' instead of 'instances', or each instance alone"
        )
    values = len(outputs) * first.shape[0]
    if len(outputs) > 1 and values > MAX_OBJECTS:
        raise TooLarge(
            f"the answer has {first.shape[0]} rows of {len(outputs)} outputs, over the limit of {MAX_OBJECTS} "
            "values in rows; send 'inputs' instead of 'instances', or fewer rows"
        )
