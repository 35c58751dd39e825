"""TensorFlow Serving's Classify and Regress: which signatures support them, and how answers are read.

A signature supports them if it has a single input, of datatype BYTES, for serialized tf.Example strings, and

- for Classify, an output `classes` (BYTES [examples, n]) or `scores` (floating point, same shape), or both;
- for Regress, an output `outputs` (floating point, [examples] or [examples, 1]).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gateway.codecs.json_text import dumps, numbers
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.errors import InvalidRequest, TooLarge
from gateway.front.base.limits import MAX_OBJECTS
from gateway.front.base.named_inputs import find_signature
from gateway.front.dialects.tfserving.model_spec import signature_key
from runtimes.contract import Signature, kind_of
from runtimes.tensors import Tensor, to_array, unpack_bytes, widened

PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{method}" for method in ("predict", "classify", "regress"))
# Method → output → kind of its datatype.
_OUTPUT_KINDS: Mapping[str, Mapping[str, str]] = {
    CLASSIFY: {"classes": "bytes", "scores": "float"},
    REGRESS: {"outputs": "float"},
}
_OUTPUT_DESCRIPTIONS = {
    CLASSIFY: "an output 'classes' (BYTES) or 'scores' (floating point)",
    REGRESS: "an output 'outputs' (floating point)",
}


class ExamplesSignature(NamedTuple):
    """A signature for examples: its input, the outputs to request, and its name in the engine."""

    input: str
    outputs: Sequence[str]
    name: str

    def request(
        self, status: ModelStatus, version: str, examples: Tensor, deadline: float | None = None
    ) -> InferRequest:
        return InferRequest(
            status.name, [examples], version, outputs=self.outputs, signature=self.name, deadline=deadline
        )


def supports(signature: Signature, method: str) -> bool:
    """Whether a signature supports `method`, which is CLASSIFY or REGRESS."""
    return _accepts_examples(signature) and bool(_outputs(signature, method))


def find_examples_signature(status: ModelStatus, name: str, method: str) -> ExamplesSignature:
    """Find a signature by the client's name. `method` is CLASSIFY or REGRESS.

    Raises InvalidRequest if the signature does not support it, and Unavailable.
    """
    key = signature_key(status, name)
    signature = find_signature(status, key)
    described = f"signature '{key or status.default_signature}' of model '{status.name}'"
    if not _accepts_examples(signature):
        raise InvalidRequest(
            f"{described} does not accept serialized tf.Example (one input of datatype BYTES); use Predict"
        )
    outputs = _outputs(signature, method)
    if not outputs:
        raise InvalidRequest(f"{described} lacks {_OUTPUT_DESCRIPTIONS[method]}; use Predict")
    return ExamplesSignature(signature.inputs[0].name, outputs, key)


def _accepts_examples(signature: Signature) -> bool:
    return len(signature.inputs) == 1 and signature.inputs[0].datatype == "BYTES"


def _outputs(signature: Signature, method: str) -> list[str]:
    kinds = _OUTPUT_KINDS[method]
    return [spec.name for spec in signature.outputs if kind_of(spec.datatype) == kinds.get(spec.name)]


class Classes(NamedTuple):
    """The labels and scores of each example's classes. Missing labels are "", missing scores 0."""

    labels: Sequence[Sequence[str]]
    scores: np.ndarray

    def to_json(self) -> bytes:
        scores = self.scores if np.isfinite(self.scores).all() else [map(numbers, row) for row in self.scores]
        return dumps({"results": [list(zip(*pair, strict=True)) for pair in zip(self.labels, scores, strict=True)]})


def read_classes(response: InferResponse, examples: int, class_labels: Mapping[str, Sequence[str]]) -> Classes:
    """Read an answer to Classify. `class_labels`, by output, are used if it has no `classes`.

    Raises InvalidRequest, TooLarge.
    """
    outputs = {tensor.name: tensor for tensor in response.outputs}
    for tensor in outputs.values():
        if len(tensor.shape) != 2 or tensor.shape[0] != examples:
            raise _wrong_output(tensor, f"[{examples}, classes]")
        if kind_of(tensor.datatype) != _OUTPUT_KINDS[CLASSIFY].get(tensor.name):
            raise _wrong_output(tensor, f"[{examples}, classes]")
    if len({tensor.shape for tensor in outputs.values()}) > 1:
        raise InvalidRequest("the outputs 'classes' and 'scores' have different shapes; use Predict")
    shape = next(iter(outputs.values())).shape
    if shape[0] * shape[1] > MAX_OBJECTS:
        raise TooLarge(
            f"the answer has {shape[1]} classes for each of {shape[0]} examples, over the limit of {MAX_OBJECTS} "
            "in all; send fewer examples, or use Predict"
        )
    scores = widened(to_array(outputs["scores"])) if "scores" in outputs else np.zeros(shape, np.float32)
    if "classes" not in outputs:
        names = [*class_labels.get("scores", ())[: shape[1]]]
        return Classes([names + [""] * (shape[1] - len(names))] * examples, scores)
    flat = [raw.decode(errors="replace") for raw in unpack_bytes(outputs["classes"].data, shape[0] * shape[1])]
    return Classes([flat[row * shape[1] : (row + 1) * shape[1]] for row in range(examples)], scores)


def read_regressions(response: InferResponse, examples: int) -> np.ndarray:
    """Read an answer to Regress: one value per example. Raises InvalidRequest."""
    (tensor,) = response.outputs
    if tensor.shape not in ((examples,), (examples, 1)) or kind_of(tensor.datatype) != "float":
        raise _wrong_output(tensor, f"[{examples}]")
    return widened(to_array(tensor)).reshape(-1)


def regressions_json(values: np.ndarray) -> bytes:
    return dumps({"results": numbers(values)})


def _wrong_output(tensor: Tensor, expected: str) -> InvalidRequest:
    return InvalidRequest(
        f"output '{tensor.name}' is {tensor.datatype} {list(tensor.shape)}, but must be {expected}; use Predict"
    )
