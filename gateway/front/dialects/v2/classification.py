"""Triton's classification extension: replaces an output's values by the largest of them with their labels.

The output becomes BYTES, with one string `value:index` or `value:index:label` per class, largest value first. All
values of one row are one list of classes: if the model is batched, the answer has shape [rows, k], otherwise [k]. Of
equal values, the one with the lower index is first; NaN is last.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gateway.codecs.top_k import check_size, largest
from gateway.domain.types import InferResponse, ModelStatus
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest, NotFound, TooLarge
from runtimes.tensors import Tensor, pack_bytes, to_array, widened

# Formatting a string takes about a microsecond, on the event loop.
_MAX_STRINGS = 1 << 15


def read_class_count(output: str, value: Any) -> int:
    """Check the parameter `classification` of a requested output. Raises InvalidRequest."""
    if type(value) is not int or value < 1:
        raise InvalidRequest(f"'classification' of output '{output}' must be a whole number of at least 1")
    return value


def classify(engine: Engine, response: InferResponse, counts: Mapping[str, int]) -> InferResponse:
    """Replace the outputs in `counts` by their classes, as many as it says. Raises InvalidRequest, TooLarge."""
    if not counts:
        return response
    try:
        status = engine.model(response.model, response.version)
    except NotFound:  # it was removed while it computed the answer
        status = ModelStatus(response.model, response.version, "UNLOADING")
    outputs = [
        _classes(tensor, counts[tensor.name], status) if tensor.name in counts else tensor
        for tensor in response.outputs
    ]
    return response._replace(outputs=outputs)


def _classes(tensor: Tensor, count: int, status: ModelStatus) -> Tensor:
    name = tensor.name
    if tensor.datatype == "BYTES":
        raise InvalidRequest(f"output '{name}' is BYTES, which cannot be classified; ask for it as it is")
    check_size(tensor)
    array = widened(to_array(tensor))
    by_row = status.has_rows and array.ndim > status.batch_dim
    rows = np.moveaxis(array, status.batch_dim, 0) if by_row else array[np.newaxis]
    rows = rows.reshape(len(rows), -1) if rows.size else np.empty((len(rows), 0), array.dtype)
    count = min(count, rows.shape[1])
    if len(rows) * count > _MAX_STRINGS:
        raise TooLarge(
            f"output '{name}' would be {len(rows) * count} classes, and at most {_MAX_STRINGS} are returned; "
            "ask for fewer, or send fewer rows"
        )
    chosen = largest(rows, count)
    values = np.take_along_axis(rows, chosen, axis=1)
    strings = _strings(values.ravel().tolist(), chosen.ravel().tolist(), status.class_labels.get(name, ()))
    return Tensor(name, "BYTES", (len(rows), count) if by_row else (count,), pack_bytes(strings))


def _strings(values: Sequence[float], indices: Sequence[int], labels: Sequence[str]) -> list[str]:
    template = "%f:%d" if values and isinstance(values[0], float) else "%d:%d"
    strings = [template % pair for pair in zip(values, indices, strict=True)]
    if not labels:
        return strings
    # The first suffix is for classes beyond the last line of the label file.
    suffixes = ["", *[label and f":{label}" for label in labels]]
    return [
        text + suffixes[index + 1 if index < len(labels) else 0] for text, index in zip(strings, indices, strict=True)
    ]
