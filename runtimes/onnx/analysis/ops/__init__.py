"""The rules for the operators of ONNX and ONNX Runtime. Each module registers its rules when it is imported."""

from . import (  # noqa: F401
    contrib,
    control,
    elementwise,
    indexing,
    ml,
    others,
    pictures,
    products,
    quantized,
    reductions,
    shaping,
)

contrib.register_equivalents()
