"""What each operator of MXNet does to the rows. Each module registers its rules."""

from . import (  # noqa: F401
    elementwise,
    indexing,
    layers,
    images,
    products,
    reductions,
    shaping,
)
