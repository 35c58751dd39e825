"""Converts an output to labels with scores, as configured in model.toml's [postprocess]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.codecs.json_text import numbers
from gateway.codecs.top_k import check_size, largest
from gateway.domain.image_processing import Postprocess
from gateway.domain.types import InferResponse
from gateway.errors import Internal
from runtimes.contract import kind_of
from runtimes.tensors import Tensor, to_array, widened


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class of one row.

    label  "" if the model has none for this index
    score  a value that json_text.dumps can write
    """

    index: int
    label: str
    score: Any


def read_predictions(
    response: InferResponse, postprocess: Postprocess, labels: Mapping[str, Sequence[str]], rows: int
) -> list[list[Prediction]]:
    """Return the best predictions for each row: highest score first, then lowest index.

    Raises TooLarge, and Internal if the output does not have `rows` rows of scores, so that model.toml is wrong.
    """
    tensor = _find_output(response, postprocess.output)
    if tensor.shape[:1] != (rows,) or 0 in tensor.shape or kind_of(tensor.datatype) in ("bool", "bytes"):
        raise Internal(
            f"output '{tensor.name}' is {tensor.datatype} of shape {list(tensor.shape)}, not one row of scores "
            f"for each image; correct [postprocess] in the model's model.toml"
        )
    check_size(tensor)
    scores = widened(to_array(tensor)).reshape(rows, -1)
    if postprocess.softmax:
        scores = _softmax(scores)
    order = largest(scores, min(postprocess.top_k, scores.shape[1]))
    names = labels.get(tensor.name, ())
    return [
        [
            Prediction(index, names[index] if index < len(names) else "", _score(scores[row, index]))
            for index in best.tolist()
        ]
        for row, best in enumerate(order)
    ]


def _find_output(response: InferResponse, name: str) -> Tensor:
    found = [tensor for tensor in response.outputs if name in ("", tensor.name)]
    if len(found) != 1:
        raise Internal(
            f"the model has {len(response.outputs)} outputs, and [postprocess] in its model.toml must name one of them"
        )
    return found[0]


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Return the softmax of each row, computed in FP64, as FP32."""
    with np.errstate(all="ignore"):  # non-finite scores become NaN
        powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
        result: np.ndarray = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def _score(value: np.generic) -> Any:
    return value if np.isfinite(value) else numbers(np.asarray(value))
