"""Each module adds what it covers to the registry."""

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
