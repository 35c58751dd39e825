"""TensorFlow Serving's :predict over REST.

    {"instances": [[1, 2], [3, 4]]}   rows    -> {"predictions": [[5], [6]]}
    {"inputs": {"x": [[1, 2]]}}       columns -> {"outputs": [[5]]}

besides "signature_name"; other keys are ignored, as there. Several outputs are objects: one for each
row, or one with all columns. Strings of outputs whose name ends in _bytes are {"b64": "…"}.
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
from runtimes.tensors import Buffer, Tensor, to_array


def read_object(body: Buffer) -> dict[str, Any]:
    """Raises InvalidRequest."""
    document = loads(body)
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    document = without_nulls(document)
    if not isinstance(document.get("signature_name", ""), str):
        raise InvalidRequest("'signature_name' must be a string, the name of one of the model's signatures")
    return document


def read_request(status: ModelStatus, version: str, body: Buffer) -> tuple[InferRequest, int | None]:
    """And how many instances there are; None for columns. Raises InvalidRequest, Unavailable."""
    document = read_object(body)
    key = signature_key(status, document.get("signature_name", ""))
    inputs = read_inputs(document, status, find_signature(status, key))
    instances = len(document["instances"]) if "instances" in document else None
    return InferRequest(status.name, inputs, version, signature=key), instances


def write_response(response: InferResponse, instances: int | None, limits: Limits) -> bytes:
    """Raises InvalidRequest where the outputs are no rows of so many instances, and TooLarge."""
    outputs = response.outputs
    check_json_answer(outputs, limits)
    if instances is not None:
        _check_rows(outputs, instances)
        if len(outputs) == 1:
            return dumps({"predictions": _values(outputs[0])})
        names = [tensor.name for tensor in outputs]
        rows = zip(*[_rows(tensor) for tensor in outputs], strict=True)
        return dumps({"predictions": [dict(zip(names, row, strict=True)) for row in rows]})
    if len(outputs) == 1:
        return dumps({"outputs": _values(outputs[0])})
    return dumps({"outputs": {tensor.name: _values(tensor) for tensor in outputs}})


def _values(tensor: Tensor) -> Any:
    return json_values(tensor, binary=tensor.name.endswith("_bytes"))


def _rows(tensor: Tensor) -> Iterator[Any]:
    """What `dumps` writes as each row."""
    if tensor.datatype == "BYTES":
        return iter(_values(tensor))
    array = to_array(tensor)
    if array.size and (array.dtype.kind != "f" or np.isfinite(array).all()):
        return iter(array)
    return map(numbers, array)


def _check_rows(outputs: Sequence[Tensor], instances: int) -> None:
    """One instance may have any number of predictions, as with TensorFlow Serving: none can be taken for another's."""
    first = outputs[0]
    for tensor in outputs:
        if not tensor.shape:
            raise InvalidRequest(f"output '{tensor.name}' has no rows; send 'inputs' in place of 'instances'")
        if tensor.shape[0] != first.shape[0]:
            raise InvalidRequest(
                f"output '{tensor.name}' has {tensor.shape[0]} rows, and '{first.name}' has {first.shape[0]}; "
                "send 'inputs' in place of 'instances'"
            )
    if instances > 1 and first.shape[0] != instances:
        raise InvalidRequest(
            f"output '{first.name}' has {first.shape[0]} rows for {instances} instances, so it does not say which is "
            "whose; send 'inputs' in place of 'instances', or each instance by itself"
        )
    values = len(outputs) * first.shape[0]
    if len(outputs) > 1 and values > MAX_OBJECTS:
        raise TooLarge(
            f"the answer has {first.shape[0]} rows of {len(outputs)} outputs, over the limit of {MAX_OBJECTS} "
            "values in rows; send 'inputs' in place of 'instances', or fewer rows"
        )
