"""Converts the examples of TensorFlow Serving's Classify and Regress to serialized tf.Example strings."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.codecs.json_tensors import decode_binary
from gateway.errors import InvalidRequest, TooLarge
from gateway.front.base.limits import MAX_OBJECTS
from gateway.generated import tensorflow_pb2 as tf
from gateway.generated import tensorflow_serving_pb2 as pb
from runtimes.tensors import Tensor, pack_bytes

_FLOAT32_OVERFLOW = 3.4028235677973366e38  # from this number on, rounding to a 32-bit float gives infinity


def read_examples(document: Mapping[str, Any], name: str, max_bytes: int) -> Tensor:
    """Convert `{"examples": [{feature: value or list}], "context": {…}}` to BYTES [examples] for the input `name`.

    Whole numbers and booleans become int64 features, numbers with a fraction float, and strings and {"b64": "…"} bytes.
    Raises InvalidRequest, TooLarge.
    """
    examples = document.get("examples")
    if not isinstance(examples, list):
        raise InvalidRequest("'examples' must be a list of objects, each with a value or a list for each feature")
    context = document.get("context", {})
    if not isinstance(context, dict):
        raise InvalidRequest("'context' must be an object with a value or a list for each feature")
    _check_count(len(examples))
    for index, example in enumerate(examples):
        if not isinstance(example, dict):
            raise InvalidRequest(f"examples[{index}] must be an object with a value or a list for each feature")
        for feature in example.keys() & context.keys():
            raise InvalidRequest(
                f"examples[{index}] has the feature '{feature}', which is also in the context; send it once"
            )
    count = sum(map(len, examples))
    if count > MAX_OBJECTS:
        raise TooLarge(f"the examples have {count} features, over the limit of {MAX_OBJECTS}; send fewer examples")
    return _pack(name, [_example(example) for example in examples], _example(context), max_bytes)


def read_input(message: pb.Input, name: str, max_bytes: int) -> Tensor:
    """Convert the examples of a protobuf message in the same way. Raises InvalidRequest, TooLarge."""
    kind = message.WhichOneof("kind")
    if kind is None:
        raise InvalidRequest("the request has no input; fill example_list or example_list_with_context")
    filled = getattr(message, kind)
    _check_count(len(filled.examples))
    context = filled.context.SerializeToString() if kind == "example_list_with_context" else b""
    return _pack(name, [example.SerializeToString() for example in filled.examples], context, max_bytes)


def _check_count(count: int) -> None:
    if not count:
        raise InvalidRequest("there are no examples; send at least one")
    if count > MAX_OBJECTS:
        raise TooLarge(f"there are {count} examples, over the limit of {MAX_OBJECTS}; send fewer in one request")


def _pack(name: str, examples: Sequence[bytes], context: bytes, max_bytes: int) -> Tensor:
    """Prepend the context to each example, as bytes.

    Concatenated protobuf messages merge into one (protobuf encoding guide, "Last One Wins").
    """
    size = len(context) * len(examples) + sum(map(len, examples))
    if size > max_bytes:
        raise TooLarge(
            f"the examples, each with the context, have {size} bytes, over the limit of {max_bytes}; "
            "send fewer in one request"
        )
    return Tensor(name, "BYTES", (len(examples),), pack_bytes([context + example for example in examples]))


def _example(features: Mapping[str, Any]) -> bytes:
    example = tf.Example()
    for name, value in features.items():
        _fill(example.features.feature[name], name, value if isinstance(value, list) else [value])
    raw: bytes = example.SerializeToString()
    return raw


def _fill(feature: tf.Feature, name: str, values: list[Any]) -> None:
    if not values:
        return  # without a kind, so the model uses its default
    kinds = set(map(type, values))
    if kinds <= {int, bool}:
        try:
            feature.int64_list.value.extend(map(int, values))
        except ValueError:
            raise InvalidRequest(f"feature '{name}' holds an integer that does not fit into 64 bits") from None
    elif kinds <= {int, float}:
        if any(_FLOAT32_OVERFLOW <= abs(value) < float("inf") for value in values):
            raise InvalidRequest(f"feature '{name}' holds a number too large for a 32-bit float")
        feature.float_list.value.extend(values)
    elif kinds <= {str, dict}:
        feature.bytes_list.value.extend(_bytes(name, value) for value in values)
    else:
        raise InvalidRequest(
            f'feature \'{name}\' must be a number, a string, true or false, {{"b64": "…"}}, or a list of one of these'
        )


def _bytes(name: str, value: str | dict[str, Any]) -> bytes:
    if isinstance(value, str):
        return value.encode()
    decoded = decode_binary(value)
    if decoded is None:
        raise InvalidRequest(f'feature \'{name}\' holds an object that is not {{"b64": "…"}} with valid base64')
    return decoded
