"""What each operator of TensorFlow Lite does to the rows. Each module registers its rules."""

from . import (  # noqa: F401
    control,
    elementwise,
    indexing,
    others,
    images,
    products,
    recurrent,
    reductions,
    shaping,
)
