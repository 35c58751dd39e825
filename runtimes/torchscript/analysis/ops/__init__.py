"""What each of PyTorch's operators does to the rows. Each module registers its rules."""

from . import (  # noqa: F401
    attention,
    control,
    elementwise,
    indexing,
    lists,
    making,
    memory,
    numbers,
    pictures,
    products,
    reductions,
    rows,
    scattering,
    shaping,
)
