"""Checks lengths and indices that MXNet does not check, before a model runs.

For a length or an index outside a tensor, these operators read or write adjacent memory: an answer would contain other
memory of the process, or the process would crash. MXNet checks the indices of `gather_nd`, but not for NaN. Other
operators have a defined result (`take` and `Embedding` clip indices).
"""

import ast
import json
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

import mxnet as mx
import numpy as np

from runtimes.contract import InvalidInput

_MIN_LENGTHS = {"SequenceLast": 1, "SequenceReverse": 0, "SequenceMask": 0, "softmax": 0}
# The first number of each of their regions is the index of its image.
_REGIONS = (
    "ROIPooling",
    "_contrib_DeformablePSROIPooling",
    "_contrib_PSROIPooling",
    "_contrib_ROIAlign",
    "_contrib_RROIAlign",
)
_OTHERS = ("gather_nd", "scatter_nd")
# Which of their inputs are the indices, and whether an index may be the one behind the last element.
_EDITS = {"_npi_insert_tensor": (2, 1), "_npi_delete": (1, 0)}
_MAX_LENGTH = 1 << 30


class _Use(NamedTuple):
    """One use of such an operator.

    data     symbol of the tensor that is accessed
    numbers  symbol of the lengths or indices
    """

    operator: str
    attributes: Dict[str, str]
    data: Any
    numbers: Any


class BoundsChecker:
    """Checks all uses of such operators in one model."""

    def __init__(self, symbol: Any, context: Any, parameters: Dict[str, Any], aux: Dict[str, Any]) -> None:
        self._context, self._parameters, self._aux = context, parameters, aux
        self._uses = list(_uses(symbol))

    def check(self, arrays: Dict[str, np.ndarray]) -> None:
        """Check a request, given its inputs by name. Raises InvalidInput for an access outside a tensor."""
        for use in self._uses:
            invalid = _invalid_number(use, self._computed(use.numbers, arrays), self._shape(use.data, arrays))
            if invalid is not None:
                raise InvalidInput("%s gets %g, which is outside of its tensor" % (use.operator, invalid))

    def _computed(self, symbol: Any, arrays: Dict[str, np.ndarray]) -> np.ndarray:
        if symbol.name in arrays:
            return arrays[symbol.name]
        inputs = {name: mx.nd.array(array, self._context, array.dtype) for name, array in arrays.items()}
        arguments = {name: {**self._parameters, **inputs}[name] for name in symbol.list_arguments()}
        aux = {name: self._aux[name] for name in symbol.list_auxiliary_states()}
        return symbol.bind(self._context, arguments, aux_states=aux).forward(is_train=False)[0].asnumpy()

    def _shape(self, symbol: Any, arrays: Dict[str, np.ndarray]) -> Tuple[int, ...]:
        known = {name: array.shape for name, array in {**self._parameters, **arrays}.items()}
        return symbol.infer_shape(**{name: known[name] for name in symbol.list_arguments()})[1][0]


def _uses(symbol: Any) -> Iterator[_Use]:
    internals = symbol.get_internals()
    for node in json.loads(symbol.tojson())["nodes"]:
        operator, attributes = node["op"], node.get("attrs", {})
        uses_lengths = attributes.get("use_length" if operator == "softmax" else "use_sequence_length", "False")
        if operator in _MIN_LENGTHS and uses_lengths not in ("True", "1"):
            continue
        position = _EDITS[operator][0] if operator in _EDITS else 1
        if operator in _MIN_LENGTHS or operator in _REGIONS or operator in _OTHERS or operator in _EDITS:
            inputs = list(internals[node["name"] + "_output"].get_children())
            if len(inputs) > position:  # `_npi_delete` may have a number in place of indices, which is checked by MXNet
                yield _Use(operator, attributes, inputs[0], inputs[position])


def _invalid_number(use: _Use, numbers: np.ndarray, shape: Tuple[int, ...]) -> Optional[float]:
    """Return the first number that is outside the tensor of this shape; None if there is none."""
    if use.operator in _MIN_LENGTHS:
        size = shape[int(use.attributes.get("axis", "-1" if use.operator == "softmax" else "0"))]
        # A length beyond the end is safe for SequenceMask: it masks nothing.
        return _outside(numbers, _MIN_LENGTHS[use.operator], _MAX_LENGTH if use.operator == "SequenceMask" else size)
    if use.operator in _REGIONS:
        # ROIAlign answers zeros for a negative index, with which detectors fill up their regions.
        return _outside(numbers[:, 0], -_MAX_LENGTH if use.operator == "_contrib_ROIAlign" else 0, shape[0] - 1)
    if use.operator in _EDITS:
        axis = ast.literal_eval(use.attributes.get("axis", "None"))
        size = int(np.prod(shape)) if axis is None else shape[axis]
        return _outside(numbers, -size, size - 1 + _EDITS[use.operator][1])
    if use.operator == "gather_nd":  # MXNet refuses all other numbers itself
        return float("nan") if np.isnan(numbers).any() else None
    sizes = ast.literal_eval(use.attributes["shape"])
    found = [_outside(index, 0, size - 1) for index, size in zip(numbers, sizes)]
    return next((each for each in found if each is not None), None)


def _outside(numbers: np.ndarray, minimum: int, maximum: int) -> Optional[float]:
    """Return the first number outside a range; None if there is none."""
    truncated = np.trunc(numbers)  # as MXNet does; NaN is outside every range
    outside = ~((truncated >= minimum) & (truncated <= maximum))
    return float(numbers[outside].flat[0]) if outside.any() else None
