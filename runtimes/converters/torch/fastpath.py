"""Translates the fast path of PyTorch's transformers, which tracing in eval mode records as a single operator."""

from typing import Any, List

import torch
from torch.onnx._internal.torchscript_exporter import symbolic_helper

from runtimes.conversion import Refused


def _attention(g: Any, query: Any, key: Any, value: Any, *others: Any) -> Any:
    """aten::_native_multi_head_attention: [rows, steps, size] to the same shape, and the attention weights."""
    size, heads, weight, bias, out_weight, out_bias, mask, _, average = others[:9]
    outputs, weights = _heads(g, [query, key, value], size, heads, weight, bias, mask)
    if _constant(average, "b"):
        weights = g.op("ReduceMean", weights, axes_i=[1], keepdims_i=0)
    return _linear(g, outputs, out_weight, out_bias), weights


def _encoder_layer(g: Any, x: Any, *others: Any) -> Any:
    """aten::_transformer_encoder_layer_fwd"""
    size, heads, weight, bias, out_weight, out_bias, gelu, norm_first, epsilon = others[:9]
    norms, (wide, wide_bias, narrow, narrow_bias), mask = (others[9:11], others[11:13]), others[13:17], others[17]
    first = bool(_constant(norm_first, "b"))

    def normed(value: Any, index: int) -> Any:
        return g.op("LayerNormalization", value, *norms[index], epsilon_f=_constant(epsilon, "f"), axis_i=-1)

    y = normed(x, 0) if first else x
    y, _ = _heads(g, [y, y, y], size, heads, weight, bias, mask)
    x = g.op("Add", x, _linear(g, y, out_weight, out_bias))
    x = x if first else normed(x, 0)
    y = _linear(g, normed(x, 1) if first else x, wide, wide_bias)
    y = _gelu(g, y) if _constant(gelu, "b") else g.op("Relu", y)
    x = g.op("Add", x, _linear(g, y, narrow, narrow_bias))
    return x if first else normed(x, 1)


def _heads(g: Any, values: List[Any], size: Any, heads: Any, weight: Any, bias: Any, mask: Any) -> Any:
    """Return the concatenated outputs of the heads, and their weights [rows, heads, steps, steps]."""
    if not symbolic_helper._is_none(mask):
        raise Refused(
            "the model was traced through the fast path of PyTorch's transformers with a mask, which became a single "
            "operator that no converter supports: trace it again after torch.backends.mha.set_fastpath_enabled(False)"
        )
    width, count = _constant(size, "i"), _constant(heads, "i")
    thirds = g.op("Constant", value_t=torch.tensor([width] * 3))
    parts = zip(
        values, g.op("Split", weight, thirds, axis_i=0, outputs=3), g.op("Split", bias, thirds, axis_i=0, outputs=3)
    )
    split_shape = g.op("Constant", value_t=torch.tensor([0, -1, count, width // count]))
    query, key, value = [g.op("Reshape", _linear(g, each, w, b), split_shape) for each, w, b in parts]
    transposed = g.op("Transpose", query, perm_i=[0, 2, 1, 3]), g.op("Transpose", key, perm_i=[0, 2, 3, 1])
    scale = g.op("Constant", value_t=torch.tensor((width // count) ** -0.5))
    weights = g.op("Softmax", g.op("Mul", g.op("MatMul", *transposed), scale), axis_i=-1)
    outputs = g.op("MatMul", weights, g.op("Transpose", value, perm_i=[0, 2, 1, 3]))
    joined_shape = g.op("Constant", value_t=torch.tensor([0, -1, width]))
    return g.op("Reshape", g.op("Transpose", outputs, perm_i=[0, 2, 1, 3]), joined_shape), weights


def _linear(g: Any, x: Any, weight: Any, bias: Any) -> Any:
    return g.op("Add", g.op("MatMul", x, g.op("Transpose", weight, perm_i=[1, 0])), bias)


def _gelu(g: Any, x: Any) -> Any:
    one, half, root = [g.op("Constant", value_t=torch.tensor(each)) for each in (1.0, 0.5, 2.0**-0.5)]
    part = g.op("Add", g.op("Erf", g.op("Mul", x, root)), one)
    return g.op("Mul", g.op("Mul", x, half), part)


def _constant(value: Any, kind: str) -> Any:
    return symbolic_helper._get_const(value, kind, "it")


SYMBOLICS = {
    "aten::_native_multi_head_attention": _attention,
    "aten::_transformer_encoder_layer_fwd": _encoder_layer,
}
