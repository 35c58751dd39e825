"""Each module adds what it covers to the registry."""

from runtimes.dl4j.layers import (  # noqa: F401
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
