"""Layers that change nothing in inference but hold one that does."""

from ..registry import LAYERS, covers, takes_inner, translate_inner
from ..site import Site
from ..values import Value


@covers(LAYERS, "FrozenLayer", source="layers/FrozenLayer", shown="computed", takes=takes_inner("layer"))
def frozen(site: Site) -> Value:
    return translate_inner(site, "layer")


@covers(
    LAYERS,
    "FrozenLayerWithBackprop",
    source="layers/FrozenLayerWithBackprop",
    shown="computed",
    takes=takes_inner("underlying"),
)
def frozen_with_backprop(site: Site) -> Value:
    return translate_inner(site, "underlying")
