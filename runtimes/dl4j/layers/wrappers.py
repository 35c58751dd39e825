"""Layers that change nothing in inference but hold one that does."""

from ..context import TranslationContext
from ..registry import LAYERS, covers, takes_inner, translate_inner
from ..values import Value


@covers(LAYERS, "FrozenLayer", source="layers/FrozenLayer", shown="computed", takes=takes_inner("layer"))
def frozen(context: TranslationContext) -> Value:
    return translate_inner(context, "layer")


@covers(
    LAYERS,
    "FrozenLayerWithBackprop",
    source="layers/FrozenLayerWithBackprop",
    shown="computed",
    takes=takes_inner("underlying"),
)
def frozen_with_backprop(context: TranslationContext) -> Value:
    return translate_inner(context, "underlying")
