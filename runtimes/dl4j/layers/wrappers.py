"""Layers that wrap another layer and have no effect of their own in inference."""

from ..context import TranslationContext
from ..registry import LAYERS, covers, infer_inner_input, translate_inner
from ..values import Value


@covers(LAYERS, "FrozenLayer", source="layers/FrozenLayer", evidence="computed", infer_input=infer_inner_input("layer"))
def frozen(context: TranslationContext) -> Value:
    return translate_inner(context, "layer")


@covers(
    LAYERS,
    "FrozenLayerWithBackprop",
    source="layers/FrozenLayerWithBackprop",
    evidence="computed",
    infer_input=infer_inner_input("underlying"),
)
def frozen_with_backprop(context: TranslationContext) -> Value:
    return translate_inner(context, "underlying")
