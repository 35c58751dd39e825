"""Rules for what each TensorFlow operator does to the rows. Importing this package registers them."""

from . import (  # noqa: F401
    control,
    elementwise,
    images,
    indexing,
    lists,
    others,
    products,
    reductions,
    shaping,
)
