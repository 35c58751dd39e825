"""Normalisation, by what training has seen."""

import numpy as np

from ..context import TranslationContext
from ..registry import LAYERS, covers
from ..values import Value

# Of channels. ONNX Runtime makes room for so many more.
_MAX_REACH = 1 << 12


@covers(LAYERS, "BatchNormalization", source="layers/normalization/BatchNormalization", shown="computed")
def batch_normalization(context: TranslationContext) -> Value:
    """Of features, or of images' channels. Its parameters: gamma, beta, mean, and the variance or log10 of its root."""
    settings, value = context.settings, context.input
    size = settings.integer("nOut", least=1)
    gamma, beta = np.ones(size, context.dtype), np.zeros(size, context.dtype)
    if not settings.flag("lockGammaBeta", False):
        gamma, beta = context.take([size], "C"), context.take([size], "C")
    else:
        scale, shift = settings.number("gamma", 1.0), settings.number("beta", 0.0)
        # DL4J's own code leaves both away where one of them does nothing; its MKL-DNN and cuDNN code does not.
        if (scale == 1) != (shift == 0):
            context.refuse(
                "locked to gamma %g and beta %g it computes different things on DL4J's devices" % (scale, shift)
            )
        gamma, beta = gamma * gamma.dtype.type(scale), beta + beta.dtype.type(shift)
    mean, spread = context.take([size], "C"), context.take([size], "C")
    variance = np.square(np.power(10, spread)) if settings.flag("useLogStd", False) else spread
    if len(value.sizes) not in (1, 3):
        context.refuse("batch normalisation of activations of rank %d is not covered" % (len(value.sizes) + 1))
    last = context.flag_of_format("cnn2DFormat", "NCHW", "NHWC") and len(value.sizes) == 3
    first = context.channels_first(value, last)
    if first.sizes[0] not in (size, -1):
        context.refuse("it takes %d channels, and gets %d" % (size, first.sizes[0]))
    constants = [context.constant(each) for each in (gamma, beta, mean, variance)]
    name = context.emit("BatchNormalization", first.name, *constants, epsilon=settings.number("eps", 1e-5))
    return context.channels_back(context.value(name, [size, *first.sizes[1:]], first), last)


@covers(
    LAYERS, "LocalResponseNormalization", source="layers/normalization/LocalResponseNormalization", shown="computed"
)
def local_response(context: TranslationContext) -> Value:
    """x / (k + alpha * sum of squares)^beta, the sum over half of n channels to either side."""
    settings = context.settings
    last = context.flag_of_format("dataFormat", "NCHW", "NHWC")
    value = context.channels_first(context.of(3), last)
    reach = 2 * int(settings.number("n", 5) / 2) + 1
    if not 0 < reach <= _MAX_REACH:
        context.refuse("its field 'n' is %g" % settings.number("n"))
    name = context.emit(
        "LRN",
        value.name,
        size=reach,
        alpha=settings.number("alpha", 1e-4) * reach,  # ONNX divides it by the size
        beta=settings.number("beta", 0.75),
        bias=settings.number("k", 2.0),
    )
    return context.channels_back(context.value(name, value.sizes, value), last)
