"""What each operator of ONNX, and of ONNX Runtime's own, does to the rows. Each module registers its rules."""

from . import (  # noqa: F401
    contrib,
    control,
    elementwise,
    indexing,
    ml,
    others,
    pictures,
    products,
    reductions,
    shaping,
)

contrib.register_alike()
