"""What MXNet computes without a look at whether it can: checked before a model runs.

These operators read or write whatever lies beside a tensor in memory for a length or an index that is not within it:
an answer would hold other memory of the process, or the process would end. What other operators do beyond their tensors
is defined (`take` and `Embedding` clip), or MXNet refuses it itself (`gather_nd`).
"""

import ast
import json
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

import mxnet as mx
import numpy as np

from runtimes.contract import InvalidInput

_MIN_LENGTHS = {"SequenceLast": 1, "SequenceReverse": 0, "SequenceMask": 0}
_OTHERS = ("ROIPooling", "scatter_nd")
_MAX_LENGTH = 1 << 30


class _Use(NamedTuple):
    """data and numbers: the tensors, as symbols; attributes: the operator's."""

    operator: str
    attributes: Dict[str, str]
    data: Any
    numbers: Any


class Unsafe:
    """The uses of such operators in one model."""

    def __init__(self, symbol: Any, context: Any, parameters: Dict[str, Any], aux: Dict[str, Any]) -> None:
        self._context, self._parameters, self._aux = context, parameters, aux
        self._uses = list(_uses(symbol))

    def check(self, arrays: Dict[str, np.ndarray]) -> None:
        """arrays: the model's inputs by name. Raises InvalidInput for what lies beyond a tensor."""
        for use in self._uses:
            wrong = _wrong(use, self._computed(use.numbers, arrays), self._shape(use.data, arrays))
            if wrong is not None:
                raise InvalidInput("%s gets %g, which is outside of its tensor" % (use.operator, wrong))

    def _computed(self, symbol: Any, arrays: Dict[str, np.ndarray]) -> np.ndarray:
        if symbol.name in arrays:
            return arrays[symbol.name]
        given = {name: mx.nd.array(array, self._context, array.dtype) for name, array in arrays.items()}
        arguments = {name: {**self._parameters, **given}[name] for name in symbol.list_arguments()}
        aux = {name: self._aux[name] for name in symbol.list_auxiliary_states()}
        return symbol.bind(self._context, arguments, aux_states=aux).forward(is_train=False)[0].asnumpy()

    def _shape(self, symbol: Any, arrays: Dict[str, np.ndarray]) -> Tuple[int, ...]:
        known = {name: array.shape for name, array in {**self._parameters, **arrays}.items()}
        return symbol.infer_shape(**{name: known[name] for name in symbol.list_arguments()})[1][0]


def _uses(symbol: Any) -> Iterator[_Use]:
    internals = symbol.get_internals()
    for node in json.loads(symbol.tojson())["nodes"]:
        operator, attributes = node["op"], node.get("attrs", {})
        if operator in _MIN_LENGTHS and attributes.get("use_sequence_length", "False") not in ("True", "1"):
            continue
        if operator in _MIN_LENGTHS or operator in _OTHERS:
            data, numbers = list(internals[node["name"] + "_output"].get_children())
            yield _Use(operator, attributes, data, numbers)


def _wrong(use: _Use, numbers: np.ndarray, data: Tuple[int, ...]) -> Optional[float]:
    """The first number that is not within what it stands for."""
    if use.operator in _MIN_LENGTHS:
        size = data[int(use.attributes.get("axis", "0"))]
        # A mask from beyond the end on masks nothing.
        return _first(numbers, _MIN_LENGTHS[use.operator], _MAX_LENGTH if use.operator == "SequenceMask" else size)
    if use.operator == "ROIPooling":  # of each region, the picture that it lies in
        return _first(numbers[:, 0], 0, data[0] - 1)
    sizes = ast.literal_eval(use.attributes["shape"])
    found = [_first(index, 0, size - 1) for index, size in zip(numbers, sizes)]
    return next((each for each in found if each is not None), None)


def _first(numbers: np.ndarray, least: int, most: int) -> Optional[float]:
    whole = np.trunc(numbers)  # as MXNet takes them; NaN is within nothing
    wrong = ~((whole >= least) & (whole <= most))
    return float(numbers[wrong].flat[0]) if wrong.any() else None
