"""Learns what requests mean whose JSON differs in nothing but nested lists of numbers, for the compiled path.

It does for dialects with values by name (named_inputs.py) what rest_forms.py, which says why this is right, does for
the Open Inference Protocol: the lists are cut out, and the rest is looked up. Datatypes come from the model here, and
shapes from the nesting, so a form is one of a model, and of the shape of each list.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from gateway.engine.protocol import Engine
from gateway.front.base.body import Headers
from gateway.front.base.dialect import Route, Writer
from gateway.front.base.limits import Limits
from gateway.front.base.named_outputs import are_named
from runtimes.layouts import TensorLayout, new_layout


class NestedForm(NamedTuple):
    """What requests with one form have in common.

    layout     of the inputs, in the order of their lists
    instances  the number of rows, if the request has "instances"; otherwise 0
    has_names  whether an answer has the name of its output even if it has only one
    writer     writes an answer
    """

    layout: TensorLayout
    priority: int
    instances: int
    has_names: bool
    writer: Writer


def learn(
    engine: Engine, limits: Limits, route: Route, headers: Headers, pieces: Sequence[bytes], lists: Sequence[bytes]
) -> NestedForm | None:
    """Return the form of a request whose body has these lists, each after one of `pieces`, of which one comes last.

    Return None if the lists are not exactly the values of its inputs, or if anything else may differ between requests
    with the same pieces.
    """
    try:
        request, writer = route.dialect.read(engine, limits, route, headers, _joined(pieces, lists))
        status = engine.model(request.model, request.version)
        signature = status.signature(request.signature)
    except Exception:  # the request is read again, and its error answered
        return None
    if (request.model, request.version) != (route.model, route.version) or request.deadline is not None:
        return None
    # A datatype that is not declared follows from the values.
    if signature is None or not all(spec.datatype for spec in signature.inputs):
        return None
    key = _key_of_values(pieces, lists)
    if key is None or len(request.inputs) != len(lists):
        return None
    instances = request.inputs[0].shape[0] if key == "instances" else 0
    layout = new_layout(request.signature, request.outputs, request.inputs)
    return NestedForm(layout, request.priority, instances, are_named(status, request), writer)


def _key_of_values(pieces: Sequence[bytes], lists: Sequence[bytes]) -> str | None:
    """Return "inputs" or "instances" if its values are exactly the lists, in their order.

    They are if other values in their places change it, and nothing else: lists become numbers.
    """
    try:
        document = orjson.loads(_joined(pieces, lists))
        holes = orjson.loads(_joined(pieces, [b"%d" % number for number in range(len(lists))]))
    except orjson.JSONDecodeError:  # it has NaN, for example
        return None
    key = "instances" if document.get("instances") is not None else "inputs"
    values = holes.get(key)
    expected: Any = 0
    if isinstance(values, dict):
        if not set(map(type, values.values())) <= {int}:
            return None
        expected = {name: number for number, name in enumerate(values)}
    count = len(expected) if isinstance(values, dict) else 1
    return key if count == len(lists) and holes == {**document, key: expected} else None


def _joined(pieces: Sequence[bytes], lists: Sequence[bytes]) -> bytes:
    return b"".join([part for pair in zip(pieces, [*lists, b""], strict=True) for part in pair])
