"""The rules for PyTorch's operators. Each module registers its rules when it is imported."""

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
