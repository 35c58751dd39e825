"""Normalization layers."""

import numpy as np

from ..context import TranslationContext
from ..registry import LAYERS, covers
from ..values import Value

# Number of channels in LocalResponseNormalization's window. ONNX Runtime allocates that many additional channels.
_MAX_REACH = 1 << 12


@covers(LAYERS, "BatchNormalization", source="layers/normalization/BatchNormalization", evidence="computed")
def batch_normalization(context: TranslationContext) -> Value:
    """Normalizes features or the channels of images.

    The parameters are gamma, beta (unless they are locked), the mean, and the variance or, with `useLogStd`, the
    base-10 logarithm of the standard deviation.
    """
    settings, value = context.settings, context.input
    size = settings.integer("nOut", minimum=1)
    gamma, beta = np.ones(size, context.dtype), np.zeros(size, context.dtype)
    if not settings.flag("lockGammaBeta", False):
        gamma, beta = context.take([size], "C"), context.take([size], "C")
    else:
        scale, shift = settings.number("gamma", 1.0), settings.number("beta", 0.0)
        # DL4J's built-in code ignores both if one of them has no effect; its MKL-DNN and cuDNN code does not.
        if (scale == 1) != (shift == 0):
            context.refuse(
                "with gamma locked to %g and beta to %g, DL4J's own implementations compute different results"
                % (scale, shift)
            )
        gamma, beta = gamma * gamma.dtype.type(scale), beta + beta.dtype.type(shift)
    mean, spread = context.take([size], "C"), context.take([size], "C")
    variance = np.square(np.power(10, spread)) if settings.flag("useLogStd", False) else spread
    if len(value.sizes) not in (1, 3):
        context.refuse("batch normalization of activations of rank %d is not covered" % (len(value.sizes) + 1))
    last = context.channels_last("cnn2DFormat", "NCHW", "NHWC") and len(value.sizes) == 3
    first = context.channels_first(value, last)
    if first.sizes[0] not in (size, -1):
        context.refuse("it expects %d channels but gets %d" % (size, first.sizes[0]))
    constants = [context.constant(each) for each in (gamma, beta, mean, variance)]
    name = context.emit("BatchNormalization", first.name, *constants, epsilon=settings.number("eps", 1e-5))
    return context.restore_channels(context.value(name, [size, *first.sizes[1:]], first), last)


@covers(
    LAYERS, "LocalResponseNormalization", source="layers/normalization/LocalResponseNormalization", evidence="computed"
)
def local_response(context: TranslationContext) -> Value:
    """x / (k + alpha * sum of squares)^beta, where the sum is over n/2 channels to either side."""
    settings = context.settings
    last = context.channels_last("dataFormat", "NCHW", "NHWC")
    value = context.channels_first(context.checked_input(3), last)
    reach = 2 * int(settings.number("n", 5) / 2) + 1
    if not 0 < reach <= _MAX_REACH:
        context.refuse("its field 'n' is %g, and must be from 0 to %d" % (settings.number("n"), _MAX_REACH))
    name = context.emit(
        "LRN",
        value.name,
        size=reach,
        alpha=settings.number("alpha", 1e-4) * reach,  # ONNX divides alpha by the size, DL4J does not
        beta=settings.number("beta", 0.75),
        bias=settings.number("k", 2.0),
    )
    return context.restore_channels(context.value(name, value.sizes, value), last)
