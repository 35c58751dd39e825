"""What each operator of TensorFlow does to the rows. Each module registers its rules."""

from . import (  # noqa: F401
    control,
    elementwise,
    indexing,
    lists,
    others,
    pictures,
    products,
    reductions,
    shaping,
)
