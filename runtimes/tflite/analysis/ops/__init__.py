"""Rules for what each TensorFlow Lite operator does to the rows. Importing this package registers them."""

from . import (  # noqa: F401
    control,
    elementwise,
    images,
    indexing,
    others,
    products,
    recurrent,
    reductions,
    shaping,
)
