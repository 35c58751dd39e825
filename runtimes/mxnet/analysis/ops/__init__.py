"""Rules for what each MXNet operator does to the rows. Importing this package registers them."""

from . import (  # noqa: F401
    elementwise,
    images,
    indexing,
    layers,
    products,
    reductions,
    shaping,
)
