"""The translations of all layers. Importing this package registers them."""

from . import (  # noqa: F401
    attention,
    convolution,
    feedforward,
    normalization,
    pooling,
    preprocessors,
    recurrent,
    resizing,
    vertices,
    wrappers,
)
