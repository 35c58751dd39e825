"""The translations of all layers. Importing this package registers them."""

from . import (  # noqa: F401
    attention,
    convolution,
    detection,
    feedforward,
    local,
    normalization,
    pooling,
    preprocessors,
    recurrent,
    resizing,
    variational,
    vertices,
    wrappers,
)
