"""Replaces tf2onnx's handlers of integer arithmetic that compute wrong results.

They are those of tf2onnx 1.17.0, the release that runtime.toml pins. It rounds divisions toward zero where TensorFlow
rounds down (FloorDiv, FloorMod), and shifts small or signed integers as if they were unsigned.
"""

from typing import Any, List

import numpy as np
from onnx import TensorProto
from tf2onnx import utils
from tf2onnx.handler import tf_op
from tf2onnx.onnx_opset import math

_FLOATS = (TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE)


def apply() -> None:
    """Make tf2onnx use these handlers in this process."""
    for name, (write, of_floats) in _OPERATORS.items():

        def handler(ctx: Any, node: Any, write: Any = write, of_floats: Any = of_floats, **options: Any) -> None:
            if ctx.get_dtype(node.input[0]) in _FLOATS:
                of_floats(ctx, node, **options)
            else:
                _replace(ctx, node, write)

        tf_op.register_handler(handler, 11, [name], "", {})


def _replace(ctx: Any, node: Any, write: Any) -> None:
    inputs, shapes, dtypes, kind = (
        list(node.input),
        node.output_shapes,
        node.output_dtypes,
        ctx.get_dtype(node.input[0]),
    )
    ctx.remove_node(node.name)
    result = write(ctx, kind, inputs)
    ctx.make_node("Identity", [result], name=node.name, outputs=node.output, shapes=shapes, dtypes=dtypes)


def _made(ctx: Any, operator: str, inputs: List[str], **attributes: Any) -> str:
    return str(ctx.make_node(operator, inputs, attr=attributes).output[0])


def _floor_div(ctx: Any, kind: int, inputs: List[str]) -> str:
    a, b = inputs
    quotient = _made(ctx, "Div", [a, b])
    remainder = _made(ctx, "Sub", [a, _made(ctx, "Mul", [quotient, b])])
    zero = _constant(ctx, kind, 0)
    signs_differ = _made(ctx, "Xor", [_made(ctx, "Less", [remainder, zero]), _made(ctx, "Less", [b, zero])])
    too_large = _made(ctx, "And", [_made(ctx, "Not", [_made(ctx, "Equal", [remainder, zero])]), signs_differ])
    return _made(ctx, "Sub", [quotient, _made(ctx, "Cast", [too_large], to=kind)])


def _floor_mod(ctx: Any, kind: int, inputs: List[str]) -> str:
    return _made(ctx, "Mod", inputs)


def _right_shift(ctx: Any, kind: int, inputs: List[str]) -> str:
    """An arithmetic shift is a division that rounds down. It takes two steps, because 2**63 does not fit into INT64."""
    a, count = inputs
    half = _made(ctx, "Div", [count, _constant(ctx, kind, 2)])
    for part in (half, _made(ctx, "Sub", [count, half])):
        a = _floor_div(ctx, kind, [a, _power(ctx, kind, part)])
    return a


def _left_shift(ctx: Any, kind: int, inputs: List[str]) -> str:
    a, count = inputs
    half = _made(ctx, "Div", [count, _constant(ctx, kind, 2)])
    for part in (half, _made(ctx, "Sub", [count, half])):
        a = _made(ctx, "Mul", [a, _power(ctx, kind, part)])
    return a


def _power(ctx: Any, kind: int, count: str) -> str:
    exponent = _made(ctx, "Cast", [count], to=TensorProto.FLOAT)
    return _made(ctx, "Cast", [_made(ctx, "Pow", [_constant(ctx, TensorProto.FLOAT, 2), exponent])], to=kind)


def _constant(ctx: Any, kind: int, value: int) -> str:
    array = np.array(value, utils.map_onnx_to_numpy_type(kind))
    return str(ctx.make_const(utils.make_name("const"), array).output[0])


_OPERATORS = {
    "FloorDiv": (_floor_div, math.FloorDiv.version_6),
    "FloorMod": (_floor_mod, math.FloorMod.version_7),
    "RightShift": (_right_shift, None),
    "LeftShift": (_left_shift, None),
}
